"""An export folder as a model of MLflow: whoever loads it gets what `cxr predict` gives."""

from pathlib import Path
from typing import TYPE_CHECKING

from cxr.core import __version__
from cxr.core.files import file_sha256
from cxr.results.cards.model_card import read_card
from cxr.serving.prediction.rows import COLUMNS
from cxr.serving.tracking.exported_model import NUMBERS
from cxr.serving.tracking.server.connection import Connection

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

CODE = Path(__file__).parents[1] / "templates" / "pyfunc_model.py"
CHECKSUMS = "SHA256SUMS"
EXPORT = "cxr.export"  # the tag with the digest of SHA256SUMS, by which an export is known


def log_export(
    server: Connection,
    export: Path,
    run_id: str | None,
) -> str:
    """Send an export folder as a model, unless the server has it.

    Args:
        server: Where to.
        export: The folder.
        run_id: The id in MLflow of the run that it is of, None for none.

    Returns:
        The id of the model.
    """
    import mlflow.pyfunc
    from mlflow.entities import LoggedModelStatus
    from mlflow.models import Model

    digest = file_sha256(export / CHECKSUMS)
    wanted = f"tags.`{EXPORT}` = '{digest}'"
    for model in server.client.search_logged_models([server.experiment], wanted):
        if model.status == LoggedModelStatus.READY:
            return str(model.model_id)
    card = read_card(export)
    logged = Model.log(
        artifact_path=None,
        name="model",
        flavor=mlflow.pyfunc,
        run_id=run_id,
        tags={EXPORT: digest, "cxr.run": card.run, "cxr.model_sha256": card.model_sha256},
        python_model=str(CODE),
        artifacts={"export": str(export)},
        signature=_signature(),
        pip_requirements=[f"cxr-pipeline=={__version__}"],
        metadata={"threshold": card.threshold, "architecture": card.architecture},
    )
    return str(logged.model_id)


def _signature() -> "ModelSignature":
    """Return what the model takes, and what it gives."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    kinds = {name: DataType.double if name in NUMBERS else DataType.string for name in COLUMNS}
    return ModelSignature(
        # A path, or a file's bytes. It has no name: a list is refused where one is wanted.
        inputs=Schema([ColSpec(AnyType())]),
        outputs=Schema([ColSpec(kind, name) for name, kind in kinds.items()]),
    )
