"""The whole pipeline with data, work folder, model and predictions on a real S3 server; and no secret anywhere."""

import json
import os
from pathlib import Path

import pytest

from cxr.storage.addresses import open_storage
from cxr.storage.workspace import lease
from tests.conftest import SMALLEST, Command

TINY = (
    *SMALLEST,
    "--epochs",
    "0",
)


def command(api, cache, *arguments):
    """Run the command on a machine whose cache is empty at first."""
    variables = {
        "PREFECT_API_URL": api,
        "CXR_CACHE": str(cache),
        "PREFECT_LOGGING_LEVEL": "DEBUG",
    }
    return Command(os.environ | variables)(*arguments)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_everything_on_s3(ceph_bucket, phantoms, tmp_path, api):
    """A run; the same from another machine finds it unchanged; predict and verify; the secret is nowhere."""
    uri = f"s3://{ceph_bucket.name}"
    data, work = open_storage(f"{uri}/data"), open_storage(f"{uri}/work")
    for path in (path for path in phantoms.rglob("*") if path.is_file()):
        data.upload(path, path.relative_to(phantoms).as_posix())
    first = command(api, tmp_path / "a", "run", data.uri, "--out", work.uri, *TINY)
    assert first.returncode == 0, first.stderr[-3000:]
    there = {entry.key: entry.version for entry in work.list()}
    run = next(key for key in there if key.endswith("/export.json")).rpartition("/")[0]
    for name in (
        "selection.json",
        "evaluation.json",
        "report.html",
        "export/model.keras",
        "export/SHA256SUMS",
    ):
        assert f"{run}/{name}" in there, name
    assert not [
        key
        for key in there
        if key.startswith("cache/") or key.endswith(".log") or ".writing" in key
    ]
    assert (
        json.loads(work.read(f"{run}/export.json"))["model"]
        == f"{work.uri}/{run}/export/model.keras"
    )
    assert f"{work.uri}/{run}/report.html" in first.stdout

    again = command(api, tmp_path / "b", "run", data.uri, "--out", work.uri, *TINY)
    assert again.returncode == 0, again.stderr[-3000:]
    assert json.loads(work.read("ingest.json"))["newly_read"] == 0
    now = {entry.key: entry.version for entry in work.list()}
    lasting = (
        "keras",
        "history.csv",
        "training.json",
        "evaluation.json",
        "metadata.csv",
        ".npy",
    )  # not: shown again
    assert [
        key for key, version in there.items() if key.endswith(lasting) and now[key] != version
    ] == []
    assert there.keys() <= now.keys()
    new = {key.rpartition("/")[2] for key in now.keys() - there.keys()}
    assert new == {"timing-decode.json"}, "its pixel cache was empty: it decoded the images again"

    model, out = f"{work.uri}/{run}/export", f"{uri}/out/predictions.csv"
    predicted = command(api, tmp_path / "c", "predict", model, f"{data.uri}/test", "--out", out)
    assert predicted.returncode == 0, predicted.stderr[-3000:]
    assert (
        open_storage(f"{uri}/out")
        .read("predictions.csv")
        .startswith(b"image,score,prediction,threshold")
    )
    verified = command(api, tmp_path / "c", "verify", f"{work.uri}/{run}")
    assert verified.returncode == 0 and "FAILED" not in verified.stdout, (
        verified.stdout + verified.stderr
    )

    secret = ceph_bucket.server.secret.encode()
    said = "".join(
        done.stdout + done.stderr for done in (first, again, predicted, verified)
    ).encode()
    assert secret not in said
    for place in (tmp_path, Path(os.environ["PREFECT_HOME"])):
        for path in (path for path in place.rglob("*") if path.is_file()):
            assert secret not in path.read_bytes(), path
    for entry in open_storage(uri).list():
        assert secret not in open_storage(uri).read(entry.key), entry.key
    assert b'"free"' in work.read(lease.KEY)
