"""Tables on disk: whole, by columns and in parts."""

import pandas as pd
import pytest

from cxr.core import files
from cxr.core.errors import DataError
from cxr.core.files import read_parts, read_table, write_parts, write_table


def test_a_single_column_can_be_read(tmp_path):
    """One column keeps whole cells, also where a cell has several characters."""
    path = tmp_path / "table.csv"
    write_table(pd.DataFrame({"image": ["a.png", "b.png"], "width": [640, 1024]}), path)
    assert list(read_table(path, ["width"])["width"]) == [640, 1024]
    assert list(read_table(path, ["image"])["image"]) == ["a.png", "b.png"]


def names_table() -> pd.DataFrame:
    """Seven rows with names that need quotes, one of which is not UTF-8."""
    names = ["a,b", 'say "x"', "plain", "line\nbreak", "", "caf\udce9", "last"]
    return pd.DataFrame(
        {"image": names, "width": range(7), "mean": [number / 3 for number in range(7)]}
    )


def test_a_table_in_parts_is_the_whole_table(tmp_path, monkeypatch):
    """Written in parts it has the same bytes; read in parts it has the same rows and types."""
    table = names_table()
    write_table(table, tmp_path / "whole.csv")
    assert write_parts([table[:3], table[3:3], table[3:]], tmp_path / "parts.csv") == 7
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    whole = read_table(tmp_path / "whole.csv")
    monkeypatch.setattr(files, "PART_ROWS", 3)
    parts = list(read_parts(tmp_path / "whole.csv"))
    assert [len(part) for part in parts] == [3, 3, 1]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole)
    pd.testing.assert_frame_equal(read_table(tmp_path / "whole.csv"), whole)
    assert list(whole["image"]) == list(table["image"])


def test_parts_end_with_the_table(tmp_path, monkeypatch):
    """As many rows as fit two parts are two parts; no row is one part with the columns."""
    monkeypatch.setattr(files, "PART_ROWS", 3)
    write_table(names_table()[:6], tmp_path / "six.csv")
    assert [len(part) for part in read_parts(tmp_path / "six.csv")] == [3, 3]
    write_table(names_table()[:0], tmp_path / "none.csv")
    (empty,) = read_parts(tmp_path / "none.csv", ["width", "image"])
    assert list(empty.columns) == ["width", "image"] and empty["width"].dtype == "int64"


def test_a_carriage_return_in_a_later_part_is_kept(tmp_path, monkeypatch):
    """Python's csv would take a lone one that stands without quotes for the end of a line."""
    monkeypatch.setattr(files, "PART_ROWS", 1)
    table = pd.DataFrame({"image": ["a", "b\rc", "d"], "width": [1, 2, 3]})
    write_parts([table[:1], table[1:2], table[2:]], tmp_path / "table.csv")
    pd.testing.assert_frame_equal(read_table(tmp_path / "table.csv"), table, check_dtype=False)


def test_a_damaged_cell_in_a_later_part_is_said(tmp_path, monkeypatch):
    """The parts before it are read; then comes the error that the whole table gives."""
    monkeypatch.setattr(files, "PART_ROWS", 1)
    (tmp_path / "table.csv").write_text("image,width\na,1\nb,wide\n")
    parts = read_parts(tmp_path / "table.csv")
    assert list(next(parts)["width"]) == [1]
    with pytest.raises(DataError, match="expected numbers and as many cells"):
        next(parts)
