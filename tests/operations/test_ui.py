"""What a person does and sees in the Prefect UI: a real server, a real worker, a real browser, images on S3.

The screenshots lie in pytest's temporary folder, and in CXR_TEST_OUTPUTS/ui where that is set: look at them. The S3
is a RADOS gateway.
"""

import contextlib

import pytest

from tests.support.browser import CHROMIUM, browser
from tests.support.operated import TINY, keep, operated, wait
from tests.support.s3_servers import fresh_bucket

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed: apt-get install chromium"),
]
FLOW = "pipeline/pipeline-demo"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The folder for screenshots."""
    folder = tmp_path_factory.mktemp("ui")
    yield folder
    keep(folder, "ui")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def bucket(ceph, phantoms):
    """A bucket with the phantom images below images/."""
    found = fresh_bucket(ceph)
    found.upload(phantoms, "images")
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory, page, pictures, bucket):
    """A run of the pipeline that a person started by the form of the UI, ended: (stack, id of the run)."""
    secret = bucket.server.environment() | {"CXR_CACHE": str(tmp_path_factory.mktemp("cache"))}
    with operated(tmp_path_factory.mktemp("stack"), **secret) as stack:
        demo = stack.call(f"/deployments/name/{FLOW}")["id"]
        stack.call(f"/deployments/{demo}", {"parameters": {"training": TINY}}, method="PATCH")
        page.open(
            f"{stack.address}/deployments/deployment/{demo}/run",
            "data",
            "out",
            "Folder or s3://",
            "Submit",
        )

        def submitted():
            """As a person does who sees whether it was taken: while the form still builds itself, it loses what is typed."""
            if not (there := stack.call("/flow_runs/filter", {})):
                page.fill("data", f"s3://{bucket.name}/images")
                page.fill("out", f"s3://{bucket.name}/work")
                page.picture(pictures / "1_custom_run.png")
                page.click("Submit")
                with contextlib.suppress(AssertionError):
                    wait(lambda: stack.call("/flow_runs/filter", {}), 10, "a run")
            return there

        wait(submitted, 120, "the form made a run", page.text)
        (found,) = stack.call("/flow_runs/filter", {})
        assert stack.ended(found["id"]) == "COMPLETED", stack.logs()
        yield stack, found["id"]


def artifacts(stack):
    """Return the newest artifact's id by key."""
    return {each["key"]: each["latest_id"] for each in stack.call("/artifacts/latest/filter", {})}


def stages(stack, run):
    """Return the ids of a run's stages by the first word of their names."""
    body = {"flow_runs": {"parent_flow_run_id": {"any_": [run]}}}
    return {each["name"].split()[0]: each["id"] for each in stack.call("/flow_runs/filter", body)}


def test_a_run_from_the_form_writes_to_s3(run, bucket):
    """Started in the browser with two addresses typed into its form: everything it made is in the bucket."""
    there = bucket.client().list_objects_v2(Bucket=bucket.name, Prefix="work/runs/")["Contents"]
    assert {"SHA256SUMS", "model.keras", "report.html"} <= {
        each["Key"].rpartition("/")[2] for each in there
    }


def test_the_run_page_shows_graph_names_and_logs(run, page, pictures):
    """The run under a name that says what and of which data, its deployment, its four stages in the graph, its log."""
    stack, found = run
    page.open(
        f"{stack.address}/runs/flow-run/{found}",
        "pipeline images",
        "pipeline-demo",
        "Completed",
        "Logs",
    )
    page.wait("Finished in state Completed")
    page.picture(pictures / "2_run.png", settle=6)
    assert set(stages(stack, found)) == {"preprocess", "explore", "train", "export"}


@pytest.mark.parametrize(
    ("stage", "line", "tasks"),
    [
        ("preprocess", "images kept: ", ("find near-duplicates", "publish manifest")),
        ("explore", "explore data: ", ("cache pixels", "explore data", "show exploration")),
        ("train", "MobileNetV2: validation AUROC", ("start run", "cache pixels", "compare")),
        ("export", "Test set: AUROC", ("evaluate MobileNetV2 on test", "write export")),
    ],
)
def test_each_stage_has_tasks_with_names_a_person_reads_and_the_librarys_log(
    run, page, pictures, stage, line, tasks
):
    """A stage's page: the library's own lines in its log, not Prefect's alone; task names without a random ending, none with an empty page."""
    stack, found = run
    stage_id = stages(stack, found)[stage]
    page.open(f"{stack.address}/runs/flow-run/{stage_id}", f"{stage} ", "Completed", line)
    page.picture(pictures / f"3_{stage}.png", settle=5)
    runs = {
        each["name"]: each["id"]
        for each in stack.call("/task_runs/filter", {"flow_runs": {"id": {"any_": [stage_id]}}})
    }
    assert set(tasks) <= set(runs)
    page.open(
        f"{stack.address}/runs/task-run/{runs[tasks[-1]]}",
        tasks[-1],
        "Completed",
        "Task configuration",
    )


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("summary", ("false positives among", "Pages of this run", "report: s3://")),
        ("ingest", ("found", "kept", "rejected: duplicate")),
        ("leakage", ("reading of the patient key",)),
        ("near-duplicates", ("Near-duplicates",)),
        ("class-distribution", ("NORMAL", "PNEUMONIA", "train")),
        ("exploration", ("Exploratory data analysis",)),
        ("shortcut-audit", ("AUROC train", "AUROC test")),
        ("comparison", ("MobileNetV2", "AUROC", "sensitivity")),
        ("selection", ("MobileNetV2 was chosen", "ROC on validation")),
        ("evaluation", ("Test set: AUROC", "Where the model looks")),
        ("model-card", ("Not a medical device", "Sensitivity")),
        ("progress-features-mobilenetv2", ("Progress: 100%", "features MobileNetV2: ")),
        ("progress-find-near-duplicates", ("Progress: 100%",)),
    ],
)
def test_artifacts(run, page, pictures, key, words):
    """Each artifact's page shows its words; pictures are decoded and fit the page; nothing of their bytes is text."""
    stack, _ = run
    wait(lambda: key in artifacts(stack), 30, f"artifact {key}")
    shown = page.open(f"{stack.address}/artifacts/artifact/{artifacts(stack)[key]}", *words)
    assert "base64" not in shown and "<img" not in shown
    look = (
        "[...document.querySelectorAll('img')].filter(i => i.src.startsWith('data:'))"
        ".map(i => [i.complete && i.naturalWidth > 0, i.getBoundingClientRect().right <= window.innerWidth])"
    )
    wait(
        lambda: all(decoded for decoded, _ in page.run(look)),
        30,
        "the pictures are decoded",
        page.text,
    )
    images = page.run(look)
    page.picture(pictures / f"4_{key}.png", settle=1)
    assert all(fits for _, fits in images), key
    assert (len(images) > 0) == (
        key in {"near-duplicates", "exploration", "selection", "evaluation"}
    ), key


def test_the_links_of_the_summary_lead_to_the_pages_of_this_run(run, page, pictures):
    """From the run's tab Artifacts to its summary, from there to the model card, from there to its stage."""
    stack, found = run
    page.open(f"{stack.address}/runs/flow-run/{found}", "Finished in state Completed", "Artifacts")
    page.click("Artifacts")
    page.wait("summary")
    page.picture(pictures / "5_artifacts_of_the_run.png")
    page.open(
        f"{stack.address}/artifacts/artifact/{artifacts(stack)['summary']}", "Pages of this run"
    )
    links = dict(page.run("[...document.querySelectorAll('li a')].map(a => [a.innerText, a.href])"))
    assert {"ingest", "exploration", "comparison", "selection", "evaluation", "model-card"} <= set(
        links
    )
    page.open(
        links["model-card"], "Performance on the test set", "export "
    )  # a click opens another tab
    page.click("export images")
    page.wait("Task Runs", "Finished in state Completed")


def test_the_deployments_page_lists_what_can_be_run(run, page, pictures):
    """Every deployment by name, with its tags; the page shows ten at a time."""
    stack, _ = run
    page.open(f"{stack.address}/deployments", "labels", "pipeline-demo", "pipeline-thorough")
    page.picture(pictures / "6_deployments.png")
    page.open(f"{stack.address}/deployments?page=2", "predict", "retrain")
