"""How long data that is ready waits for more that is on its way (decision 023)."""

from __future__ import annotations

from datetime import timedelta

from planning_world import NODES, Bench, pipeline

from ctd.core.executions import Execution, Failure
from ctd.core.spans import Span
from ctd.planning.decisions import Blocked, Decision, Reuse, Run, Wait

TOOK = timedelta(seconds=40)


def of(bench: Bench, node: str) -> Decision:
    return next(d for d in bench.plan().decisions if d.subject.node == node)


def settled(*spans: int, counted: str | None = None, **changes: dict[str, object]) -> Bench:
    """A pipeline at rest on these spans, whose every piece of work took 40 s."""
    bench = Bench(spec=pipeline(NODES, **changes), counted=counted)
    for span in spans:
        bench.arrive(span)
    while runs := bench.plan().runs:
        begun = [(run, bench.start(run)) for run in runs]
        bench.now += TOOK
        for run, execution in begun:
            bench.finish(execution, run)
    return bench


def read(bench: Bench, span: int, *, on_its_way: int) -> None:
    """A span is read and looked at; while the next one is on its way."""
    bench.arrive(span)
    bench.arrive(on_its_way)
    for node in ("examples", "statistics", "validator"):
        (run,) = (r for r in bench.plan().runs if r.subject.node == node and r.span == span)
        bench.finish(bench.start(run), run)


def windows(bench: Bench, node: str) -> list[list[int]]:
    """The spans that a node worked on, by execution."""
    return [sorted({n for n, _ in e.ingredients["inputs"]["examples"]}) for e in bench.ran(node)]


def test_what_is_ready_waits_for_more_as_long_as_the_last_run_took() -> None:
    bench = settled(1, 2)
    read(bench, 3, on_its_way=4)
    waits = of(bench, "transform")
    assert isinstance(waits, Wait)
    assert waits.until == bench.now + TOOK
    assert waits.because.startswith("examples/span-4.v1 is to run; without it from ")
    bench.now += TOOK
    run = of(bench, "transform")
    assert isinstance(run, Run)
    assert [(out.span, out.kind) for out in run.left_out] == [(4, "on its way")]
    bench.finish(bench.start(run), run)
    assert windows(bench, "transform")[-1] == [1, 2, 3]


def test_a_node_may_say_how_long() -> None:
    bench = settled(1, 2, transform={"coalesce": "5s"})
    read(bench, 3, on_its_way=4)
    waits = of(bench, "transform")
    assert isinstance(waits, Wait)
    assert waits.until == bench.now + timedelta(seconds=5)


def test_time_that_began_with_an_earlier_span_does_not_begin_anew_with_the_next() -> None:
    bench = settled(1, 2)
    read(bench, 3, on_its_way=4)
    began = bench.now
    bench.now += timedelta(seconds=30)
    bench.contents.pop(Span(4, 1))
    read(bench, 4, on_its_way=5)
    waits = of(bench, "transform")
    assert isinstance(waits, Wait)
    assert waits.until == began + TOOK


def test_nothing_is_done_on_less_than_was_worked_on_before() -> None:
    """The newest span is corrected: without it the window would go back to older ones."""
    bench = settled(1, 2, 3, 4)
    bench.arrive(4, version=2)
    bench.now += timedelta(hours=1)
    assert not isinstance(of(bench, "transform"), Run)


def test_a_span_that_is_corrected_all_the_time_is_used_as_it_was() -> None:
    bench = settled(1, 2)
    bench.arrive(2, version=2)
    read(bench, 3, on_its_way=4)
    bench.now += TOOK
    run = of(bench, "transform")
    assert isinstance(run, Run)
    assert sorted((a.span, a.version) for a in run.inputs["examples"]) == [(1, 1), (2, 1), (3, 1)]


def test_an_edit_by_which_all_spans_are_looked_at_again_makes_no_short_window() -> None:
    """The newest span is done first: it alone is less than the node has had."""
    bench = settled(1, 2, 3, 4)
    bench.spec = pipeline(validator={"environment": "TRAINING"})
    read(bench, 5, on_its_way=6)
    bench.now += timedelta(hours=1)
    assert isinstance(of(bench, "transform"), Wait)
    for span in (4, 3):
        (run,) = (r for r in bench.plan().runs if r.subject.node == "validator" and r.span == span)
        bench.finish(bench.start(run), run)
    run = of(bench, "transform")
    assert isinstance(run, Run)
    assert [a.span for a in run.inputs["examples"]] == [3, 4, 5]


def test_a_window_does_not_go_back_to_an_older_span_while_the_newest_is_read_anew() -> None:
    bench = settled(1, 2, 3, transform={"window": 1})
    bench.contents[Span(3, 1)] = "other trips"
    bench.contents[Span(2, 1)] = "others"
    (run,) = (r for r in bench.plan().runs if r.subject.node == "examples" and r.span == 3)
    bench.finish(bench.start(run), run)
    for node in ("examples", "statistics", "validator"):
        (run,) = (r for r in bench.plan().runs if r.subject.node == node and r.span == 2)
        bench.finish(bench.start(run), run)
    bench.now += timedelta(hours=1)
    assert isinstance(of(bench, "transform"), Wait)


def test_who_waits_for_gaps_waits_for_a_span_that_is_on_its_way() -> None:
    bench = settled(1, 2, transform={"on_gap": "wait"})
    bench.arrive(3)
    read(bench, 4, on_its_way=5)
    bench.now += timedelta(hours=1)
    assert isinstance(of(bench, "transform"), Wait)
    for node in ("examples", "statistics", "validator"):
        (run,) = (r for r in bench.plan().runs if r.subject.node == node and r.span == 3)
        bench.finish(bench.start(run), run)
    run = of(bench, "transform")
    assert isinstance(run, Run)
    assert [a.span for a in run.inputs["examples"]] == [2, 3, 4]


def test_a_clock_that_was_set_back_holds_nothing_up() -> None:
    bench = settled(1, 2)
    bench.now -= timedelta(hours=1)
    read(bench, 3, on_its_way=4)
    bench.now += TOOK
    assert isinstance(of(bench, "transform"), Run)


def test_a_machine_that_slept_during_a_run_is_not_waited_for_as_long() -> None:
    bench = settled(1, 2)
    bench.arrive(3)
    while runs := bench.plan().runs:
        begun = [(run, bench.start(run)) for run in runs]
        bench.now += timedelta(days=1)
        for run, execution in begun:
            bench.finish(execution, run)
    read(bench, 4, on_its_way=5)
    bench.now += TOOK
    assert isinstance(of(bench, "transform"), Run)


def test_work_that_failed_shows_while_more_data_is_on_its_way() -> None:
    bench = settled(1, 2)
    bench.failures["transform"] = Failure("ComponentFailed", "no column 'fare'")
    read(bench, 3, on_its_way=4)
    bench.now += TOOK
    _run(bench, "transform")
    assert isinstance(of(bench, "transform"), Blocked)
    assert bench.plan().failed
    del bench.failures["transform"]
    read(bench, 4, on_its_way=5)
    bench.now += TOOK
    assert isinstance(of(bench, "transform"), Run), "other data is another chance"


def test_what_was_read_anew_is_not_used_on_the_word_about_what_was_read_before() -> None:
    bench = settled(1, 2)
    bench.contents[Span(2, 1)] = "other trips"
    (run,) = (r for r in bench.plan().runs if r.subject.node == "examples")
    bench.finish(bench.start(run), run)
    read(bench, 3, on_its_way=4)
    bench.now += TOOK
    run = of(bench, "transform")
    assert isinstance(run, Run)
    assert sorted(a.span or 0 for a in run.inputs["examples"]) == [1, 3], "no validator has looked at span 2 yet"


def test_an_edit_is_not_worked_on_at_once_if_data_is_on_its_way() -> None:
    bench = settled(1, 2)
    bench.arrive(3)
    bench.spec = pipeline(transform={"window": 2})
    assert isinstance(of(bench, "transform"), Wait)


def test_a_schema_that_was_edited_meanwhile_counts() -> None:
    bench = settled(1, 2)
    read(bench, 3, on_its_way=4)
    bench.now += TOOK
    _run(bench, "transform")
    bench.now += TOOK
    assert isinstance(of(bench, "trainer"), Run)
    bench.schema = "schema-2"
    _run(bench, "schema")
    assert not isinstance(of(bench, "trainer"), Run), "the transform graph is of the schema before the edit"


def test_a_graph_does_not_go_with_a_newer_schema() -> None:
    bench = settled(1, 2, schema={"kind": "schema_gen"})
    bench.arrive(3)
    for node in ("examples", "statistics", "schema", "validator"):
        for run in [r for r in bench.plan().runs if r.subject.node == node]:
            bench.finish(bench.start(run), run)
    for run in [r for r in bench.plan().runs if r.subject.node == "validator"]:
        bench.finish(bench.start(run), run)
    graph = _run(bench, "transform")
    bench.arrive(4)
    for node in ("examples", "statistics", "schema"):
        for run in [r for r in bench.plan().runs if r.subject.node == node]:
            bench.finish(bench.start(run), run)
    bench.now += TOOK
    trained = _run(bench, "trainer")
    assert trained.inputs["transform_graph"] == (graph.output("transform_graph")[0].id,)
    assert trained.inputs["schema"] == graph.inputs["schema"]
    assert trained.inputs["schema"] != (bench.ran("schema")[-1].output("schema")[0].id,)


def _run(bench: Bench, node: str) -> Execution:
    run = of(bench, node)
    assert isinstance(run, Run)
    return bench.finish(bench.start(run), run)


def test_a_node_that_never_ran_waits_for_all_that_was_there_when_the_daemon_came() -> None:
    bench = Bench(spec=pipeline())
    for span in (1, 2, 3, 4):
        bench.arrive(span)
    bench.backlog = {"examples": frozenset({1, 2, 3, 4})}
    _run(bench, "schema")
    for node in ("examples", "statistics"):
        for run in [r for r in bench.plan().runs if r.subject.node == node and r.span in (1, 2)]:
            bench.finish(bench.start(run), run)
    for run in [r for r in bench.plan().runs if r.subject.node == "validator"]:
        bench.finish(bench.start(run), run)
    bench.now += timedelta(hours=1)
    assert isinstance(of(bench, "transform"), Wait)
    bench.backlog = {"examples": frozenset({1, 2})}
    assert isinstance(of(bench, "transform"), Run), "what came later has its time"


def test_new_spans_are_worked_on_before_old_ones_are_made_anew() -> None:
    bench = settled(1, 2, 3, counted="")
    bench.schema = "schema-2"
    _run(bench, "schema")
    bench.arrive(4)
    order = [r.subject.node for r in bench.plan().queue if r.span is not None]
    assert order == ["examples", "validator", "validator", "validator"], "it is not even read yet"
    for node in ("examples", "statistics"):
        (run,) = (r for r in bench.plan().runs if r.subject.node == node)
        bench.finish(bench.start(run), run)
    assert [r.span for r in bench.plan().queue if r.subject.node == "validator"] == [4, 3, 2, 1]
    assert all(isinstance(d, Run | Reuse | Wait) for d in bench.plan().decisions)
