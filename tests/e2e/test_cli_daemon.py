"""The commands beside a real daemon, and on the state directory that it leaves."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from ctd.api.models import ExplainView, PlanView, StatusView
from ctd.api.times import TimesView
from tests.e2e.site import CTD, Site, eventually

pytestmark = pytest.mark.e2e

SCHEMA = 'feature { name: "fare" type: FLOAT }\n'


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A pipeline that needs no TensorFlow: it imports a schema."""
    made = Site(tmp_path, "light")
    for folder in ("specs", "deploy_targets"):
        (tmp_path / folder).mkdir()
    made.spec.write_text(
        "pipeline: light\nnodes:\n  schema: {kind: importer, artifact: Schema, path: ../schema.pbtxt}\n"
    )
    (tmp_path / "schema.pbtxt").write_text(SCHEMA)
    return made


def ask(site: Site, *arguments: str, ok: tuple[int, ...] = (0,)) -> Any:
    return json.loads(site.ctd(*arguments, "--json", ok=ok))


def once(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [CTD, "run", "--once", "--no-warm", *site.places(), *arguments]
    # Not the environment of C: pytest loads readline, which sets COLUMNS there.
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=dict(os.environ))


def without_ages(status: Any) -> Any:
    return [{key: value for key, value in p.items() if key != "live"} for p in status["pipelines"]]


def test_answers_of_the_daemon_and_of_its_state_directory_are_the_same(site: Site) -> None:
    with site.daemon("--no-warm") as daemon:
        ended = daemon.wait_for("execution ended", node="schema")
        assert ended["state"] == "succeeded"
        site.until("schema", "up to date")
        status, plan = ask(site, "status"), ask(site, "plan")
        explained = ask(site, "explain", "light", "schema")
        path = ask(site, "explain", "light", "--time", "--execution", str(ended["execution"]))
        log = site.ctd("logs", "light", "schema")
        assert StatusView.model_validate(status).daemon is not None
        assert status["daemon"]["pid"] == daemon.process.pid
        assert "daemon " in site.ctd("status")
        assert daemon.stop() == 0
    assert ask(site, "plan") == plan
    assert [d.action for d in PlanView.model_validate(plan).decisions] == ["reuse"]
    assert ask(site, "explain", "light", "schema") == explained
    assert [e.state for e in ExplainView.model_validate(explained).executions] == ["succeeded"]
    assert ask(site, "explain", "light", "--time", "--execution", str(ended["execution"])) == path
    (step,) = TimesView.model_validate(path).steps
    assert {"waiting", "starting", "importing", "computing", "publishing"} <= step.phases.keys()
    assert sum(step.phases.values()) == pytest.approx(step.end, abs=0.01), "no second is unaccounted for"
    bars = site.ctd("explain", "light", "--time", "--execution", str(ended["execution"]))
    assert "schema" in bars
    assert "What would make it shorter" in bars
    assert site.ctd("logs", "light", "schema") == log == site.ctd("logs", str(ended["execution"]))
    assert "ctd.components.importer" in log
    after = ask(site, "status")
    assert after["daemon"] is None
    assert without_ages(after) == without_ages(status)
    assert "No daemon works on" in site.ctd("status")


def test_questions_while_something_runs(site: Site) -> None:
    with site.daemon("--no-warm", **site.held()) as daemon:
        number = str(daemon.wait_for("execution started")["execution"])
        site.until("schema", "running")
        assert "running, attempt 1" in site.ctd("plan", "light")
        threading.Timer(0.5, site.let_go).start()  # while it follows
        followed = site.ctd("logs", "-f", number)
        assert "ended: succeeded" in followed, "it follows to the end"
        assert site.until("schema", "up to date")["latest"]["execution"] == int(number)
        assert site.ctd("logs", number, "-n", "1") == followed.splitlines(keepends=True)[-1]


def test_what_people_ask_for_is_done_and_outlives_the_daemon(site: Site) -> None:
    me = pwd.getpwuid(os.getuid()).pw_name
    with site.daemon("--no-warm", **site.held()) as daemon:
        number = str(daemon.wait_for("execution started")["execution"])
        assert "paused" in site.ctd("pause", "light", "--reason", "wait for ana")
        assert f"execution {number} of light schema is told to stop" in site.ctd("cancel", number, "--reason", "wrong")
        assert daemon.wait_for("execution ended")["state"] == "cancelled"
        site.let_go()
        blocked = site.until("schema", "blocked")
        assert blocked["because"] == f"execution {number} was cancelled by {me}: wrong"
        (taken,) = ask(site, "retry", "light", "schema")["requests"]
        assert (taken["verb"], taken["node"], taken["who"]) == ("retry", "schema", me)
        site.until("schema", "waiting")
        assert site.ctd("pause", "light", ok=(1,)) == "", "it is paused already"
        assert daemon.stop() == 0
    paused = f"paused by {me}: wait for ana"
    assert ask(site, "status", ok=(3,))["pipelines"][0]["pauses"] == [f"light is {paused}"]
    assert paused in ask(site, "plan")["decisions"][0]["because"]
    assert [r["verb"] for r in ask(site, "explain", "light")["requests"]] == ["pause", "cancel", "retry"]
    assert "Requests, newest first" in site.ctd("explain", "light")
    with site.daemon("--no-warm") as daemon:
        daemon.wait_for("daemon started")
        site.until("schema", "waiting")
        eventually("a socket", lambda: site.ctd("resume", "light", "--reason", "ana came", ok=(0, 1)).count("goes on"))
        assert daemon.wait_for("execution ended")["state"] == "succeeded"


def test_errors_of_the_daemon_read_like_those_without_one(site: Site) -> None:
    wrong = (["explain", "ligth"], ["explain", "light", "shema"], ["logs", "99"], ["status", "a/b?c"], ["plan", ""])

    def said() -> list[tuple[int, str]]:
        done = [
            subprocess.run([CTD, a[0], *site.places(), *a[1:]], capture_output=True, text=True, check=False)
            for a in wrong
        ]
        return [(d.returncode, d.stderr) for d in done]

    with site.daemon("--no-warm") as daemon:
        daemon.wait_for("execution ended")
        online = said()
    assert [code for code, _ in online] == [2] * len(wrong)
    assert "Did you mean 'light'?" in online[0][1]
    assert "Did you mean 'schema'?" in online[1][1]
    assert said() == online


def test_a_second_daemon_is_refused_with_75_and_names_the_first(site: Site) -> None:
    with site.daemon("--no-warm") as daemon:
        daemon.wait_for("daemon started")
        second = once(site)
        assert second.returncode == 75
        assert f"pid {daemon.process.pid}" in second.stderr
        assert "Traceback" not in second.stderr


def test_a_killed_daemon_leaves_a_socket_that_nobody_takes_for_a_daemon(site: Site) -> None:
    with site.daemon("--no-warm", **site.held()) as daemon:
        daemon.wait_for("execution started")
        eventually("the socket is there", (site.state / "ctd.sock").exists)
        daemon.kill()
        said = site.ctd("status")
        assert "No daemon works on" in said
        assert "abandoned" in said
        assert "was abandoned when the daemon died: once more" in site.ctd("plan")


@pytest.mark.parametrize("form", ["plain", "json"])
def test_one_run_says_what_happened_and_how_it_ended(site: Site, form: str) -> None:
    done = once(site, "--log-format", form)
    assert (done.returncode, done.stderr) == (0, "")
    if form == "json":
        events = [json.loads(line) for line in done.stdout.splitlines()]
        assert [e["event"] for e in events if e.get("node")] == ["execution started", "execution ended"]
        assert events[-1]["event"] == "summary"
        assert events[-1]["pipelines"][0]["state"] == "as wanted"
    else:
        assert "light/schema: execution 1 succeeded in " in done.stdout
        assert done.stdout.splitlines()[-1].startswith("light  ✓ as wanted")


def test_a_run_with_an_invalid_spec_does_the_rest_and_ends_with_2(site: Site) -> None:
    (site.root / "specs/bad.yaml").write_text("pipeline: bad\nnodes:\n  a: {kind: importr}\n")
    done = once(site)
    assert done.returncode == 2
    assert "bad.yaml:3" in done.stdout
    assert "Did you mean 'importer'?" in done.stdout
    assert "execution 1 succeeded" in done.stdout


def test_a_run_whose_work_failed_ends_with_1_and_says_why(site: Site) -> None:
    (site.root / "schema.pbtxt").write_text("feature { nme: 1 }\n")
    done = once(site)
    assert done.returncode == 1
    assert "✗ failed" in done.stdout
    assert "schema.pbtxt" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "error" in site.ctd("explain", "light", "schema")
    assert site.ctd("status", ok=(1,))


def test_a_run_that_waits_for_data_ends_with_3_and_says_for_what(site: Site) -> None:
    site.spec.write_text(
        "pipeline: light\nnodes:\n"
        "  examples: {kind: example_gen, input: '../data/{SPAN}', complete: {marker: _SUCCESS}}\n"
    )
    (site.root / "data/1").mkdir(parents=True)
    (site.root / "data/1/trips.csv").write_text("fare\n1.5\n")
    done = once(site)
    assert done.returncode == 3
    assert "span-1: no _SUCCESS yet" in done.stdout
