"""What a prediction does beyond scoring: what it abstains from, and where it is watched."""

from pydantic import Field

from cxr.core.settings.base import Strict


class ScopeSettings(Strict):
    """When a prediction abstains, whose threshold it uses, and where it leaves its statistics."""

    scope_rate: float = Field(
        0.01,
        ge=0,
        le=0.5,
        description="Share of images like those of training that may be called out of scope; "
        "images out of scope keep their score and get no prediction. 0 lets every image be "
        "predicted.",
    )
    coverage: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Abstain, too, where the labels that this share of validation images of each "
        "class keeps are both possible, or neither is (conformal prediction), for example 0.9. Off "
        "if not given.",
    )
    strict: bool = Field(
        False,
        description="End with exit status 3 where the images as a whole are not like the training "
        "data.",
    )
    site: str = Field(
        "",
        description="What `cxr site` wrote of a place: its threshold and calibration are used "
        "instead of the model's own.",
    )
    monitor: str = Field(
        "",
        description="A folder (or s3://bucket/prefix), outside every work folder, for statistics "
        "of these images (counts and histograms, no image and no name), for `cxr monitor`.",
    )
