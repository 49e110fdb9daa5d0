"""What a person sees in the Prefect UI after a run: a real server, a real worker, a real browser.

The screenshots lie in pytest's temporary folder, and in CXR_TEST_OUTPUTS/ui where that is set: look at them.
"""

import re

import pytest

from tests.browser import CHROMIUM, browser
from tests.operated import TINY, keep, operated, wait

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory, phantoms):
    """A finished run of the pipeline on a worker: (stack, id of the run, folder for pictures)."""
    pictures = tmp_path_factory.mktemp("ui")
    with operated(tmp_path_factory.mktemp("stack")) as stack:
        found = stack.start_run(
            "pipeline/pipeline-demo",
            data=str(phantoms),
            out=str(tmp_path_factory.mktemp("work") / "phantoms-demo"),
            training=TINY,
        )
        assert stack.ended(found) == "COMPLETED", stack.logs()
        yield stack, found, pictures
    keep(pictures, "ui")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def children(stack, run):
    """Return the subflow runs of a run by flow name."""
    body = {"flow_runs": {"parent_flow_run_id": {"any_": [run]}}}
    return {each["name"]: each["id"] for each in stack.call("/flow_runs/filter", body)}


def artifacts(stack):
    """Return artifact ids by key."""
    return {
        each["key"]: each["latest_id"]
        for each in stack.call("/artifacts/latest/filter", {})
        for each in [each | {"latest_id": each["id"]}]
    }


def test_the_run_page_shows_graph_names_and_logs(run, page):
    """The run under a name that says what and of which data; its four stages in the graph; the library's own log lines."""
    stack, found, pictures = run
    shown = page.open(f"{stack.address}/runs/flow-run/{found}", "pipeline phantoms", "Completed", "Logs")
    page.picture(pictures / "1_run.png", settle=6)
    assert re.search(r"pipeline\s+phantoms", shown) and "pipeline-demo" in shown
    page.open(f"{stack.address}/runs/flow-run/{found}?tab=Logs", "Logs")
    page.wait("Finished in state Completed", seconds=60)
    page.picture(pictures / "2_logs.png")


def test_each_stage_has_tasks_with_names_a_person_reads(run, page):
    """The training's page: its tasks by name, its own logs with the epochs."""
    stack, found, pictures = run
    stages = children(stack, found)
    assert {name.split()[0] for name in stages} == {"preprocess", "explore", "train", "export"}
    (training,) = (each for name, each in stages.items() if name.startswith("train"))
    page.open(f"{stack.address}/runs/flow-run/{training}", "train models", "Completed")
    page.picture(pictures / "3_training.png", settle=6)
    tasks = {each["name"] for each in stack.call("/task_runs/filter", {"flow_runs": {"id": {"any_": [training]}}})}
    assert any(name.startswith("compare") for name in tasks)
    messages = [each["message"] for each in stack.call("/logs/filter", {"limit": 200, "logs": {"level": {"ge_": 20}}})]
    assert any("train MobileNetV2" in message for message in messages)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("ingest", ("found", "kept", "rejected: duplicate")),
        ("leakage", ("reading of the patient key",)),
        ("class-distribution", ("NORMAL", "PNEUMONIA", "train")),
        ("eda", ("Exploratory data analysis",)),
        ("shortcut-audit", ("AUROC train", "AUROC test")),
        ("comparison", ("MobileNetV2", "AUROC", "sensitivity")),
        ("selection", ("MobileNetV2 was chosen",)),
        ("evaluation", ("Test set: AUROC",)),
        ("model-card", ("Not a medical device", "Sensitivity")),
    ],
)
def test_artifacts(run, page, key, words):
    """Each artifact's page shows its words; pictures in it are decoded, none is broken, none is wider than the page."""
    stack, _, pictures = run
    wait(lambda: key in artifacts(stack), 30, f"artifact {key}")
    page.open(f"{stack.address}/artifacts/artifact/{artifacts(stack)[key]}", *words)
    page.picture(pictures / f"4_{key}.png", settle=2)
    images = page.run(
        "[...document.querySelectorAll('img')].filter(i => i.src.startsWith('data:'))"
        ".map(i => [i.complete && i.naturalWidth > 0, i.getBoundingClientRect().right <= window.innerWidth])"
    )
    assert all(decoded and fits for decoded, fits in images), key
    assert (len(images) > 0) == (key in {"eda", "selection", "evaluation"}), key


def test_the_deployments_page_lists_what_can_be_run(run, page):
    """Every deployment by name, with its tags; the form of a custom run has the parameters of the preset."""
    stack, _, pictures = run
    page.open(f"{stack.address}/deployments", "pipeline-demo", "retrain", "predict")
    page.picture(pictures / "5_deployments.png")
    demo = stack.call("/deployments/name/pipeline/pipeline-demo")["id"]
    page.open(f"{stack.address}/deployments/deployment/{demo}/run", "training", "data")
    page.picture(pictures / "6_custom_run.png", settle=3)
