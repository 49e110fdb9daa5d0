"""The flow `site` on a Prefect server: the site is written, and its card shown."""

import pytest

from cxr.core.settings import SiteSettings
from cxr.data.phantoms import dataset
from cxr.serving.sites import verify
from tests.flows.test_reading_flows import artifacts
from tests.support import darkness


@pytest.mark.slow
@pytest.mark.usefixtures("api")
def test_the_flow_writes_the_site_and_shows_its_card(finished_work, tmp_path, monkeypatch):
    """One task measures the site, and its page in the UI is the card."""
    from flows.site import site

    darkness.install(monkeypatch)
    data = tmp_path / "data"
    dataset.make_dataset(data, images=90, size=96, seed=3)
    export = next((finished_work / "runs").iterdir()) / "export"
    out = tmp_path / "north"
    found = site(str(export), str(data), str(out), settings=SiteSettings(min_sensitivity=0.8))
    assert found.name == "north" and verify.is_site(out)
    assert "# Site: north" in artifacts("site")[0]
