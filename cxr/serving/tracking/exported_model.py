"""An exported model for programs that ask image by image: loaded once, the rows of `cxr predict`."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cxr.core.errors import DataError
from cxr.core.settings import FileSettings, ScopeSettings
from cxr.data.patients.hidden_names import is_hidden_key
from cxr.data.patients.hidden_storage import DataStorage
from cxr.results.cards.model_card import read_card
from cxr.serving.prediction.answers import open_network
from cxr.serving.prediction.batch_scoring import score_images
from cxr.serving.prediction.decoding import Reject
from cxr.serving.prediction.inputs import ImageToScore, find_images
from cxr.serving.prediction.publishing import shown_as_trained
from cxr.serving.prediction.rows import COLUMNS, INSTANCE, Row, rejected_row

NUMBERS = ("score", "threshold", "scope_p")


class ExportedModel:
    """An export folder in use: score, threshold and abstention are those of its card and scope.

    Attributes:
        card: The card.
        network: The network, with what it abstains from.
        files: What an image must be.
    """

    def __init__(self, export: Path):
        self.card = read_card(export)
        self.network = open_network(export, self.card, ScopeSettings())
        self.files = shown_as_trained(self.card, FileSettings())

    def predict(self, images: Sequence[str | bytes]) -> pd.DataFrame:
        """Return a row for each image, in the columns of predictions.csv and in their order.

        An image that cannot be scored has the status "rejected" and its reason.

        Args:
            images: Paths or s3://… addresses, or files' bytes, which are called image-1 and so on
                by their places. DICOM files have public names, for which CXR_SALT is wanted.

        Raises:
            DataError: There is no file at a path.
            UsageError: There is DICOM and no salt is set.
        """
        with tempfile.TemporaryDirectory(prefix="cxr-images-") as folder:
            found = [
                self._find(image, place, folder) for place, image in enumerate(images, start=1)
            ]
            # Called by their places while they are scored: rows come back in another order.
            wanted = [
                image._replace(name=str(place))
                for place, image in enumerate(found)
                if isinstance(image, ImageToScore)
            ]
            batches = score_images(self.network, wanted, self.files) if wanted else ()
            scored = {int(row["image"]): row for batch in batches for row in batch}
        rows = [
            scored[place] | {"image": each.name} if isinstance(each, ImageToScore) else each
            for place, each in enumerate(found)
        ]
        columns = [*COLUMNS, INSTANCE] if any(INSTANCE in row for row in rows) else COLUMNS
        table = pd.DataFrame(rows, columns=columns)
        for name in NUMBERS:
            # A rejected image has the texts of predictions.csv for no number.
            table[name] = pd.to_numeric(table[name], errors="coerce").astype("float64")
        return table.fillna({INSTANCE: ""})

    def _find(
        self,
        image: str | bytes,
        place: int,
        folder: str,
    ) -> ImageToScore | Row:
        """Return the image to score, or the row of one that is none.

        Args:
            image: Its path or its bytes.
            place: Its place among the images, from 1.
            folder: Where bytes are written to.
        """
        if isinstance(image, bytes):
            shown = f"image-{place}"
            address = os.path.join(folder, shown)  # noqa: PTH118 - an address, not a path
            Path(address).write_bytes(image)
        else:
            shown = str(image)
            address = shown
        inputs = find_images([address], f"{folder}/predictions.csv", self.files)
        if len(inputs.judged) != 1:
            raise DataError(f"{shown}: expected one image, found a folder: name its images")
        if inputs.rejects:
            ((name, reason, detail),) = inputs.rejects
            return rejected_row(_public(name, shown), Reject(reason, detail), self.card)
        (wanted,) = inputs.wanted
        if is_hidden_key(wanted.name) and isinstance(wanted.storage, DataStorage):
            wanted.storage.forget_contents()
        return wanted._replace(name=_public(wanted.name, shown))


def _public(name: str, shown: str) -> str:
    """Return what an image is called: as it was given, unless its name is hidden."""
    return name if is_hidden_key(name) else shown
