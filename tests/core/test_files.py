import pandas as pd

from cxr.core.files import read_table, write_table


def test_a_single_column_can_be_read(tmp_path):
    """One column keeps whole cells, also where a cell has several characters."""
    path = tmp_path / "table.csv"
    write_table(pd.DataFrame({"image": ["a.png", "b.png"], "width": [640, 1024]}), path)
    assert list(read_table(path, ["width"])["width"]) == [640, 1024]
    assert list(read_table(path, ["image"])["image"]) == ["a.png", "b.png"]
