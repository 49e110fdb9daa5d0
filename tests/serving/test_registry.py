"""The registry on a folder and in S3 (moto): whole versions, one conditional switch, a log, and processes that die."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from cxr.core.errors import ConflictError, DataError, ModelError, RegistryError
from cxr.core.files import file_sha256, read_table
from cxr.results import exporting
from cxr.serving.registry import Registry
from cxr.serving.registry import versions as registries
from tests.conftest import ROOT
from tests.support.registered import exported, manifest, won

ROWS = [("aa", "p1", "train"), ("bb", "p2", "val"), ("cc", "p3", "test"), ("dd", "", "train")]


@pytest.fixture(params=["local", "s3"])
def registry(request, tmp_path, monkeypatch):
    """An empty registry over each backend."""
    if request.param == "local":
        yield Registry(str(tmp_path / "registry"))
        return
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="models")
        yield Registry("s3://models/pneumonia")


@pytest.fixture
def exports(finished_once, tmp_path):
    """Two export folders of two runs."""
    source = finished_once / "runs" / "abc" / "export"
    return [exported(source, tmp_path / name, name, name.encode()) for name in ("one", "two")]


@pytest.fixture
def two(registry, exports, finished_once):
    """A registry with two versions, the second of which has won against the first, which is the champion."""
    first, second = (registry.register(each, "tester") for each in exports)
    registry.add_challenge(won(finished_once, first.name, None))
    registry.add_challenge(won(finished_once, second.name, first.name))
    registry.promote(first.name, "ann", "the first")
    return registry, first.name, second.name


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_version_is_the_export_folder_byte_for_byte(registry, exports, tmp_path):
    """Registered once, twice the same: one version, named by run and content; restored it is the very folder."""
    first = registry.register(exports[0], "tester")
    assert registry.register(exports[0], "another") == first == registry.version(first.name)
    assert (
        first.name == f"one-{file_sha256(exports[0] / 'SHA256SUMS')[:8]}" and first.who == "tester"
    )
    assert registry.versions() == [first] and registry.champion() is None
    assert contents(registry.restore(first.name, tmp_path / "again")) == contents(exports[0])
    assert sum(map(len, contents(exports[0]).values())) == first.bytes


def test_what_is_not_whole_is_not_registered(registry, exports, tmp_path):
    """A changed file, a missing one, a model that is not its card's, no folder at all: ModelError, and no version."""
    (exports[0] / "MODEL_CARD.md").write_text("edited")
    with pytest.raises(ModelError, match="is not the file in SHA256SUMS"):
        registry.register(exports[0], "tester")
    (exports[0] / "MODEL_CARD.md").unlink()
    with pytest.raises(ModelError, match="missing"):
        registry.register(exports[0], "tester")
    with pytest.raises(ModelError, match="expected an export folder"):
        registry.register(tmp_path / "nothing", "tester")
    (exports[1] / "model.keras").write_bytes(b"other")
    exporting.write_checksums(exports[1])
    with pytest.raises(ModelError, match="not the file its card describes"):
        registry.register(exports[1], "tester")
    assert registry.versions() == []


def test_promote_rollback_and_the_log(two, exports, tmp_path):
    """The champion changes with who, when and why; rollback gives the first one's bytes back; the log tells it all."""
    registry, first, second = two
    champion = registry.promote(second, "bob", "better on test")
    assert (champion.version, champion.previous) == (
        second,
        (first,),
    ) and registry.champion() == champion
    back = registry.rollback("cat", "false alarms")
    assert (back.version, back.previous, back.what, back.who) == (first, (), "rollback", "cat")
    with registries.find_model(registry.uri) as folder:
        assert contents(Path(folder)) == contents(exports[0])
    told = [(event.what, event.version, event.who, event.champion) for event in registry.log()]
    assert told == [
        ("register", first, "tester", None), ("register", second, "tester", None), ("promote", first, "ann", first),
        ("promote", second, "bob", second), ("rollback", first, "cat", first),
    ]  # fmt: skip
    with pytest.raises(RegistryError, match="earlier champion"):
        registry.rollback("cat", "again")


def test_a_version_that_lost_or_was_never_compared_is_refused(registry, exports, finished_once):
    """By nobody, whatever they say, unless against the rule, which the log keeps; a comparison with another is none."""
    first, second = (registry.register(each, "tester").name for each in exports)
    with pytest.raises(RegistryError, match="never compared"):
        registry.promote(first, "ann", "please")
    registry.add_challenge(won(finished_once, first, None))
    registry.promote(first, "ann", "the first")
    registry.add_challenge(won(finished_once, second, None))  # the champion is another one by now
    with pytest.raises(RegistryError, match="never compared with the champion"):
        registry.promote(second, "ann", "please")
    registry.add_challenge(won(finished_once, second, first, promote=False))
    with pytest.raises(RegistryError, match="made up"):
        registry.promote(second, "ann", "please")
    assert registry.champion().version == first
    assert registry.promote(second, "ann", "an emergency", against_the_rule=True).version == second
    assert (
        registry.log()[-1].what == "promote against the rule"
        and registry.log()[-1].why == "an emergency"
    )


def test_promoting_the_champion_again_changes_nothing(two):
    """A repeated task finds its work done."""
    registry, first, _ = two
    before = registry.champion()
    assert registry.promote(first, "bob", "again") == before and len(registry.log()) == 3


@pytest.mark.parametrize("turn", ["promote", "rollback"])
def test_bytes_that_changed_in_the_registry_are_never_put_in_use(two, turn):
    """A model altered or gone behind the registry's back: ModelError, and the champion stays."""
    registry, first, second = two
    target = second if turn == "promote" else first
    if turn == "rollback":
        registry.promote(second, "bob", "better")
    before = registry.champion()
    call = {
        "promote": lambda: registry.promote(second, "bob", "x"), "rollback": lambda: registry.rollback("bob", "x")
    }[turn]  # fmt: skip
    registry.storage.write(f"versions/{target}/model.keras", b"altered")
    with pytest.raises(ModelError, match="not as registered"):
        call()
    registry.storage.delete(f"versions/{target}/model.keras")
    with pytest.raises(ModelError, match="gone"):
        call()
    assert registry.champion() == before


def test_of_two_promotions_at_once_one_wins(two, exports, finished_once, tmp_path, monkeypatch):
    """Both read the same champion, then both switch: one does, the other gets ConflictError and changes nothing."""
    registry, first, second = two
    third = registry.register(
        exported(exports[0], tmp_path / "three", "three", b"three"), "tester"
    ).name
    registry.add_challenge(won(finished_once, third, first))
    barrier, outcomes = threading.Barrier(2, timeout=30), {}
    real = Registry.restore

    def both_have_read(self, name, folder):
        barrier.wait()
        return real(self, name, folder)

    monkeypatch.setattr(Registry, "restore", both_have_read)

    def promote(name):
        try:
            outcomes[name] = Registry(registry.uri).promote(name, name, "race")
        except ConflictError as error:
            outcomes[name] = error

    threads = [threading.Thread(target=promote, args=(name,)) for name in (second, third)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [name for name, outcome in outcomes.items() if not isinstance(outcome, Exception)]
    (loser,) = set(outcomes) - set(winners)
    assert len(winners) == 1 and registry.champion().version == winners[0]
    assert "came first" in str(outcomes[loser]) and registry.champion().previous == (first,)
    assert [event.version for event in registry.log()].count(loser) == 1  # its registration alone


def test_an_answer_lost_on_the_way_is_no_conflict(two, monkeypatch):
    """The write came through, its answer did not, and the repeated one is refused: the promotion is done."""
    registry, _, second = two
    real = registry.storage.write

    def write_twice(key, data, **condition):
        token = real(key, data, **condition)
        return real(key, data, **condition) if key == "champion.json" else token

    monkeypatch.setattr(registry.storage, "write", write_twice)
    assert registry.promote(second, "bob", "better").version == second


def test_what_training_saw_is_known_by_picture_and_patient(
    registry, exports, finished_once, tmp_path
):
    """Images of train and val count, test does not; another reading of patients matches none; no id is kept."""
    path = manifest(tmp_path / "clean_metadata.csv", ROWS)
    source = finished_once / "runs" / "abc" / "export"
    name = registry.register(exported(source, tmp_path / "e", "e", b"e", path), "tester", path).name
    rows = read_table(
        manifest(tmp_path / "new.csv", [(picture, patient, "test") for picture, patient in (
            ("aa", "x"), ("zz", "p2"), ("cc", "p3"), ("yy", ""), ("dd", "")
        )])
    )  # fmt: skip
    assert registry.seen(name, rows, "person+etiology").tolist() == [True, True, False, False, True]
    assert registry.seen(name, rows, "person").tolist() == [True, False, False, False, True]
    kept = registry.storage.read(f"versions/{name}/seen.csv").decode()
    assert "p1" not in kept and "cc" not in kept
    assert registry.seen(registry.register(exports[0], "tester").name, rows, "person") is None
    with pytest.raises(DataError, match="not the manifest"):
        registry.register(exports[1], "tester", path)


def test_names_that_leave_the_registry_are_refused(registry):
    """Neither a version's name nor a file's can point outside; an unknown one lists what there is."""
    for name in ("../champion", "/etc", ""):
        with pytest.raises(RegistryError, match="inside the registry"):
            registry.version(name)
    with pytest.raises(RegistryError, match="none yet"):
        registry.version("never")


def test_a_model_is_a_folder_or_a_registry_s_champion(two, exports):
    """An export folder and the model.keras in it are themselves; a registry with a champion is its champion."""
    for model in (
        str(exports[1]),
        str(exports[1] / "model.keras"),
        "s3://models/elsewhere/model.keras",
    ):
        with registries.find_model(model) as address:
            assert address == model
    with registries.find_model(two[0].uri) as address:
        assert (Path(address) / "model.keras").read_bytes() == b"one"
    assert not Path(address).exists()


SCRIPT = """
import sys, time
from pathlib import Path
from cxr.serving.registry import Registry

registry, stop, act = Registry(sys.argv[1]), sys.argv[2], sys.argv[3]
for verb in ("write", "upload"):
    def slow(*arguments, _real=getattr(registry.storage, verb), **conditions):
        if stop in map(str, arguments) or any(str(one).endswith(stop) for one in arguments[:2]):
            print("there", flush=True)
            time.sleep(60)
        return _real(*arguments, **conditions)
    setattr(registry.storage, verb, slow)
if act == "register":
    registry.register(Path(sys.argv[4]), "killed")
else:
    registry.promote(sys.argv[4], "killed", "why")
"""


def killed_at(stop, uri, act, argument):
    """Start a process, wait until it is about to write `stop`, kill it there with -9."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, uri, stop, act, str(argument)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdout.readline() == "there\n"
        process.kill()


@pytest.mark.parametrize("stop", ["/model_card.json", "version.json"])
def test_killed_while_uploading_there_is_no_version(finished_once, exports, tmp_path, stop):
    """After kill -9 in the middle of the upload, or before the record: nothing is listed, and the next upload is whole."""
    registry = Registry(str(tmp_path / "registry"))
    killed_at(stop, registry.uri, "register", exports[0])
    assert list((tmp_path / "registry" / "versions").iterdir()) and registry.versions() == []
    version = registry.register(exports[0], "tester")
    assert contents(registry.restore(version.name, tmp_path / "again")) == contents(exports[0])


def test_killed_between_upload_and_switch_the_old_champion_is_whole(
    finished_once, exports, tmp_path
):
    """After kill -9 right before the switch: the old champion is in use, byte for byte; the promotion can be done again."""
    registry = Registry(str(tmp_path / "registry"))
    first, second = (registry.register(each, "tester").name for each in exports)
    registry.add_challenge(won(finished_once, first, None))
    registry.add_challenge(won(finished_once, second, first))
    before = registry.promote(first, "ann", "the first")
    killed_at("champion.json", registry.uri, "promote", second)
    assert registry.champion() == before
    with registries.find_model(registry.uri) as folder:
        assert contents(Path(folder)) == contents(exports[0])
    assert [event.what for event in registry.log()] == ["register", "register", "promote"]
    assert registry.promote(second, "bob", "again").version == second


def test_killed_between_switch_and_log_nothing_is_forgotten(two, monkeypatch):
    """The champion's record carries its own event: the log shows it at once, and the next change writes it."""
    registry, _, second = two
    monkeypatch.setattr(Registry, "_log", lambda self, event: None)
    registry.promote(second, "bob", "better")
    monkeypatch.undo()
    assert [(e.what, e.who) for e in registry.log()][-1] == ("promote", "bob")
    registry.rollback("cat", "worse")
    kept = [json.loads(registry.storage.read(key))["who"] for key in registry.keys("log/")]
    assert kept == ["tester", "tester", "ann", "bob", "cat"]
