"""Where the seconds of a push went: which executions waited for one another, and what the others had to spare."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from planning_world import pipeline
from rich.console import Console

from ctd.cli.render_times import times
from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.errors import NotFound
from ctd.core.executions import PHASES, Execution, State
from ctd.core.history import History
from ctd.daemon.times import times_view
from ctd.planning.critical import CriticalPath, critical_path, last_push
from ctd.planning.shorter import DOING, shorter
from ctd.specs.pipeline import PipelineSpec

T = ArtifactType
NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@dataclass
class Told:
    """A history told by the seconds. Every execution makes one artifact, whose id is its own."""

    spec: PipelineSpec = field(default_factory=pipeline)
    history: History = field(default_factory=History)
    count: int = 0

    def ran(self, node: str, start: float, end: float | None, type_: ArtifactType, **more: Any) -> int:
        self.count += 1
        made = {"made": (Artifact(type_, f"/{self.count}", id=self.count),)}
        piece = more.pop("piece", "")
        said = {"key": f"{node} {self.count}", "fingerprint": f"{node} {self.count}", **more}
        self.history.record(
            Execution(
                pipeline="taxi",
                node=node,
                piece=piece,
                kind=self.spec.nodes[node].kind,
                started=at(start),
                state=State.RUNNING if end is None else said.pop("state", State.SUCCEEDED),
                ended=None if end is None else at(end),
                outputs=made if end is not None else {},
                id=self.count,
                **said,
            )
        )
        return self.count

    def push(self) -> None:
        """Span 7 is read, and its model pushed: ten seconds from its arrival."""
        timings = {"notice": 0.2, "settle": 0.7, "wait": 0.1}
        examples = self.ran("examples", 1, 2, T.EXAMPLES, timings=timings, because="new span")
        statistics = self.ran("statistics", 2, 2.5, T.STATISTICS, inputs={"examples": (examples,)})
        self.ran("validator", 2.5, 3, T.ANOMALIES, inputs={"statistics": (statistics,)})
        graph = self.ran("transform", 3, 5, T.TRANSFORM_GRAPH, inputs={"examples": (examples,)})
        model = self.ran("trainer", 5.5, 7, T.MODEL, inputs={"graph": (graph,)}, timings={"wait": 0.5, "run": 1.4})
        infra = self.ran("infra", 7, 8, T.INFRA_BLESSING, inputs={"model": (model,)})
        metrics = self.ran("evaluator", 7, 8.5, T.EVALUATION, piece="metrics", inputs={"model": (model,)})
        verdict = self.ran("evaluator", 8.5, 9, T.MODEL_BLESSING, piece="verdict", inputs={"evaluation": (metrics,)})
        self.ran("pusher", 9, 10, T.PUSHED_MODEL, piece="serving", inputs={"a": (verdict,), "b": (infra, model)})

    @property
    def path(self) -> CriticalPath:
        push = last_push(self.history, "taxi")
        assert push is not None
        return critical_path(self.history, self.spec, push)


@pytest.fixture
def told() -> Told:
    made = Told()
    made.push()
    return made


def on_path(path: CriticalPath) -> list[str]:
    return [step.execution.node for step in path.critical]


def seconds(path: CriticalPath, what: str) -> Mapping[str, float]:
    return {step.execution.node: getattr(step, what).total_seconds() for step in path.steps}


def test_the_path_leads_from_the_arrival_over_verdicts_on_spans_to_the_push(told: Told) -> None:
    path = told.path
    chain = ["examples", "statistics", "validator", "transform", "trainer", "evaluator", "evaluator", "pusher"]
    assert on_path(path) == chain
    assert (path.begins, path.ends) == (NOON, at(10))
    assert [s.execution.node for s in path.steps if not s.critical] == ["infra"]


def test_what_ran_beside_the_path_had_time_to_spare_and_the_path_had_none(told: Told) -> None:
    slack = seconds(told.path, "slack")
    assert slack.pop("infra") == 1.0
    assert set(slack.values()) == {0.0}


def test_what_is_gained_without_a_step_ends_where_another_becomes_the_longest(told: Told) -> None:
    gains = {
        ".".join(filter(None, (s.execution.node, s.execution.piece))): s.gain.total_seconds() for s in told.path.steps
    }
    assert gains["trainer"] == 1.5
    assert gains["evaluator.metrics"] == 1.0, "then the InfraValidator would have been waited for"
    assert gains["infra"] == 0.0
    assert gains["validator"] == 0.5


def test_executions_that_overlap_without_needing_each_other_are_beside(told: Told) -> None:
    other = told.ran("examples", 4, 9.5, T.EXAMPLES)
    told.ran("statistics", 9.6, 12, T.STATISTICS, inputs={"examples": (other,)})
    told.ran("trainer", 2.2, None, T.MODEL)
    path = told.path
    assert len(path.critical) == 8
    assert "infra" in [s.execution.node for s in path.steps if not s.critical]
    assert all(s.execution.id <= path.push.id for s in path.steps), "what began after the push is not of it"


def test_an_edit_begins_a_path_of_its_own_however_soon_it_came(told: Told) -> None:
    before = told.history.execution(8)
    assert before is not None
    verdict = told.ran(
        "evaluator", 11, 11.2, T.MODEL_BLESSING, piece="verdict", key=before.key, inputs=before.inputs,
        ingredients={"settings": {"at_least": 0.7}}, because="at_least 0.6 -> 0.7",
    )  # fmt: skip
    told.ran("pusher", 11.2, 11.5, T.PUSHED_MODEL, piece="serving", inputs={"a": (verdict,)})
    path = told.path
    assert on_path(path) == ["evaluator", "pusher"]
    assert (path.root.because, path.begins) == ("at_least 0.6 -> 0.7", at(11))


def test_what_something_old_made_was_not_waited_for(told: Told) -> None:
    schema = told.ran("schema", -5000, -4999, T.SCHEMA)
    examples = told.ran("examples", 100, 101, T.EXAMPLES, inputs={"schema": (schema,)})
    model = told.ran("trainer", 101, 102, T.MODEL, inputs={"examples": (examples, 1)})
    told.ran("pusher", 102, 103, T.PUSHED_MODEL, piece="serving", inputs={"model": (model,)})
    assert on_path(told.path) == ["examples", "trainer", "pusher"]
    assert told.path.begins == at(100)


def test_a_failed_attempt_and_the_pause_after_it_are_part_of_the_path() -> None:
    told = Told()
    examples = told.ran("examples", 0, 1, T.EXAMPLES)
    same = {"inputs": {"examples": (examples,)}, "fingerprint": "f", "key": "span 1"}
    told.ran("trainer", 1, 2, T.MODEL, state=State.FAILED, **same)
    model = told.ran("trainer", 42, 44, T.MODEL, attempt=2, **same)
    told.ran("pusher", 44, 45, T.PUSHED_MODEL, piece="serving", inputs={"model": (model,)})
    assert on_path(told.path) == ["examples", "trainer", "trainer", "pusher"]


def test_what_would_make_it_shorter_is_computed_and_the_dearest_comes_first() -> None:
    told = Told(spec=pipeline(examples={"complete": {"quiet": "30s"}}))
    read = {"settle": 30.0, "wait": 2.5, "start": 3.5, "read": 0.5, "run": 0.25}
    spans = tuple(told.ran("examples", 32.5 + n, 37.5, T.EXAMPLES, timings=read) for n in (0.0, 0.1))
    model = told.ran("trainer", 37.5, 45, T.MODEL, inputs={"transformed_examples": spans}, timings={"run": 7.0})
    told.ran("pusher", 45, 46, T.PUSHED_MODEL, piece="serving", inputs={"model": (model,)})
    said = shorter(told.path, told.spec)
    assert said[0].startswith("examples waited 30s for examples ")
    assert "`complete: {quiet: 30s}` waits that long; a marker would begin at once" in said[0]
    assert said[1] == (
        "trainer took 7.5s, 7s of it computing, over the 2 spans of its window: without it the end would have come "
        "7.5s sooner"
    )
    assert any(s.startswith("examples took 3.5s to get its process and libraries: no warm template") for s in said)
    assert any(s.startswith("examples waited 2.5s for a slot: more of them (`ctd run --parallel`)") for s in said)
    assert said[-1].startswith("making these quicker changes nothing: examples ")


def test_every_phase_that_is_recorded_has_a_word_and_all_are_in_order() -> None:
    assert tuple(DOING) == PHASES


def shown(told: Told, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), highlight=False, color_system=None)
    console.print(times(times_view(told.spec, told.history, None)))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_people_see_a_table_bars_side_by_side_and_what_would_help(told: Told) -> None:
    lines = shown(told, 140)
    assert lines[0].startswith("taxi: 10s from the arrival of examples 1 to the end of execution 9")
    (table,) = (line.split() for line in lines if line.split()[:2] == ["trainer", "5.50"])
    assert table == ["trainer", "5.50", "1.50", "0.50", "1.40", "0.10", "on", "the", "path"]
    bars = {line.split()[0]: line for line in lines if "█" in line or "▒" in line}
    columns = len(bars["infra"].split()[0]) and (119 - len("evaluator.metrics") - 1)
    assert bars["infra"].count("▒") in {columns // 10, columns // 10 + 1}
    assert bars["trainer"].index("█") < bars["infra"].index("▒") == bars["evaluator.metrics"].index("█")
    assert "·" in bars["trainer"], "it waited for a slot"
    assert lines[lines.index("What would make it shorter") + 1 :]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_bars_keep_to_the_width(told: Told, width: int) -> None:
    assert max(len(line) for line in shown(told, width) if "█" in line or "▒" in line) <= width


def test_without_a_push_it_says_what_to_ask_for(told: Told) -> None:
    with pytest.raises(NotFound, match="nothing was pushed yet by taxi"):
        times_view(told.spec, History(), None)
    with pytest.raises(NotFound, match="nothing was known of an execution 99 of taxi"):
        times_view(told.spec, told.history, 99)
    running = told.ran("trainer", 20, None, T.MODEL)
    with pytest.raises(NotFound, match="has not ended"):
        times_view(told.spec, told.history, running)
    assert times_view(told.spec, told.history, 5).seconds == 7.0
