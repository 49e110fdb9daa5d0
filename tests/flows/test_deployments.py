"""What an operator is given, as far as it can be checked without a server or a container engine."""

import asyncio
import importlib
import json
import os
import re
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from typing import get_args

import pytest
import yaml
from prefect import Flow
from prefect.automations import Automation
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import Event

from cxr.core.settings import PRESETS, training_settings
from cxr.stages import watch_steps
from deployments import automate
from deployments.stack import MARK, Stack, StackError, _require_free, marked
from flows.server.prefect_api import WORK_POOLS
from tasks import events
from tests.conftest import ROOT

PROJECT = yaml.safe_load((ROOT / "prefect.yaml").read_text())
COMPOSE = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text())
DEPLOYMENTS = {each["name"]: each for each in PROJECT["deployments"]}
AUTOMATIONS = ROOT / "deployments" / "automations"
FILES = [
    ROOT / "prefect.yaml",
    *AUTOMATIONS.iterdir(),
    *(path for path in (ROOT / "deployments").iterdir() if path.is_file()),
]


def test_every_flow_has_a_deployment_and_every_entrypoint_is_there():
    """The pipeline, each stage, retrain and predict; dotted, so that the worker's own installation is run."""
    stages = {"preprocess", "explore", "train", "export"}
    assert {"pipeline", *stages, "retrain", "predict", "labels", "site", "watch", "monitor"} <= set(
        DEPLOYMENTS
    )
    for deployment in DEPLOYMENTS.values():
        entrypoint = deployment["entrypoint"]
        module, name = re.fullmatch(r"(flows\.\w+)\.(\w+)", entrypoint).groups()
        flow = getattr(importlib.import_module(module), name)
        assert isinstance(flow, Flow), entrypoint
    assert PROJECT["pull"] == [], "a pull step would name a folder of the machine that deploys"


def test_the_former_deployments_of_train_and_export_still_run_them():
    """For one version: prefect deployment run train_models/train-models, as scripts of 0.1 have it."""
    for name, now in {"train-models": "train", "export-model": "export"}.items():
        module, former = DEPLOYMENTS[name]["entrypoint"].rsplit(".", 1)
        flow = getattr(importlib.import_module(module), former)
        current = getattr(importlib.import_module(module), now)
        assert flow.name == name.replace("-", "_") and flow.fn is current.fn
        assert DEPLOYMENTS[name].get("parameters") == DEPLOYMENTS[now].get("parameters")


@pytest.mark.parametrize(
    ("deployment", "preset"),
    [
        ("pipeline", "standard"),
        ("pipeline-quick", "quick"),
        ("pipeline-thorough", "thorough"),
        ("pipeline-demo", "demo"),
        ("retrain", "standard"),
    ],
)
def test_presets_are_those_of_the_library(deployment, preset):
    """What the UI shows as parameters is the preset itself, and builds the same settings."""
    given = DEPLOYMENTS[deployment]["parameters"]["training"]
    assert given == PRESETS[preset] and training_settings(**given) == training_settings(preset)
    assert preset in DEPLOYMENTS[deployment]["tags"]


def test_every_deployment_is_strict_and_limited():
    """Misspelt parameters are refused, every pool is one that is registered, and runs of one deployment do not meet.

    A look that comes too early is left out; all other runs wait.
    """
    looks = {"watch", "monitor"}
    for each in DEPLOYMENTS.values():
        assert each["enforce_parameter_schema"] is True and each["description"]
        strategy = "CANCEL_NEW" if each["name"] in looks else "ENQUEUE"
        assert each["concurrency_limit"]["limit"] >= 1
        assert each["concurrency_limit"]["collision_strategy"] == strategy
        assert each["work_pool"]["name"] in WORK_POOLS
        assert (
            int(each["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
            >= 30
        ), "Prefect's least"


def test_retraining_is_weekly_in_utc_and_not_active_until_someone_says_so():
    """Its parameters are variables of the server, so the file has none."""
    (schedule,) = DEPLOYMENTS["retrain"]["schedules"]
    assert CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"]).timezone == "UTC"
    assert (
        schedule["cron"].split()[4] == "0"
        and schedule["active"] is False
        and schedule["slug"] == "weekly"
    )
    assert all(
        "prefect.variables." in DEPLOYMENTS["retrain"]["parameters"][name]
        for name in ("data", "out")
    )
    # A run that is refused because another one is at work would lose what started it.
    assert DEPLOYMENTS["retrain"]["parameters"]["policy"] == "wait"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_names_a_machine_an_index_or_a_secret(path):
    """No home folder, no host but loopback and the compose file's own services, no password's value."""
    text = path.read_text()
    assert not re.search(r"/(root|tmp|Users)/|/home/(?!cxr/)|index-url|pypi\.", text), path
    hosts = set(re.findall(r"https?://([\w.{}-]+)", text))
    assert hosts <= {"127.0.0.1", "server", "s3", "{self.address}", "{self.host}", "bucket"}, hosts
    for name, value in re.findall(
        r"(\w*(?:PASSWORD|SECRET_ACCESS_KEY|AUTH|ACCESS_KEY_ID)\w*)[=:] *(\S*)", text
    ):
        assert value in {"", "|"} or value.startswith(
            ("${", "os.", "see", "prefect_", "user:", "and")
        ), (
            path,
            name,
            value,
        )


def test_the_automation_is_one_that_prefect_takes_and_waits_for_three_beats():
    """A proactive trigger on the heartbeat; every way of ending on purpose is among what is expected."""
    text = (AUTOMATIONS / "crash_silent_runs.yaml").read_text()
    wanted = Automation.model_validate(yaml.safe_load(text))
    beat = int(
        DEPLOYMENTS["pipeline"]["work_pool"]["job_variables"]["env"][
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
        ]
    )
    assert wanted.trigger.within.total_seconds() == 3 * beat
    assert {
        f"prefect.flow-run.{state}"
        for state in ("Completed", "Failed", "Cancelled", "Crashed", "Suspended")
    } <= set(wanted.trigger.expect)
    ends = {finding.capitalize() for finding in get_args(watch_steps.Finding)}
    for path in (ROOT / "flows").glob("*.py"):
        ends |= set(re.findall(r'Completed\(name="(\w+)"', path.read_text()))
    assert {"Unchanged", "Changed", "Drift"} <= ends
    assert {f"prefect.flow-run.{name}" for name in ends} <= set(wanted.trigger.expect)
    assert automate.comparable(wanted) == automate.comparable(
        Automation.model_validate(yaml.safe_load(text))
    )
    other = wanted.model_copy(update={"enabled": False})
    assert automate.comparable(other) != automate.comparable(wanted)


@pytest.mark.parametrize("path", sorted(AUTOMATIONS.iterdir()), ids=lambda path: path.stem)
def test_each_automation_is_one_that_prefect_takes(path):
    """With any ids in place of the names, and only for events that the flows or Prefect itself send."""
    fields = yaml.safe_load(path.read_text())
    for action in fields["actions"]:
        for name, target in (
            ("deployment_id", "retrain/retrain"),
            ("block_document_id", "webhook/"),
        ):
            if name in action:
                assert action[name].startswith(target)
                action[name] = str(uuid.UUID(int=7))
    automation = Automation.model_validate(fields)
    ours = {name for name in automation.trigger.expect if name.startswith("cxr.")}
    assert ours <= {
        events.DATA_CHANGED,
        events.GATE_FAILED,
        events.DRIFT,
        events.CHALLENGER_JUDGED,
        events.CHAMPION_CHANGED,
    }


@pytest.mark.parametrize("name", ["notify", "notify_crashed"])
def test_what_a_webhook_gets_is_json_whatever_the_texts_hold(name):
    """Quotes, line breaks and braces of a message end up in the text, not in the syntax."""
    from prefect.server.utilities.user_templates import render_user_template_sync

    fields = yaml.safe_load((AUTOMATIONS / f"{name}.yaml").read_text())
    odd = 'a "quoted"\nline {{ and }} a \\ for {% if %}'
    event = Event(
        event="cxr.gate.failed",
        resource={
            "prefect.resource.id": "cxr.data.x",
            "prefect.resource.name": odd,
            "prefect.state-message": odd,
        },
        payload={"text": odd},
        occurred=datetime.now(UTC),
    )
    content = json.loads(
        render_user_template_sync(fields["actions"][0]["payload"], {"event": event})
    )
    assert odd in content["text"] and content["about"] == odd
    assert content["event"] == "cxr.gate.failed" and content["occurred"].startswith("20")


def test_a_change_starts_one_retraining_after_the_last_event():
    """What triggers is that no further event comes: the events that begin the wait are those that prolong it.

    Without for_each it would fire once by itself.
    """
    fields = yaml.safe_load((AUTOMATIONS / "retrain.yaml").read_text())
    trigger = fields["trigger"]
    assert trigger["posture"] == "Proactive" and trigger["after"] == trigger["expect"]
    assert set(trigger["after"]) == {events.DATA_CHANGED, events.DRIFT}
    assert trigger["for_each"] == ["prefect.resource.id"]


@pytest.mark.parametrize(("name", "slug"), [("watch", "frequent"), ("monitor", "daily")])
def test_looks_are_scheduled_and_not_active_until_someone_says_so(name, slug):
    """In UTC; without the server's variables every run would fail."""
    (schedule,) = DEPLOYMENTS[name]["schedules"]
    assert CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"]).timezone == "UTC"
    assert schedule["active"] is False and schedule["slug"] == slug
    assert all("prefect.variables." in value for value in DEPLOYMENTS[name]["parameters"].values())


def test_what_is_watched_is_what_retraining_trains_on():
    """The same two variables of the server."""
    watch = DEPLOYMENTS["watch"]
    assert all(
        watch["parameters"][name] == DEPLOYMENTS["retrain"]["parameters"][name]
        for name in ("data", "out")
    )


@pytest.mark.parametrize("url", ["hooks.example.org/x", "file:///etc/passwd", "https://"])
def test_a_webhook_that_is_no_address_is_refused_without_being_shown(url, monkeypatch):
    """The address may be a secret: the error names the variable alone."""
    monkeypatch.setenv("CXR_WEBHOOK_URL", url)
    with pytest.raises(automate.AutomationError, match="CXR_WEBHOOK_URL") as refused:
        asyncio.run(automate.make_webhook())
    assert "example" not in str(refused.value) and "passwd" not in str(refused.value)


def test_compose_fits_together():
    """Services that are waited for exist and can be healthy; volumes are declared; only loopback is published."""
    services = COMPOSE["services"]
    assert {
        "postgres",
        "redis",
        "s3",
        "migrate",
        "server",
        "services",
        "register",
        "worker",
    } == set(services)
    for name, service in services.items():
        assert "image" in service, name
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in services[other], (
                name,
                other,
            )
            once = how["condition"] == "service_completed_successfully"
            assert not once or services[other]["restart"] == "on-failure", (name, other)
        assert all(
            volume.partition(":")[0] in COMPOSE["volumes"] for volume in service.get("volumes", [])
        )
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))
    asked = set(re.findall(r"\$\{(\w+):\?", (ROOT / "deployments" / "compose.yaml").read_text()))
    example = (ROOT / "deployments" / "env.example").read_text()
    assert asked == set(re.findall(r"^(\w+)=$", example, re.M)), (
        "every secret is in the example, without a value"
    )


def test_compose_settings_are_prefect_s():
    """Every PREFECT_ variable of the compose file is a setting that this version knows (Redis has its own package)."""
    from prefect.settings import get_current_settings
    from prefect.settings.legacy import _get_settings_fields

    known = set(_get_settings_fields(type(get_current_settings())))
    text = (ROOT / "deployments" / "compose.yaml").read_text()
    used = {
        name
        for name in re.findall(r"\b(PREFECT_[A-Z_]+):", text)
        if not name.startswith("PREFECT_REDIS_")
    }
    assert used and used <= known, used - known


def test_dockerfile_copies_what_there_is_and_runs_as_nobody_special():
    """Every copied path exists and is let through by the ignore file; the last user is not root; hashes are required."""
    text = (ROOT / "deployments" / "Dockerfile").read_text()
    let = (ROOT / "deployments" / "Dockerfile.dockerignore").read_text().split()
    for line in re.findall(r"^COPY (.+)$", text, re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists() and f"!{source}" in let, source
    assert re.findall(r"^USER (\S+)$", text, re.M)[-1] not in {"root", "0"}
    assert "--require-hashes" in text and "compileall" in text


def test_kubernetes_template_uses_and_declares_the_same_variables():
    """A placeholder without a variable would stay empty; a variable without a placeholder would do nothing."""
    template = json.loads((ROOT / "deployments" / "kubernetes.json").read_text())
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    assert used == set(template["variables"]["properties"])
    (container,) = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "{{ gpus }}"
    assert DEPLOYMENTS["pipeline-gpu"]["work_pool"]["job_variables"]["gpus"] == 1


def test_a_recorded_process_counts_only_with_its_token(tmp_path):
    """A process id that belongs to another process now (after a reboot, say) is not taken for ours, nor ended."""
    (tmp_path / "logs").mkdir()
    stack = Stack(tmp_path)
    stack.pids = {"server": os.getpid()}
    assert not stack.alive("server")
    environment = os.environ | {MARK: stack.token}
    sleeper = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"]
    with (
        subprocess.Popen(sleeper, stdout=subprocess.PIPE, env=environment) as ours,
        subprocess.Popen(
            sleeper, stdout=subprocess.PIPE, env=os.environ | {MARK: "of another stack"}
        ) as other,
    ):
        ours.stdout.readline(), other.stdout.readline()
        stack.pids["worker"] = ours.pid
        assert stack.alive("worker") and marked(stack.token) == [ours.pid]
        stack.save()
        Stack(tmp_path).down()
        assert ours.wait(timeout=10) < 0 and other.poll() is None
        other.kill()
    assert Stack(tmp_path).pids == {} and Stack(tmp_path).token == stack.token


def test_a_taken_port_is_told(tmp_path):
    """One line that names the port and the flag; nothing is started."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StackError, match=r"taken by another process.*--port"):
            _require_free("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(StackError):
            Stack(tmp_path).up(taken.getsockname()[1], "cxr-cpu")
        with pytest.raises(StackError, match="PREFECT_SERVER_API_AUTH_STRING"):
            Stack(tmp_path).up(0, "cxr-cpu", "0.0.0.0")  # open to others only with a password
    assert not (tmp_path / "stack.json").exists()
