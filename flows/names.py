"""What a run is called on the UI's page of runs: its flow, the data it is about, the architectures that it trains."""

from pathlib import Path

from prefect.runtime import flow_run

from cxr.core.errors import CxrError
from cxr.core.settings import TrainingSettings
from cxr.data.manifest.records import Ingest
from cxr.storage.addresses import open_storage


def of_data() -> str:
    """Return for example "preprocess chest_xray"; WORK's name where nothing was preprocessed in it."""
    given = flow_run.parameters
    data = given.get("data") or given.get("images") or _preprocessed(given["out"])
    addresses = [data] if isinstance(data, str) else data
    more = f" and {len(addresses) - 1} more" if len(addresses) > 1 else ""
    return f"{flow_run.flow_name.replace('_', ' ')} {Path(addresses[0]).absolute().name}{more}"


def of_training() -> str:
    """Return for example "train models chest_xray, MobileNetV2 VGG16"."""
    settings = flow_run.parameters.get("training") or TrainingSettings()
    return f"{of_data()}, {' '.join(settings.arch)}"


def _preprocessed(out: str) -> str:
    """Return the data that WORK was made from, or WORK: what is wrong with it is for the run itself to say."""
    try:
        return Ingest.parse(open_storage(out).read("ingest.json"), "ingest.json").data
    except (CxrError, OSError):
        return out
