"""Watching a place by its listing: what counts as a change, and when it is said."""

from pathlib import Path

import pytest

from cxr.core.errors import CxrError
from cxr.stages import watch_steps
from cxr.stages.watch_steps import Watched


class Watch:
    """A watch that looks again and again and remembers what it is told to."""

    def __init__(self, data: str, out: str | None = None):
        self.data = data
        self.out = out
        self.remembered: Watched | None = None

    def look(self) -> str:
        """Look at the place; return the finding."""
        listing = watch_steps.list_files(self.data, self.out)
        finding, self.remembered = watch_steps.look(self.data, listing, self.remembered)
        return finding


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "first.png").write_bytes(b"1")
    return folder


def test_a_thousand_files_are_one_change_said_when_it_is_quiet(films):
    """While files arrive nothing is said; two equal listings in a row say it once, and then no more."""
    watch = Watch(str(films))
    assert [watch.look(), watch.look(), watch.look()] == ["changing", "changed", "unchanged"]
    for number in range(1000):
        (films / f"{number}.png").write_bytes(b"2")
        if number % 250 == 0:
            assert watch.look() == "changing"
    assert [watch.look() for _ in range(4)] == ["changing", "changed", "unchanged", "unchanged"]


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_another_file_of_the_same_name_and_a_missing_one_are_changes(films, change):
    """A corrected film counts like a new one."""
    (films / "second.png").write_bytes(b"2")
    watch = Watch(str(films))
    assert [watch.look(), watch.look()] == ["changing", "changed"]
    path = films / "second.png"
    path.unlink()
    if change == "replaced":
        path.write_bytes(b"3")
    assert [watch.look(), watch.look(), watch.look()] == ["changing", "changed", "unchanged"]


def test_a_change_that_is_taken_back_is_none(films):
    """What is as it was when it was last said needs no retraining."""
    watch = Watch(str(films))
    watch.look()
    watch.look()
    (films / "by mistake.png").write_bytes(b"2")
    assert watch.look() == "changing"
    (films / "by mistake.png").unlink()
    assert watch.look() == "unchanged"


def test_an_empty_place_is_never_a_change(films):
    """As a disk looks that is not mounted; once the files are back nothing is new."""
    watch = Watch(str(films))
    watch.look()
    watch.look()
    mounted = films.rename(films.parent / "mounted elsewhere")
    films.mkdir()
    assert [watch.look(), watch.look()] == ["empty", "empty"]
    films.rmdir()
    mounted.rename(films)
    assert [watch.look(), watch.look()] == ["unchanged", "unchanged"]


def test_a_work_folder_inside_the_data_does_not_count(films):
    """A retraining changes its own folder, which must not start the next one."""
    watch = Watch(str(films), str(films / "work"))
    watch.look()
    watch.look()
    (films / "work").mkdir()
    (films / "work" / "ingest.json").write_text("{}")
    assert watch.look() == "unchanged"
    (films / "work of others.png").write_bytes(b"2")
    assert watch.look() == "changing"


def test_a_place_on_s3_is_watched_alike(moto_bucket):
    """By keys, sizes and ETags; its work folder lies below the same prefix."""
    client = moto_bucket.client()
    address = f"s3://{moto_bucket.name}/films"
    client.put_object(Bucket=moto_bucket.name, Key="films/a.png", Body=b"1")
    watch = Watch(address, f"{address}/work")
    assert [watch.look(), watch.look(), watch.look()] == ["changing", "changed", "unchanged"]
    client.put_object(Bucket=moto_bucket.name, Key="films/work/x.json", Body=b"2")
    assert watch.look() == "unchanged"
    client.put_object(Bucket=moto_bucket.name, Key="films/a.png", Body=b"3")
    assert [watch.look(), watch.look()] == ["changing", "changed"]


def test_a_place_that_is_not_there_is_an_error(tmp_path):
    """One sentence, so that the run fails where a person sees it."""
    with pytest.raises(CxrError, match="no such file or folder"):
        watch_steps.list_files(str(tmp_path / "nowhere"))


def test_what_a_look_found_is_said_in_words(films):
    """How many files there are, and how many more than at the last change."""
    watch = Watch(str(films))
    watch.look()
    watch.look()
    before = watch.remembered
    for number in range(12):
        (films / f"{number}.png").write_bytes(b"2")
    listing = watch_steps.list_files(str(films))
    said = watch_steps.describe("changed", str(films), listing, before)
    assert "13 files" in said and "+12 files since the last change" in said
    assert "mounted" in watch_steps.describe("empty", str(films), listing, before)
    assert "first time" in watch_steps.describe("changed", str(films), listing, None)
