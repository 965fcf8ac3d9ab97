"""What people read: status, plans and explanations at any width, and the stream of events."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import resource
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ctd.api.models import (
    DaemonView,
    DecisionView,
    ExecutionView,
    ExplainView,
    LiveView,
    NodeView,
    PipelineView,
    PlanView,
    ProblemView,
    StatusView,
    TroubleView,
)
from ctd.cli import render, render_explain
from ctd.cli.events import LineHandler, PlainLines, Sparse, TerminalHandler, handler, line_of
from ctd.cli.status import exit_code
from ctd.core.troubles import TroubleKind
from ctd.observability import Event, lost_lines

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
LONG = " ".join(["a reason that goes on and on"] * 6)


def execution(**changes: Any) -> ExecutionView:
    said: dict[str, Any] = {
        "execution": 7,
        "pipeline": "taxi",
        "node": "trainer",
        "piece": "",
        "key": "spans 1..3 (3)",
        "state": "succeeded",
        "attempt": 1,
        "because": "new inputs",
        "started": "2026-01-01T11:59:00+00:00",
        "ended": "2026-01-01T11:59:30+00:00",
        "seconds": 30.0,
        "timings": {"import": 0.5, "run": 29.0},
        "log": "/state/logs/7.log",
    }
    return ExecutionView.model_validate(said | changes)


def pipeline(**changes: Any) -> PipelineView:
    nodes = [
        NodeView(node="examples", kind="example_gen", state="up to date", because="all 3 results are there"),
        NodeView(node="trainer", kind="trainer", state="running", because="running", latest=execution(state="running")),
        NodeView(node="evaluator", kind="evaluator", state="failed", because=LONG, hint="mend it"),
    ]
    live = [LiveView(target="serving", path="/serving/taxi", kind="tf_serving", version=3, model=17, verified=True)]
    return PipelineView(pipeline="taxi", file="/specs/taxi.yaml", state="failed", nodes=nodes, live=live).model_copy(
        update=changes
    )


def shown(rendered: Any, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), highlight=False, color_system=None)
    console.print(rendered)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def decision(**changes: Any) -> DecisionView:
    said = {"node": "examples", "piece": "", "key": "span-1", "action": "reuse", "because": "same work"}
    return DecisionView.model_validate(said | changes)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_status_keeps_to_the_width_and_loses_no_word(width: int) -> None:
    lines = shown(render.status(StatusView(daemon=None, pipelines=[pipeline()]), NOW, "no daemon"), width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert f"{LONG}. mend it" in text
    assert "version 3 (model #17), served" in text


@pytest.mark.parametrize(("kind", "word"), [("tf_serving", "served"), ("tflite", "verified"), ("hub", "verified")])
def test_only_what_a_server_answers_with_is_called_served(kind: str, word: str) -> None:
    live = [LiveView(target="t", path="/t", kind=kind, version=3, model=17, verified=True)]
    text = " ".join(shown(render.status(StatusView(daemon=None, pipelines=[pipeline(live=live)]), NOW, ""), 200))
    assert f"version 3 (model #17), {word}" in text


def test_a_reason_that_fits_stands_beside_its_node_and_a_long_one_below() -> None:
    lines = shown(render.status(StatusView(daemon=None, pipelines=[pipeline()]), NOW, "no daemon"), 80)
    assert any("examples" in line and "all 3 results are there" in line for line in lines)
    below = next(i for i, line in enumerate(lines) if line.split()[:1] == ["evaluator"])
    assert lines[below + 1].startswith("      a reason")


def test_files_get_lines_of_any_length_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    render.show(render.status(StatusView(daemon=None, pipelines=[pipeline()]), NOW, "no daemon"))
    out = capsys.readouterr().out
    assert any(LONG in line for line in out.splitlines())
    assert "\x1b" not in out
    assert all(line == line.rstrip() for line in out.splitlines())


def test_refused_edits_strays_and_the_daemon_are_shown() -> None:
    problem = ProblemView(file="/specs/taxi.yaml", line=7, column=3, message="is wrong", hint="mend it")
    stray = "data/2024-03-0x\x1b[2J does not fit"
    view = StatusView(
        daemon=DaemonView(pid=12, started="2026-01-01T11:00:00+00:00", epoch=3, watching={"/data": "polled"}),
        pipelines=[pipeline(problems=[problem], strays=[stray], alerts=["examples: no new span since yesterday"])],
        problems=[ProblemView(file="/specs/bad.yaml", line=1, message="is no spec")],
    )
    text = "\n".join(shown(render.status(view, NOW, ""), 100))
    assert "daemon 12, up 1h00m, start 3" in text
    assert "/data: polled" in text
    assert "/specs/taxi.yaml:7:3: error: is wrong" in text
    assert "/specs/bad.yaml:1:1: error: is no spec" in text
    assert "data/2024-03-0x\\x1b[2J does not fit" in text
    assert "alert: examples: no new span since yesterday" in text


def test_markup_in_the_text_of_users_is_text() -> None:
    text = "\n".join(
        shown(render.plan(PlanView(pipeline="taxi", decisions=[decision(because="[red]x[/red]")]), everything=True), 80)
    )
    assert "[red]x[/red]" in text


def test_a_plan_counts_and_shortens_what_is_reused() -> None:
    decisions = [decision(key=f"span-{n}") for n in range(5)]
    decisions.append(decision(key="span-9", action="run", because="new span"))
    decisions.append(decision(node="trainer", key="", action="blocked", because="no", failed=True))
    view = PlanView(pipeline="taxi", decisions=decisions)
    lines = shown(render.plan(view, everything=False), 100)
    assert lines[0] == "taxi: 1 to run, 5 up to date, 1 blocked"
    assert len(lines) == 4
    assert "5 results stay as they are" in lines[1]
    assert "failed  trainer" in lines[3]
    assert len(shown(render.plan(view, everything=True), 100)) == 8


def test_an_explanation_has_reasons_phases_errors_and_what_the_work_was_made_of() -> None:
    failed = execution(execution=6, state="failed", error="line one\nline \x1b[2J two", hint="mend it", attempt=2)
    view = ExplainView(
        pipeline="taxi",
        node="trainer",
        decisions=[decision(node="evaluator", piece="verdict", key="verdict")],
        executions=[failed, execution()],
        ingredients={
            "component": "trainer/1",
            "code": "c" * 64,
            "settings": {"window": 7},
            "inputs": {"model": [1, 2]},
        },
    )
    lines = shown(render_explain.explain(view, NOW), 100)
    text = "\n".join(lines)
    assert "evaluator.verdict " in text
    assert "  code: cccccccccccc" in lines
    assert "settings: window 7" in text
    assert "inputs: model 2 items" in text
    assert text.index("#7") < text.index("#6"), "newest first"
    assert "phases  import 500ms, run 29s" in text
    assert "line \\x1b[2J two" in text
    assert "attempt 2, 30s ago in 30s" in text


def record(event: Event, level: int = logging.INFO, **fields: Any) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"msg": event.value, "levelno": level, "levelname": logging.getLevelName(level), **fields}
    )


STARTED: dict[str, Any] = {
    "pipeline": "taxi",
    "node": "trainer",
    "piece": "",
    "key": "span-1",
    "execution": 7,
    "attempt": 1,
}


@pytest.mark.parametrize(
    ("said", "line"),
    [
        pytest.param(
            record(Event.EXECUTION_STARTED, **STARTED, because="new span"),
            "taxi/trainer span-1: execution 7 started: new span",
            id="started",
        ),
        pytest.param(
            record(Event.EXECUTION_STARTED, **STARTED | {"attempt": 2}, because="once more"),
            "taxi/trainer span-1: execution 7 started, attempt 2: once more",
            id="again",
        ),
        pytest.param(
            record(Event.EXECUTION_ENDED, **STARTED, state="succeeded", took="8.4s", result="version 3"),
            "taxi/trainer span-1: execution 7 succeeded in 8.4s: version 3",
            id="succeeded",
        ),
        pytest.param(
            record(Event.EXECUTION_ENDED, logging.ERROR, **STARTED, state="failed", error="n\no", hint="yes"),
            "ERROR taxi/trainer span-1: execution 7 failed: n\\no (yes)",
            id="failed, on one line",
        ),
        pytest.param(
            record(
                Event.DECISION, logging.WARNING, pipeline="taxi", node="evaluator", piece="verdict", key="verdict",
                action="blocked", because="0.6 < 0.7", hint="",
            ),
            "WARNING taxi/evaluator.verdict: blocked: 0.6 < 0.7",
            id="blocked",
        ),
        pytest.param(
            record(Event.SPEC_REFUSED, logging.ERROR, file="taxi.yaml:7", because="is wrong", hint="mend it"),
            "ERROR taxi.yaml:7: spec refused: is wrong (mend it)",
            id="refused",
        ),
        pytest.param(
            record(Event.SPEC_LOADED, pipeline="taxi", file="taxi.yaml"),
            "taxi: spec loaded from taxi.yaml",
            id="loaded",
        ),
        pytest.param(record(Event.WORKERS, template="all", error="died"), "workers template=all: died", id="others"),
    ],
)  # fmt: skip
def test_an_event_is_one_plain_line(said: logging.LogRecord, line: str) -> None:
    time, _, rest = PlainLines().format(said).partition(" ")
    assert rest == line
    assert datetime.fromisoformat(time.replace("Z", "+00:00")).tzinfo


def test_control_characters_in_events_are_escaped() -> None:
    line = line_of(record(Event.STRAY, path="a\x1b[31m\n2026 forged", because="\x9b"))
    assert "\\x1b[31m\\n2026 forged" in line.what
    assert line.why == "\\x9b"


def test_progress_is_said_now_and_then_where_lines_stay() -> None:
    sparse = Sparse(every=10)

    def passes(event: Event, at: float, execution: int = 7) -> bool:
        said = record(event, execution=execution)
        said.created = at
        return bool(sparse.filter(said))

    assert passes(Event.EXECUTION_PROGRESS, 100)
    assert not passes(Event.EXECUTION_PROGRESS, 109)
    assert passes(Event.EXECUTION_PROGRESS, 109, execution=8)
    assert passes(Event.EXECUTION_ENDED, 109)
    assert passes(Event.EXECUTION_PROGRESS, 110.5)


def test_a_terminal_has_one_line_of_progress_below_the_events() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=60)
    handler = TerminalHandler(console)
    handler.handle(record(Event.EXECUTION_STARTED, **STARTED, because="new span"))
    for step in range(5):
        handler.handle(record(Event.EXECUTION_PROGRESS, **STARTED, progress=f"{step}/500 steps {'x' * 80}"))
    handler.handle(record(Event.EXECUTION_ENDED, **STARTED, state="succeeded", took="8s"))
    handler.close()
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len([line for line in lines if "succeeded in 8s" in line]) == 1
    last = console.file.getvalue().rpartition("\x1b[2K")[2]
    assert "steps" not in last, "the line of progress is gone when nothing runs"
    assert all(len(part) <= 60 for part in console.file.getvalue().split("\x1b[2K") if "steps" in part.splitlines()[0])


def test_the_daemon_goes_on_in_silence_when_nobody_reads_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        handler = LineHandler(PlainLines())
        handler.handle(record(Event.STARTED))
        assert b"daemon started" in os.read(reader, 1000)
        os.close(reader)
        handler.handle(record(Event.STOPPING))
        handler.handle(record(Event.STOPPING))
    assert handler.catch_up() is None, "nobody is there to miss anything"


@pytest.mark.parametrize("form", ["plain", "json"])
def test_a_full_disk_costs_lines_of_the_log_and_later_it_says_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    log, most = tmp_path / "log", resource.getrlimit(resource.RLIMIT_FSIZE)
    with log.open("w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        logged = handler(form, render.console())
        logged.handle(record(Event.STARTED))
        whole = log.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (whole + 10, most[1]))  # the next line ends in its middle
        try:
            for _ in range(3):
                logged.handle(record(Event.STOPPING))
            monkeypatch.setattr(logging.getLogger("ctd"), "handlers", [logged])
            lost = lost_lines()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, most)
        assert lost is not None
        assert (lost.count, lost.because) == (3, "File too large")
        assert lost_lines() is None, "it caught up, although nothing happened"
        logged.handle(record(Event.STARTED))
    lines = log.read_text()[whole:].splitlines()
    assert [len(line) for line in lines[:1]] == [10]
    assert "log lines lost" in lines[1]
    assert ("lost=3" if form == "plain" else '"lost": 3') in lines[1]
    assert "daemon started" in lines[2]
    assert len(lines) == 3


def test_a_pipe_that_is_full_and_does_not_block_loses_lines_until_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with os.fdopen(writer, "w") as stdout, os.fdopen(reader, "rb", buffering=0) as source:
        monkeypatch.setattr("sys.stdout", stdout)
        logged = LineHandler(PlainLines())
        filled = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                filled += os.write(writer, bytes(4096))
        logged.handle(record(Event.STARTED))
        assert logged.lost is not None
        while filled:
            filled -= len(source.read(filled))
        logged.handle(record(Event.STOPPING))
        said = source.read(1000).decode().splitlines()
    assert ["log lines lost" in said[0], "daemon stopping" in said[1], len(said)] == [True, True, 2]


def test_a_terminal_is_given_up_only_when_it_has_gone() -> None:
    class Terminal(io.StringIO):
        fails: OSError | None = None

        def write(self, text: str) -> int:
            if self.fails:
                raise self.fails
            return super().write(text)

    there = Terminal()
    console = Console(file=there, force_terminal=True, width=60)
    shown = TerminalHandler(console)
    there.fails = OSError(errno.ENOSPC, "No space left on device")
    shown.handle(record(Event.STARTED))
    there.fails = None
    shown.handle(record(Event.STOPPING))
    assert "daemon stopping" in there.getvalue()
    there.fails = OSError(errno.EIO, "Input/output error")
    shown.handle(record(Event.STARTED))
    assert console.quiet


def test_trouble_stands_on_top_with_its_time_and_what_to_do() -> None:
    trouble = TroubleView(
        kind=TroubleKind.DISK_FULL,
        place="/state",
        because="0 bytes are free on its disk",
        hint="Free space on it.",
        since="2026-01-01T11:55:00+00:00",
    )
    well = pipeline().model_copy(update={"state": "as wanted", "problems": []})
    view = StatusView(daemon=None, troubles=[trouble], pipelines=[well])
    lines = shown(render.status(view, NOW, "no daemon"), 200)
    said = "TROUBLE for 5m, since 2026-01-01 11:55:00 UTC: /state: disk full: 0 bytes are free on its disk"
    assert [line.strip() for line in lines[:3]] == [said, "Free space on it.", "no daemon"]
    assert exit_code(view) == 1
    assert exit_code(StatusView(daemon=None, pipelines=[well])) == 0
