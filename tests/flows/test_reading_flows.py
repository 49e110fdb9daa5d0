"""How data are read, from the UI: every flag is a field of the form, and what has to be asked is the run's message."""

import asyncio

import pytest
from prefect import get_client
from prefect.utilities.callables import parameter_schema

from cxr.core.settings import FileSettings, ReadingSettings, ScopeSettings, SiteSettings
from tests.data.test_real_folders import fill, tree


@pytest.mark.parametrize(
    ("module", "flow", "parameter", "settings"),
    [
        ("flows.preprocess", "preprocess", "reading", ReadingSettings),
        ("flows.pipeline", "pipeline", "reading", ReadingSettings),
        ("flows.retrain", "retrain", "reading", ReadingSettings),
        ("flows.predict", "predict", "files", FileSettings),
        ("flows.predict", "predict", "scope", ScopeSettings),
        ("flows.site", "site", "reading", ReadingSettings),
        ("flows.site", "site", "settings", SiteSettings),
    ],
)
def test_every_flag_is_a_field_of_the_form_with_its_explanation(module, flow, parameter, settings):
    """The schema from which the UI draws its form has each setting, with the words of --help."""
    called = getattr(__import__(module, fromlist=[flow]), flow)
    schema = parameter_schema(called)
    fields = schema.definitions[settings.__name__]["properties"]
    assert schema.properties[parameter]["description"], "the group is explained"
    assert {name: field["description"] for name, field in fields.items()} == {
        name: field.description for name, field in settings.model_fields.items()
    }


def artifacts(key: str) -> list[str]:
    """Return what the artifacts of this key show, the newest first."""

    async def ask():
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

        async with get_client() as client:
            wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
            return await client.read_artifacts(artifact_filter=wanted)

    found = asyncio.run(ask())
    return [str(one.data) for one in sorted(found, key=lambda one: one.created, reverse=True)]


def test_a_run_that_has_to_ask_fails_at_once_with_the_question(tmp_path, api):
    """The state's message is the sentence of the command line, the page has the account by folder; nothing is made."""
    from flows.preprocess import preprocess

    data = tree(tmp_path / "data", images=10)
    fill(data / "train" / "COVID19", 5)
    state = preprocess(str(data), str(tmp_path / "work"), return_state=True)
    assert state.is_failed() and "train/COVID19 (5 images: unknown_class)" in state.message
    assert "--exclude COVID19" in state.message and not (tmp_path / "work" / "ingest.json").exists()
    assert "train/COVID19" in artifacts("folders")[0]
    found = preprocess(str(data), str(tmp_path / "work"), ReadingSettings(exclude=("COVID19",)))
    assert found.kept == 40 and found.rejected == {"excluded": 5}
    assert "5 excluded" in artifacts("folders")[0]
