"""`ctd explain --time`: every second between a drop and the push has its reason, whatever held it up."""

from __future__ import annotations

import io
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from rich.console import Console

from ctd.api.times import GapView, TimesView
from ctd.cli.render_times import times
from ctd.core.errors import ComponentFailed, TemporaryError
from tests.flow.bench import Bench

PUSHER = "  pusher: {kind: pusher, targets: [serving], require: [], approval: false}\n"


class Site(Bench):
    """A pipeline without a judge, whose work takes as long as it is told."""

    def save(self, **changes: str) -> None:
        """Write the spec, nodes changed as text: `trainer="when: manual"`."""
        spec = self.spec()
        text = spec.read_text() + PUSHER
        for node, said in changes.items():
            text = text.replace(f"  {node}: {{", f"  {node}: {{{said}, ").replace(
                ", approval: false", "", node == "pusher"
            )
        spec.write_text(text)

    def work(self, *nodes: str, took: float = 1.0) -> None:
        """What runs of these nodes ends well after so many seconds."""
        for node in nodes:
            self.clock.forward(seconds=took)
            for request in self.running(node):
                if node == "pusher":
                    version = len(self.executions("pusher"))
                    place = self.root / f"serving/taxi/{version}"
                    place.mkdir(parents=True)
                    self._succeed(request, pushed=1, pushed_version=version, pushed_destination=str(place), verified=0)
                else:
                    self._succeed(request)
            self.tick()

    def wait(self, seconds: float) -> None:
        self.clock.forward(seconds=seconds)
        self.tick()

    @property
    def view(self) -> TimesView:
        return self.views().times("taxi")


NODES = ("examples", "statistics", "validator", "trainer", "pusher")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A model of span 1 is live."""
    made = Site(tmp_path)
    (tmp_path / "deploy_targets").joinpath("serving.yaml").write_text(
        "target: serving\nkind: tf_serving\npath: ../serving/{pipeline}\n"
    )
    made.save()
    made.start()
    made.span(1)
    made.tick()
    made.work("examples", "schema", "statistics", "validator", "trainer", "pusher")
    made.clock.forward(seconds=600)
    made.tick()
    return made


def gaps(view: TimesView) -> list[tuple[str, str, float]]:
    """What held the path up: before which node, what, and for how long."""
    return [(s.node, g.kind, g.seconds) for s in view.steps for g in s.gaps if g.seconds >= 0.1]


def said(view: TimesView, kind: str) -> str:
    (found,) = (g.said for s in view.steps for g in s.gaps if g.kind == kind)
    return found


def accounted(view: TimesView) -> None:
    """Gaps and steps of the path lie end to end from the beginning to the end."""
    at = 0.0
    for step in (s for s in view.steps if s.critical):
        stretches: list[GapView] = list(step.gaps)
        for gap in stretches:
            assert gap.start == pytest.approx(at, abs=0.002)
            at = gap.end
        assert step.start == pytest.approx(at, abs=0.002)
        at = step.end
    assert at == pytest.approx(view.seconds, abs=0.002)


def shown(view: TimesView) -> str:
    console = Console(width=160, file=io.StringIO(), highlight=False, color_system=None)
    console.print(times(view))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_anything_in_the_way_there_is_nothing_to_tell(site: Site) -> None:
    site.span(2)
    site.tick()
    site.work(*NODES)
    assert (gaps(site.view), site.view.seconds) == ([], 5.0)
    accounted(site.view)


@pytest.mark.parametrize("node", ["", "trainer"])
def test_a_pause_in_the_middle_is_told_to_the_tenth_of_a_second(site: Site, node: str) -> None:
    site.span(2)
    site.tick()
    site.work("examples")
    site.ask("pause", node, reason="the disk is being swapped")
    site.work("statistics", "validator")
    site.wait(5.3)
    site.ask("resume", node)
    site.tick()
    site.work("statistics", "validator", "trainer", "pusher")
    # The validator was to begin when the statistics ended, and the trainer after it.
    assert gaps(site.view) == [("trainer", "paused", 5.3) if node else ("validator", "paused", 6.3)]
    assert "was paused by ana: the disk is being swapped" in said(site.view, "paused")
    accounted(site.view)
    assert "paused by ana: the disk is being swapped" in shown(site.view)
    assert any("paused by ana" in fact for fact in site.view.shorter)


def test_a_pause_before_the_span_is_read_is_part_of_the_way(site: Site) -> None:
    site.ask("pause")
    site.span(2)
    site.tick()
    site.wait(5.3)
    site.ask("resume")
    site.tick()
    site.work(*NODES)
    assert gaps(site.view) == [("examples", "paused", 5.3)]
    accounted(site.view)


def test_a_long_pause_does_not_cut_the_way_short(site: Site) -> None:
    site.span(2)
    site.tick()
    site.work("examples", "statistics", "validator")
    site.ask("pause", "pusher")
    site.work("trainer")
    site.wait(3600)
    site.ask("resume", "pusher")
    site.tick()
    site.work("pusher")
    assert gaps(site.view) == [("pusher", "paused", 3600.0)]
    assert site.view.steps[0].node == "examples"
    accounted(site.view)


def test_approvals_are_told_with_who_gave_them(site: Site) -> None:
    site.save(pusher="approval: true")
    site.tick()
    site.span(2)
    site.tick()
    site.work("examples", "statistics", "validator", "trainer")
    site.wait(900)
    site.ask("approve", "pusher")
    site.tick()
    site.work("pusher")
    assert gaps(site.view) == [("pusher", "approval", 900.0)]
    assert "given by ana" in said(site.view, "approval")
    accounted(site.view)


def test_times_of_nodes_and_requests_not_to_wait_for_them_are_told(site: Site) -> None:
    site.save(trainer="when: schedule, schedule: {cron: '0 3 * * *'}")
    site.span(2)
    site.tick()
    site.work("examples", "statistics", "validator")
    site.clock.forward(seconds=(datetime(2026, 1, 1, 3, tzinfo=timezone.utc) - site.clock.now()).total_seconds())
    site.tick()
    site.work("trainer", "pusher")
    ((node, kind, seconds),) = gaps(site.view)
    assert (node, kind) == ("trainer", "schedule")
    assert seconds > 9000
    accounted(site.view)
    site.span(3)
    site.tick()
    site.work("examples", "statistics", "validator")
    site.wait(100)
    site.ask("run-now", "trainer")
    site.tick()
    site.work("trainer", "pusher")
    assert gaps(site.view) == [("trainer", "schedule", 100.0)]
    assert "until a run was asked by ana" in said(site.view, "schedule")
    accounted(site.view)


def test_failed_attempts_and_what_follows_them_are_on_the_way(site: Site) -> None:
    site.span(2)
    site.tick()
    site.work("examples", "statistics", "validator")
    site.clock.forward(seconds=2)
    site.fail("trainer", TemporaryError("the disk is away", hint="wait"))
    site.tick()
    site.wait(60)
    site.work("trainer", "pusher")
    assert [s.state for s in site.view.steps if s.node == "trainer"] == ["failed", "succeeded"]
    assert gaps(site.view) == [("trainer", "failed", 60.0)]
    assert "failed: the disk is away; until the next attempt" in said(site.view, "failed")
    assert "trainer (failed)" in shown(site.view)
    accounted(site.view)


@pytest.mark.parametrize("mended", ["the code", "a retry"])
def test_what_failed_for_good_leads_on_to_what_a_person_did_about_it(site: Site, mended: str) -> None:
    site.span(2)
    site.tick()
    site.work("examples", "statistics", "validator")
    site.clock.forward(seconds=2)
    site.fail("trainer", ComponentFailed("name 'x' is not defined", hint="Mend model.py."))
    site.tick()
    site.wait(1000)
    if mended == "the code":
        (site.root / "model.py").write_text("def run_fn(fn_args):\n    print()\n")
    else:
        site.ask("retry", "trainer")
    site.tick()
    site.work("trainer", "pusher")
    assert site.view.steps[0].node == "examples", "the way begins with the span, not with the edit"
    assert gaps(site.view) == [("trainer", "failed", 1000.0)]
    accounted(site.view)


def test_slots_are_told_as_before_and_belong_to_the_sum(tmp_path: Path) -> None:
    site = Site(tmp_path, parallel=1)
    (tmp_path / "deploy_targets/serving.yaml").write_text("target: serving\nkind: tf_serving\npath: ../serving\n")
    site.save()
    site.start()
    site.span(1)
    site.tick()
    for _ in range(6):
        for node in {request.node for request in site.running()}:
            site.work(node)
    assert {kind for _, kind, _ in gaps(site.view)} <= {"slot", "others"}
    accounted(site.view)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_daemon_that_was_down_is_told(site: Site, how: str) -> None:
    site.span(2)
    site.tick()
    site.work("examples", "statistics", "validator")
    site.clock.forward(seconds=3)
    site.stop() if how == "stop" else site.kill()
    site.clock.forward(seconds=500)
    site.start().tick()
    site.work("trainer", "pusher")
    told = gaps(site.view)
    states = [(s.node, s.state, s.end - s.start) for s in site.view.steps if s.node == "trainer"]
    if how == "stop":
        assert told == [("trainer", "down", 500.0)]
        assert states == [("trainer", "abandoned", 3.0), ("trainer", "succeeded", 1.0)]
    else:
        assert told == []
        assert states == [("trainer", "abandoned", 503.0), ("trainer", "succeeded", 1.0)]
    accounted(site.view)


def test_a_daemon_that_was_down_between_two_nodes_is_told(site: Site) -> None:
    site.span(2)
    site.tick()
    site.work("examples", "statistics")
    site.ask("pause", "trainer")
    site.work("validator")
    site.kill()
    site.clock.forward(seconds=500)
    site.start().tick()
    site.wait(100)
    site.ask("resume", "trainer")
    site.tick()
    site.work("trainer", "pusher")
    assert gaps(site.view) == [("trainer", "paused", 600.0)]
    accounted(site.view)


def test_what_another_push_did_meanwhile_is_not_listed(site: Site) -> None:
    """The model of span 1, with other settings, is pushed while span 2 is read."""
    spec = site.root / "specs/taxi.yaml"
    spec.write_text(spec.read_text().replace("train_steps: 100", "train_steps: 200"))
    site.tick()
    site.work("trainer")
    other = site.running("pusher")[0].execution_id
    site.span(2)
    site.tick()
    site.work("examples")
    site.work("pusher")
    site.work("statistics", "validator", "trainer", "pusher")
    assert site.view.result == "version 3"
    assert other not in {step.execution for step in site.view.steps}
    accounted(site.view)


def test_a_span_that_was_accepted_after_a_refusal_tells_of_that(site: Site) -> None:
    site.span(2)
    site.tick()
    site.work("examples", "statistics")
    site.clock.forward(seconds=1)
    site.finish("validator", blessed=0, reason="fare: out of range")
    site.tick()
    site.wait(700)
    site.ask("accept", span="2")
    site.tick()
    site.work("trainer", "pusher")
    assert gaps(site.view) == [("trainer", "asked", 700.0)]
    assert said(site.view, "asked") == "until accept span-2 was asked by ana: so be it"
    accounted(site.view)


def test_whatever_comes_together_lies_end_to_end(site: Site) -> None:
    site.ask("pause")
    site.span(2)
    site.tick()
    site.wait(7)
    site.ask("resume")
    site.tick()
    site.work("examples")
    site.ask("pause", "trainer")
    site.work("statistics", "validator")
    site.wait(11)
    site.kill()
    site.clock.forward(seconds=timedelta(minutes=3).total_seconds())
    site.start().tick()
    site.ask("resume", "trainer")
    site.tick()
    site.clock.forward(seconds=2)
    site.fail("trainer", TemporaryError("the disk is away", hint="wait"))
    site.tick()
    site.wait(60)
    site.work("trainer", "pusher")
    assert [kind for _, kind, _ in gaps(site.view)] == ["paused", "paused", "failed"]
    accounted(site.view)
