"""The model that MLflow loads: its code is this file, its artifact an export folder.

MLflow copies the file into each model and runs the copy when the model is loaded, so it holds as little
as it can; the package does the work, in the version that the model's requirements name.
"""

from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.models import set_model


class CxrModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """An exported model: images to the rows of `cxr predict`."""

    def load_context(self, context: Any) -> None:
        """Open the export folder that came with the model."""
        from cxr.serving.tracking.exported_model import ExportedModel

        self.model = ExportedModel(Path(context.artifacts["export"]))

    # MLflow takes hints of types for a contract on the input, so there are none.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Return a row for each image, in their order.

        Args:
            context: Not used; MLflow passes it.
            model_input: A table whose first column has the images, or a list of them: their paths,
                or their files' bytes.
            params: Not used; MLflow passes it.
        """
        if isinstance(model_input, pd.DataFrame):
            model_input = model_input.iloc[:, 0]
        return self.model.predict(list(model_input))


set_model(CxrModel())
