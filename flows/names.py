"""The names of runs in the UI: flow, data set, and the architectures that are trained."""

from pathlib import Path

from prefect.runtime import flow_run

from cxr.core.errors import CxrError
from cxr.core.settings import TrainingSettings
from cxr.data.manifest.records import Ingest
from cxr.storage.addresses import open_storage


def of_data() -> str:
    """Return for example "preprocess chest_xray"; with the work folder's name before preprocessing."""
    parameters = flow_run.parameters
    data = parameters.get("data") or parameters.get("images") or parameters.get("place")
    if not data:
        data = _preprocessed_data(parameters["out"])
    addresses = [data] if isinstance(data, str) else data
    name = f"{flow_run.flow_name.replace('_', ' ')} {Path(addresses[0]).absolute().name}"
    if len(addresses) > 1:
        name += f" and {len(addresses) - 1} more"
    return name


def of_training() -> str:
    """Return for example "train chest_xray, MobileNetV2 VGG16"."""
    settings = flow_run.parameters.get("training") or TrainingSettings()
    return f"{of_data()}, {' '.join(settings.arch)}"


def _preprocessed_data(out: str) -> str:
    """Return the address of the data that a work folder was made from, or the work folder's.

    What is wrong with a work folder is for the run itself to say.
    """
    try:
        return Ingest.parse(open_storage(out).read("ingest.json"), "ingest.json").data
    except (CxrError, OSError):
        return out
