"""A pipeline over years of history: what is read, when, and how people ask for more."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ctd.api.requests import RequestForm
from ctd.core.errors import BadInput, CtdError, NotFound, NotPossible
from ctd.daemon.offline import rehearse
from ctd.specs.settings import Settings
from tests.flow.bench import Bench


def begin(root: Path, *, spans: int = 6, start: int = 5, parallel: int = 1000, **examples: str) -> Bench:
    """A pipeline with a window over all spans, of which those from `start` on were read and trained on."""
    bench = Bench(root, parallel=parallel)
    path = bench.spec(window="all")
    said = "".join(f", {key}: {value}" for key, value in {"start": start, **examples}.items())
    path.write_text(path.read_text().replace("complete: {marker: _SUCCESS}", "complete: {marker: _SUCCESS}" + said))
    for number in range(1, spans + 1):
        bench.span(number)
    bench.start().settle()
    return bench


def ask(bench: Bench, first: object, last: object, **said: object) -> list[int]:
    return bench.ask("backfill", first=str(first), last=str(last), **said)


def read(bench: Bench) -> list[int]:
    return [int(e.key.removeprefix("span-")) for e in bench.executions("examples")]


def shown(bench: Bench) -> list[str]:
    """`1..4: 3 of 4, 1 failed` for each open backfill in the status."""
    (pipeline,) = bench.views().status("taxi").pipelines
    return [f"{b.range}: {b.done} of {b.spans}, {b.failed} failed" for b in pipeline.backfills]


def test_history_before_start_is_neither_read_nor_opened_and_the_pipeline_is_as_wanted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = begin(tmp_path)
    assert sorted(read(bench)) == [5, 6]
    assert bench.trained_on() == ["spans 5..6 (2)"]
    (pipeline,) = bench.views().status("taxi").pipelines
    assert pipeline.state == "as wanted"
    said = "examples: 4 spans before 5 are not read (start); `ctd backfill taxi 1 4` reads them"
    assert pipeline.notes == bench.views().plan("taxi").notes == [said]
    seen = bench.observer.observe(bench.wanted.pipelines["taxi"], {}, bench.history).spans["examples"].spans
    assert {s.span.number for s in seen if s.digest} == {5, 6}, "the content of the others was not looked at"
    caplog.set_level(logging.WARNING)
    caplog.clear()
    bench.tick()
    assert caplog.messages == []
    bench.check()


def test_a_backfill_reads_its_range_and_trains_once_over_restarts(tmp_path: Path) -> None:
    bench = begin(tmp_path)
    ask(bench, 1, 4)
    bench.tick()
    assert shown(bench) == ["1..4: 0 of 4, 0 failed"]
    bench.finish("examples")
    bench.kill()
    bench.start()
    bench.tick()
    assert bench.trained_on() == ["spans 5..6 (2)"]
    bench.settle()
    assert bench.trained_on() == ["spans 5..6 (2)", "spans 1..6 (6)"]
    assert shown(bench) == []
    (pipeline,) = bench.views().status("taxi").pipelines
    assert (pipeline.state, pipeline.notes) == ("as wanted", [])
    (request,) = bench.views().explain("taxi").requests
    assert (request.verb, request.key, request.who, request.reason) == ("backfill", "1..4", "ana", "so be it")


@pytest.mark.parametrize(("order", "spans"), [("newest", [4, 3, 2, 1]), ("oldest", [1, 2, 3, 4])])
def test_with_few_workers_new_data_goes_before_a_backfill_in_its_order(
    tmp_path: Path, order: str, spans: list[int]
) -> None:
    bench = begin(tmp_path, parallel=1)
    before = len(read(bench))
    ask(bench, 1, 4, order=order)
    bench.tick()
    bench.span(7)
    bench.settle()
    assert read(bench)[before:] == [spans[0], 7, *spans[1:]], "what runs is not interrupted"
    assert bench.trained_on()[-1] == "spans 1..7 (7)"
    assert len(bench.trained_on()) == 2


def test_a_stopped_backfill_leaves_what_was_read_and_begins_nothing_more(tmp_path: Path) -> None:
    bench = begin(tmp_path, parallel=1)
    ask(bench, 1, 4)
    bench.tick()
    bench.ask("stop-backfill")
    assert shown(bench) == ["1..4: 0 of 4, 0 failed"], "as it was at the last look"
    bench.settle()
    assert (shown(bench), sorted(read(bench))) == ([], [4, 5, 6])
    assert bench.trained_on()[-1] == "spans 4..6 (3)"
    with pytest.raises(NotPossible, match="no backfill of taxi has anything to do"):
        bench.ask("stop-backfill")
    bench.kill()
    bench.start()
    bench.settle()
    assert sorted(read(bench)) == [4, 5, 6]


def test_a_failed_span_is_counted_and_what_is_refused_is_done(tmp_path: Path) -> None:
    bench = begin(tmp_path, start=7, spans=6)
    ask(bench, 4, 6)
    bench.tick()
    bench.fail("examples", BadInput("trips.csv is odd", hint="mend it"), key="span-5")
    for node in ("examples", "statistics"):
        bench.finish(node)
        bench.tick()
    bench.finish("validator", key="span-4", blessed=0, reason="fare: out of range")
    bench.settle()
    assert shown(bench) == ["4..6: 2 of 3, 1 failed"]
    assert bench.trained_on() == ["span-6"]
    bench.span(5, "fare\n55\n")
    bench.settle()
    assert shown(bench) == []
    assert bench.trained_on()[-1] == "spans 5..6 (2)"


def test_again_makes_the_range_anew_and_equal_results_train_nothing(tmp_path: Path) -> None:
    bench = begin(tmp_path)
    ask(bench, 5, 6, again=True)
    bench.settle()
    assert [len(bench.executions(node)) for node in ("examples", "statistics", "validator", "trainer")] == [4, 4, 4, 1]
    ask(bench, 5, 5, node="validator", again=True)
    bench.settle()
    assert [len(bench.executions(node)) for node in ("examples", "statistics", "validator")] == [4, 4, 5]


REFUSED = [
    pytest.param({"pipeline": "taxy"}, NotFound, "taxi", id="pipeline"),
    pytest.param({"node": "examplse"}, NotFound, "Did you mean 'examples'?", id="node"),
    pytest.param({"node": "trainer", "again": True}, NotFound, "Per span run examples, statistics", id="not per span"),
    pytest.param({"node": "statistics"}, NotPossible, "`--again`", id="nothing to read for it"),
    pytest.param({"first": "11", "last": "12"}, NotFound, "no span of taxi lies from 11 to 12", id="no span there"),
    pytest.param({"first": "11", "last": "12"}, NotFound, "Spans there: 6, from 1 to 6.", id="where they are"),
    pytest.param({"first": "5", "last": "6"}, NotPossible, "all 2 spans from 5 to 6 are read", id="nothing to do"),
    pytest.param({"first": "6", "last": "6"}, NotPossible, "the one span", id="nothing to do for one"),
]


@pytest.mark.parametrize(("asked", "error", "said"), REFUSED)
def test_what_has_nothing_to_go_by_is_refused_and_not_recorded_and_a_rehearsal_refuses_the_same_names(
    tmp_path: Path, asked: dict[str, str], error: type[CtdError], said: str
) -> None:
    bench = begin(tmp_path)
    form = {"pipeline": "taxi", "first": "1", "last": "4", **asked}
    with pytest.raises(error) as refused:
        bench.ask("backfill", **form)
    assert said in f"{refused.value.message} {refused.value.hint}"
    assert list(bench.store.requests()) == []
    settings = Settings.resolve({"specs": str(tmp_path / "specs"), "state": str(tmp_path / "nothing yet")}, {})
    if error is NotFound:
        with pytest.raises(error):
            rehearse(settings, RequestForm(verb="backfill", **form))


def test_the_same_backfill_is_refused_while_it_is_open(tmp_path: Path) -> None:
    bench = begin(tmp_path)
    ask(bench, 1, 4)
    bench.tick()
    with pytest.raises(NotPossible, match=r"1\.\.4 is being backfilled already, by ana: so be it"):
        ask(bench, 1, 4)


def test_a_rehearsal_without_a_daemon_says_what_would_run_and_leaves_no_trace(tmp_path: Path) -> None:
    bench = begin(tmp_path)
    bench.kill()
    settings = Settings.resolve({"specs": str(tmp_path / "specs"), "state": str(tmp_path / "nothing yet")}, {})
    form = RequestForm(verb="backfill", pipeline="taxi", first="1", last="3", order="oldest")
    view = rehearse(settings, form)
    assert (view.range, view.order, view.spans) == ("1..3", "oldest", 3)
    assert [(e.node, e.key) for e in view.forecast if e.node == "examples"] == [
        ("examples", f"span-{number}") for number in (1, 2, 3)
    ]
    assert [e.key for e in view.forecast if e.node == "trainer"] == ["spans 1..6 (5)"]
    assert not (tmp_path / "nothing yet").exists()
