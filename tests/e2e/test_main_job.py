"""The main job as a user has it: drop a span, get a model served; then everything that happens in a week."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ctd.core.executions import State
from examples.taxi.generate import write_day
from tests.e2e.clients import answers_in_process, answers_over_grpc, answers_over_rest, records_of, version_of
from tests.e2e.site import DAY, Daemon, Server, Site, eventually, serving

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.of_taxi(tmp_path_factory.mktemp("taxi"))


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Server]:
    with serving(site.serving, "taxi") as running:
        target = site.root / "deploy_targets/serving.yaml"
        kept = [line for line in target.read_text().splitlines() if "server:" not in line]
        target.write_text("\n".join([*kept, f"server: {{grpc: '{running.grpc}'}}", ""]))
        yield running


@pytest.fixture(scope="module")
def daemon(site: Site, server: Server) -> Iterator[Daemon]:
    still = site.held("worker.made.trainer")
    site.let_go()
    with site.daemon(**still) as running:
        yield running


def test_a_dropped_span_becomes_a_served_model(site: Site, server: Server, daemon: Daemon) -> None:
    site.until("examples", "waiting")
    write_day(site.root / "data", DAY)
    live = site.until_live(1)
    assert live["verified"], "the server was asked, and serves it"
    assert version_of(server, "taxi") == 1
    records = records_of(site, "Split-eval", 10)
    expected = answers_in_process(site, records)
    assert answers_over_rest(server, "taxi", records) == pytest.approx(expected, abs=1e-6)
    assert answers_over_grpc(server, "taxi", records) == pytest.approx(expected, abs=1e-6)


def test_the_request_that_ctd_prints_is_answered(site: Site, server: Server, daemon: Daemon) -> None:
    rest = server.rest.removeprefix("http://")
    said = json.loads(site.ctd("request", "taxi", "--row", '{"fare": 12.5}', "--rest", rest, "--json"))
    assert (said["version"], said["row"]["fare"], "tips" in said["row"]) == (1, 12.5, False)
    record = base64.b64decode(said["rest"]["body"]["instances"][0]["b64"])
    assert answers_over_rest(server, "taxi", [record]) == pytest.approx(answers_in_process(site, [record]), abs=1e-6)
    assert server.grpc in said["python"], "the target's file says where the server is"
    assert said["serve"] == ""


def test_the_daemon_is_small_answers_while_a_node_trains_and_has_no_tensorflow(
    site: Site, server: Server, daemon: Daemon
) -> None:
    with site.standing_still():
        write_day(site.root / "data", DAY + timedelta(days=1))
        daemon.wait_for("execution started", node="trainer", attempt=1, key="spans 2024-03-01..2024-03-02 (2)")
        site.until("trainer", "running")
        loaded = Path(f"/proc/{daemon.process.pid}/maps").read_text()
        assert "tensorflow" not in loaded
        assert site.ask("/status")["daemon"]["memory_mb"] < 150


def test_a_second_span_runs_what_it_affects_and_meets_the_blessed_model(
    site: Site, server: Server, daemon: Daemon
) -> None:
    site.until_live(2)
    eventually("the server answers with version 2", lambda: version_of(server, "taxi") == 2)
    started = [e for e in daemon.events if e["event"] == "execution started"]
    assert sum(e["node"] == "schema" for e in started) == 1
    assert [e["key"] for e in started if e["node"] == "examples"] == ["span-2024-03-01.v1", "span-2024-03-02.v1"]
    verdict = [e for e in daemon.events if e["event"] == "execution ended" and e.get("piece") == "verdict"][-1]
    assert "baseline" in verdict["result"]


def test_a_threshold_edit_judges_again_and_nothing_else(site: Site, server: Server, daemon: Daemon) -> None:
    before = len(daemon.events)
    site.edit(site.spec, "at_least: 0.75", "at_least: 0.999")
    site.until("pusher", "blocked", because="BinaryAccuracy")
    started = [(e["node"], e["piece"]) for e in daemon.events[before:] if e["event"] == "execution started"]
    assert started == [("evaluator", "verdict")]
    assert "0.9990" in site.node("pusher")["because"]
    site.edit(site.spec, "at_least: 0.999", "at_least: 0.7")
    site.until("pusher", "up to date")
    assert site.versions() == [1, 2], "the same model is not pushed again"


def test_a_half_copied_span_waits_with_the_reason(site: Site, server: Server, daemon: Daemon) -> None:
    write_day(site.root / "data", DAY + timedelta(days=2), half=True)
    site.until("examples", "waiting", because="no _SUCCESS yet")
    assert site.node("trainer")["state"] == "up to date"


def test_a_spec_with_a_typo_is_refused_and_everything_goes_on(site: Site, server: Server, daemon: Daemon) -> None:
    good = site.spec.read_text()
    line = next(n for n, text in enumerate(good.splitlines(), 1) if "train_steps" in text)
    site.edit(site.spec, "train_steps", "train_stepz")

    def refused() -> list[dict[str, Any]]:
        return list(site.status()["problems"])

    (problem,) = eventually("the problem is shown", refused)
    assert (problem["file"], problem["line"]) == (str(site.spec), line)
    assert "train_steps" in problem["hint"]
    assert site.node("trainer")["state"] == "up to date"
    site.spec.write_text(good)
    eventually("the problem is gone", lambda: not site.status()["problems"])


def test_the_same_bytes_again_are_no_new_work(site: Site, server: Server, daemon: Daemon) -> None:
    before = sum(e["event"] == "execution started" for e in daemon.events)
    write_day(site.root / "data", DAY)
    write_day(site.root / "data", DAY + timedelta(days=3), half=True)  # who has seen this has seen what was before it

    def looked() -> dict[str, str]:
        said = {d["key"]: d["action"] for d in site.ask("/plan/taxi")["decisions"] if d["node"] == "examples"}
        return said if "span-2024-03-04.v1" in said else {}

    assert eventually("a look at the pipeline after the event", looked) == {
        "span-2024-03-01.v1": "reuse",
        "span-2024-03-02.v1": "reuse",
        "span-2024-03-03.v1": "wait",
        "span-2024-03-04.v1": "wait",
    }
    assert sum(e["event"] == "execution started" for e in daemon.events) == before


def test_a_deleted_push_is_pushed_again(site: Site, server: Server, daemon: Daemon) -> None:
    gone = site.serving / str(max(site.versions()))
    gone.rename(site.root / "taken-away")
    site.until_live(3)
    eventually("the server answers with version 3", lambda: version_of(server, "taxi") == 3)


def test_it_stops_when_asked_and_leaves_nothing_open(site: Site, server: Server, daemon: Daemon) -> None:
    assert daemon.stop() == 0
    assert not [e for e in site.executions() if e.state is State.RUNNING]
    assert not any((site.state / "staging").iterdir())
    assert "taxi" in site.ctd("status", ok=(0, 3))
