"""How a site is measured: what it is called, what is promised there, how common pneumonia is."""

from pydantic import Field, field_validator

from cxr.core.settings.base import Strict
from cxr.core.settings.splits import SplitSettings


class SiteSettings(Strict):
    """What `cxr site` has to know beside the model and the labelled images."""

    name: str = Field(
        "",
        description="What the site is called; the name of its folder if not given.",
    )
    min_sensitivity: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="The sensitivity that the site's threshold promises; the model's own, in its "
        "card, if not given.",
    )
    prevalence: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="How common pneumonia is where the site's images come from: scores are "
        "corrected for it, if the sample does not speak against what that assumes. Not corrected "
        "if not given.",
    )
    patient_key: str = Field(
        "person+etiology",
        description=SplitSettings.model_fields["patient_key"].description,
    )

    @field_validator("patient_key")
    @classmethod
    def _check_patient_key(cls, key: str) -> str:
        """Refuse what names no rule."""
        return SplitSettings(patient_key=key).patient_key
