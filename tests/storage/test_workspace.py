"""Work folders on S3: one at a time, published whole, gone on from anywhere; models and weights fetched."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from cxr.core.errors import ChangedError, ConflictError, DataError, StorageError, WeightsError
from cxr.models.networks import pretrained_weights
from cxr.storage.addresses import open_storage
from cxr.storage.s3.writing import S3Storage
from cxr.storage.workspace import lease, shared_files, workspace
from tests.conftest import ROOT


@pytest.fixture
def work(bucket) -> str:
    """The address of an empty work folder on S3."""
    return f"s3://{bucket.name}/work/one"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that makes this process another machine: one with a cache of its own."""
    return lambda name: monkeypatch.setenv("CXR_CACHE", str(tmp_path / "machines" / name))


def put(folder: Path, **files: str) -> None:
    """Write files; `__` in a name is a folder's slash, `_json` its ending."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def tree(folder: Path) -> dict[str, str]:
    """Return the shared files of a work folder, with their text."""
    files = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()
    }
    return {key: path.read_text() for key, path in files.items() if shared_files.is_shared(key)}


def published(work: str) -> set[str]:
    return {entry.key for entry in open_storage(work).list()} - {lease.KEY}


def test_a_local_work_folder_is_the_folder_itself(tmp_path):
    """Nothing is copied; inside it may be opened again; meanwhile nobody else gets in, in this process or another."""
    with (
        workspace.open_workspace(str(tmp_path / "w")) as folder,
        workspace.open_workspace((tmp_path / "w").as_uri()) as again,
    ):
        assert folder == again == tmp_path / "w" and workspace.published_address(
            folder / "x"
        ) == str(tmp_path / "w" / "x")
        assert opens_elsewhere(str(tmp_path / "w")) == "ConflictError"
        workspace.push(folder)
    with (
        FileLock(tmp_path / "w" / ".lock"),
        pytest.raises(ConflictError, match="another cxr is at work"),
    ):
        workspace.open_workspace(str(tmp_path / "w")).__enter__()
    assert opens_elsewhere(str(tmp_path / "w")) == "opened"


def opens_elsewhere(uri: str) -> str:
    """Return what comes of opening a work folder in another process on the machine of this environment."""
    code = "import sys\nfrom cxr.storage.workspace import workspace\ntry:\n    with workspace.open_workspace(sys.argv[1]):\n        print('opened')\n"
    code += "except Exception as error:\n    print(type(error).__name__)\n"
    done = subprocess.run(
        [sys.executable, "-c", code, uri], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout.strip()


def test_what_one_machine_leaves_another_finds(work, machine):
    """Files, their text and their times; not caches, logs, checkpoints, trainings that have not ended, or the lock."""
    machine("a")
    with workspace.open_workspace(work) as folder:
        put(
            folder,
            ingest_json="{}",
            eda__eda_json="{}",
            cache__pixels="x",
            runs__r__log="1",
            registry__v="1",
        )
        put(folder, runs__r__M__model="m", runs__r__M__training_json="{}", runs__r__N__model="half")
        for name in ("runs/r/training.log", "runs/r/M/checkpoint-0001.keras", ".hidden"):
            (folder / name).write_text("x")
        os.utime(folder / "ingest.json", ns=(10**18, 10**18))
        assert workspace.published_address(folder / "eda" / "eda.json") == f"{work}/eda/eda.json"
        here = tree(folder)
    shared = {
        "ingest.json",
        "eda/eda.json",
        "runs/r/log",
        "runs/r/M/model",
        "runs/r/M/training.json",
    }
    assert published(work) == shared
    machine("b")
    with workspace.open_workspace(work + "/") as folder:
        assert tree(folder) == {key: here[key] for key in shared}
        assert (folder / "ingest.json").stat().st_mtime_ns == 10**18
        assert not (folder / "cache").exists() and not list(folder.rglob(".writing-*"))


def test_only_what_differs_travels(work, machine, monkeypatch):
    """An unchanged folder costs no transfer, here and there; a rewritten file with the same bytes none either."""
    machine("a")
    with workspace.open_workspace(work) as folder:
        put(folder, a="1", b="2")
    moved = spied(monkeypatch, "upload", "download", "delete")
    with workspace.open_workspace(work) as folder:
        put(folder, a="1")
    assert moved == []
    with workspace.open_workspace(work) as folder:
        put(folder, a="changed")
        (folder / "b").unlink()
        workspace.push(folder)
        assert moved == ["upload a", "delete b"] and published(work) == {"a"}
        put(folder, c="3")
    assert moved == ["upload a", "delete b", "upload c"]
    machine("b")
    moved.clear()
    for _ in range(2):
        with workspace.open_workspace(work) as folder:
            assert tree(folder) == {"a": "changed", "c": "3"}
    assert sorted(moved) == ["download a", "download c"]


def spied(monkeypatch, *verbs: str) -> list[str]:
    """Return a list that grows by "verb key" with each call of these verbs of S3 storages, the lease's left out."""
    calls: list[str] = []

    def spy(verb: str):
        real = getattr(S3Storage, verb)

        def call(self, first, *others):
            calls.append(f"{verb} {others[0] if verb == 'upload' else first}")
            return real(self, first, *others)

        return call

    for verb in verbs:
        monkeypatch.setattr(S3Storage, verb, spy(verb))
    return calls


def test_records_are_published_after_the_files_they_tell_of(work, machine, monkeypatch):
    """A record whose files change goes first and comes back last, in the order of the stages."""
    machine("a")
    with workspace.open_workspace(work) as folder:
        put(folder, selection_json="1", ingest_json="1", training_json="1", table="1", other="1")
    moved = spied(monkeypatch, "upload", "delete")
    with workspace.open_workspace(work) as folder:
        put(folder, selection_json="2", ingest_json="2", table="2", new="1")
    assert moved[:2] == ["delete selection.json", "delete ingest.json"]
    assert sorted(moved[2:4]) == ["upload new", "upload table"]
    assert moved[4:] == ["upload ingest.json", "upload selection.json"]


@pytest.mark.parametrize("fails", ["table", "ingest.json"])
def test_a_push_that_is_cut_off_is_not_half_visible_and_not_lost(work, machine, monkeypatch, fails):
    """Without its last file there is no record; the same machine ends it, another one sees a stage that is not done."""
    machine("a")
    with workspace.open_workspace(work) as folder:
        put(folder, ingest_json="1", table="1", kept="1")
    real = S3Storage.upload

    def upload(self, path, key, *expected):
        if key == fails:
            raise KeyboardInterrupt
        return real(self, path, key, *expected)

    monkeypatch.setattr(S3Storage, "upload", upload)
    with pytest.raises(KeyboardInterrupt), workspace.open_workspace(work) as folder:
        put(folder, ingest_json="2", table="2", other="2")
    monkeypatch.setattr(S3Storage, "upload", real)
    assert "ingest.json" not in published(work)
    with workspace.open_workspace(work) as folder:
        assert tree(folder) == {"ingest.json": "2", "table": "2", "other": "2", "kept": "1"}
    machine("b")
    with workspace.open_workspace(work) as folder:
        assert tree(folder) == {"ingest.json": "2", "table": "2", "other": "2", "kept": "1"}


def test_a_failed_stage_leaves_what_it_did(work, machine):
    """Its files are published, as they would lie in a local folder; the error is the stage's own."""
    machine("a")
    with pytest.raises(DataError, match="the gate"), workspace.open_workspace(work) as folder:
        put(folder, leakage__pairs="seen")
        raise DataError("the gate")
    assert published(work) == {"leakage/pairs"}


def test_two_at_once_one_is_refused_and_nothing_of_it_is_published(work, machine):
    """The second learns who is at work; when the first is done it may, and finds the first's work."""
    machine("a")
    with workspace.open_workspace(work) as folder:
        put(folder, ingest_json="first")
        machine("b")
        with pytest.raises(
            ConflictError, match=rf"{work}: another cxr is at work.*process {os.getpid()}"
        ):
            workspace.open_workspace(work).__enter__()
        assert published(work) == set()
        machine("a")
    machine("b")
    with workspace.open_workspace(work) as folder:
        assert tree(folder) == {"ingest.json": "first"}


# The mock looks and writes in two steps: on a busy machine two of its conditional puts succeed at once.
@pytest.mark.parametrize("bucket", [pytest.param("ceph", marks=pytest.mark.slow)], indirect=True)
def test_of_several_that_begin_together_one_gets_in(work, tmp_path):
    """Three processes with a cache each: the lease goes to exactly one."""
    code = (
        "import sys, time\nfrom cxr.storage.workspace import workspace\nfrom cxr.core.errors import ConflictError\nprint('ready', flush=True)\n"
        "sys.stdin.readline()\ntry:\n    with workspace.open_workspace(sys.argv[1]):\n        print('in', flush=True)\n"
        "        sys.stdin.readline()\nexcept ConflictError as error:\n    print('refused', flush=True)\n"
    )
    each = [
        subprocess.Popen(
            [sys.executable, "-c", code, work], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=os.environ | {"CXR_CACHE": str(tmp_path / f"cache{i}")},
        )
        for i in range(3)
    ]  # fmt: skip
    assert all(process.stdout.readline().strip() == "ready" for process in each)
    for process in each:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert sorted(process.stdout.readline().strip() for process in each) == [
        "in",
        "refused",
        "refused",
    ]
    for process in each:
        process.stdin.close()
        process.stdout.close()
        assert process.wait(timeout=60) == 0


def test_one_that_gave_no_sign_is_taken_over_and_publishes_nothing_more(work, machine, monkeypatch):
    """The one that slept finds out before it writes; what the other published stays as it is."""
    machine("a")
    with (
        pytest.raises(ConflictError, match="taken this folder over"),
        workspace.open_workspace(work) as folder,
    ):
        put(folder, ingest_json="slept", table="slept")
        machine("b")
        monkeypatch.setattr(lease, "EXPIRES", -1.0)  # it has given no sign for long enough
        with workspace.open_workspace(work) as other:
            put(other, ingest_json="took over", table="took over")
            monkeypatch.setattr(lease, "EXPIRES", 120.0)
        machine("a")
        workspace.stagings()[folder].lease.renew()
    machine("c")
    with workspace.open_workspace(work) as folder:
        assert tree(folder) == {"ingest.json": "took over", "table": "took over"}


def test_even_without_the_lease_no_file_of_another_is_replaced(work, machine):
    """Each file is put on condition that it is the one this machine knows of."""
    machine("a")
    with workspace.open_workspace(work) as folder:
        put(folder, ingest_json="1", table="1")
    with pytest.raises(ChangedError), workspace.open_workspace(work) as folder:
        put(folder, table="mine")
        open_storage(work).write("table", b"somebody else's")
    assert open_storage(work).read("table") == b"somebody else's"


def test_signs_of_life_are_given_while_work_goes_on(work, machine, monkeypatch):
    """The lease changes by itself, and is free at the end."""
    monkeypatch.setattr(lease, "SIGN", 0.05)
    machine("a")
    with workspace.open_workspace(work):
        storage = open_storage(work)
        before, end = storage.version(lease.KEY), time.monotonic() + 60
        while storage.version(lease.KEY) == before:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert b'"free"' in storage.read(lease.KEY)


def test_killed_on_this_machine_it_goes_on_at_once_from_what_it_left(work, machine):
    """A kill -9 leaves the lease held: the next run here knows that its holder is dead, one elsewhere has to wait."""
    machine("a")
    code = (
        "import sys\nfrom cxr.storage.workspace import workspace\nwith workspace.open_workspace(sys.argv[1]) as folder:\n"
        "    (folder / 'a').write_text('pushed')\n    workspace.push(folder)\n    (folder / 'b').write_text('not yet')\n"
        "    print('there', flush=True)\n    sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, work],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout.readline().strip() == "there"
        process.send_signal(signal.SIGKILL)
    machine("b")
    with pytest.raises(ConflictError, match="taken over 120 s after its last sign"):
        workspace.open_workspace(work).__enter__()
    machine("a")
    with workspace.open_workspace(work) as folder:
        assert tree(folder) == {"a": "pushed", "b": "not yet"}
    assert published(work) == {"a", "b"}


def test_a_cleaned_cache_removes_nothing_there(work, machine):
    """A file that is missing here when the folder is opened is fetched again."""
    machine("a")
    with workspace.open_workspace(work) as folder:
        put(folder, a="1", b="2")
    (folder / "a").unlink()
    with workspace.open_workspace(work) as folder:
        assert tree(folder) == {"a": "1", "b": "2"}
    assert published(work) == {"a", "b"}


def test_where_somebody_else_published_since_theirs_is_taken(work, machine):
    """Changed, new and removed files alike; what this machine had not published is given up."""
    machine("a")
    with workspace.open_workspace(work) as folder:
        put(folder, a="1", b="1", c="1")
    machine("b")
    with workspace.open_workspace(work) as other:
        put(other, a="2", d="2")
        (other / "b").unlink()
    put(folder, e="never published")
    machine("a")
    with workspace.open_workspace(work) as folder:
        assert tree(folder) == {"a": "2", "c": "1", "d": "2"}


def test_a_key_that_leads_out_of_the_folder_is_refused(bucket, machine):
    """A hostile object name never writes elsewhere on this machine: passed over in a work folder, refused in a model."""
    machine("a")
    bucket.client().put_object(Bucket=bucket.name, Key="work/one/x/../../../../evil", Body=b"1")
    with workspace.open_workspace(f"s3://{bucket.name}/work/one") as folder:
        assert tree(folder) == {}
    with pytest.raises(StorageError, match="leads out"):
        workspace.fetch_folder(f"s3://{bucket.name}/work/one")


def test_a_folder_is_fetched_once_for_each_version(bucket, tmp_path, monkeypatch):
    """The same folder again costs a listing; a changed one is fetched anew; a local one is itself."""
    put(tmp_path / "model", a="1", deep__b="2")
    for path in (tmp_path / "model").rglob("*"):
        if path.is_file():
            key = path.relative_to(tmp_path).as_posix()
            bucket.client().put_object(Bucket=bucket.name, Key=key, Body=path.read_bytes())
    moved, uri = spied(monkeypatch, "download"), f"s3://{bucket.name}/model"
    first = workspace.fetch_folder(uri)
    assert (
        tree(first) == {"a": "1", "deep/b": "2"}
        and workspace.fetch_folder(uri + "/") == first
        and len(moved) == 2
    )
    open_storage(uri).write("a", b"changed")
    second = workspace.fetch_folder(uri)
    assert tree(second) == {"a": "changed", "deep/b": "2"} and tree(first)["a"] == "1"
    os.utime(first, (1, 1))
    assert workspace.fetch_folder(uri) == second and not first.exists(), (
        "what nobody asked for within a day goes"
    )
    assert workspace.fetch_folder(str(tmp_path / "model")) == tmp_path / "model"
    with pytest.raises(DataError, match="expected a folder with files, found nothing"):
        workspace.fetch_folder(f"s3://{bucket.name}/nowhere")


def test_weights_may_lie_on_s3(bucket):
    """One fitting file in the folder, as for a local one; nothing there is an error that names the flag."""
    place = f"s3://{bucket.name}/weights"
    open_storage(place).write("mobilenetv2_notop.h5", b"w")
    path, digest = pretrained_weights.find_weights("MobileNetV2", f"MobileNetV2={place},VGG16=none")
    assert Path(path).read_bytes() == b"w" and len(digest) == 64
    with pytest.raises(WeightsError, match="found 0"):
        pretrained_weights.find_weights("VGG16", place)
    with pytest.raises(WeightsError, match="--weights"):
        pretrained_weights.find_weights("VGG16", f"s3://{bucket.name}/none")


def test_a_file_is_written_to_its_address(bucket, tmp_path):
    """Locally the path itself; on S3 only when the block ended well."""
    with workspace.open_output(str(tmp_path / "p.csv")) as path:
        assert path == tmp_path / "p.csv"
    uri = f"s3://{bucket.name}/out/p.csv"
    with pytest.raises(DataError), workspace.open_output(uri) as path:
        path.write_text("half")
        raise DataError("no")
    assert not list(open_storage(f"s3://{bucket.name}").list("out"))
    with workspace.open_output(uri) as path:
        path.write_text("whole")
    assert open_storage(f"s3://{bucket.name}/out").read("p.csv") == b"whole"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("file", "a file is where a folder is needed"),
        ("file/work", "a file is where a folder is needed"),
        ("n" * 300, "give a shorter name"),
        ("/proc/nowhere/work", "give another folder"),
    ],
)
def test_a_work_folder_that_cannot_be_made_is_one_line(tmp_path, name, words):
    """A file in its way, a name too long, a place where nothing can be made: which, why and what to do."""
    (tmp_path / "file").write_text("x")
    out = str(tmp_path / name)  # an absolute name replaces the folder
    with pytest.raises(StorageError, match=words) as refused, workspace.open_workspace(out):
        pass
    assert "\n" not in str(refused.value) and (tmp_path / "file").read_text() == "x"


def test_a_work_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    """A folder whose lock the system refuses: which, why and what to do; it can be opened afterwards."""

    def refuse(*arguments, **settings):
        raise PermissionError(13, "Permission denied", str(tmp_path / ".lock"))

    with monkeypatch.context() as patched:
        patched.setattr(FileLock, "acquire", refuse)
        with (
            pytest.raises(StorageError, match="check the folder's rights"),
            workspace.open_workspace(str(tmp_path)),
        ):
            pass
    with workspace.open_workspace(str(tmp_path)) as folder:
        assert folder == tmp_path


def test_a_file_to_write_is_tried_before_the_work(bucket, tmp_path):
    """Nothing is left of the trial; folders above are made; a bucket that is not there shows at once."""
    with workspace.open_output(str(tmp_path / "new" / "p.csv")) as path:
        assert path == tmp_path / "new" / "p.csv" and not list(path.parent.iterdir())
    with (
        pytest.raises(StorageError, match="NoSuchBucket"),
        workspace.open_output("s3://no-such-bucket-here/p.csv"),
    ):
        pytest.fail("entered")
    with workspace.open_output(f"S3://{bucket.name}/deep/p.csv") as path:
        path.write_bytes(b"1")
    assert open_storage(f"s3://{bucket.name}").read("deep/p.csv") == b"1"
