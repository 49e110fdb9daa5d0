"""Films to score are shown as those of the training were."""

from types import SimpleNamespace

import pytest

from cxr.core.errors import DataError
from cxr.core.settings import FileSettings, ReadingSettings
from cxr.serving.prediction import publishing


def shown(given: FileSettings, **trained) -> FileSettings:
    card = SimpleNamespace(data=SimpleNamespace(reading=ReadingSettings(**trained)))
    return publishing.shown_as_trained(card, given)


def test_bit_depth_and_window_are_those_of_the_training():
    """Where none is given; what only the files to score have is kept."""
    adopted = shown(FileSettings(), bit_depth=12, window="LUNG")
    assert (adopted.bit_depth, adopted.window) == (12, "LUNG")
    kept = shown(FileSettings(bit_depth=14, window="SOFT"))
    assert (kept.bit_depth, kept.window) == (14, "SOFT")


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        (FileSettings(bit_depth=14), "--bit-depth 14"),
        (FileSettings(window="SOFT"), "--window SOFT"),
    ],
)
def test_another_way_than_the_training_s_is_refused(given, flag):
    """The same film would have other gray values."""
    with pytest.raises(DataError, match=flag):
        shown(given, bit_depth=12, window="LUNG")
