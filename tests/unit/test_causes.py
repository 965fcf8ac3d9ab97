"""Why work was done and why it was not, link by link, told from what was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from planning_world import Bench, pipeline

from ctd.core.executions import Execution, Failure, State
from ctd.core.requests import Order, Verb
from ctd.core.spans import Span
from ctd.planning.asked import finding
from ctd.planning.causes import Cause, Causes
from ctd.planning.forecast import forecast
from ctd.planning.why_not import WhyNot


def settled(spans: int = 1, **changes: Any) -> Bench:
    bench = Bench(spec=pipeline(**changes))
    for number in range(1, spans + 1):
        bench.arrive(number)
        bench.settle()
    return bench


def why(bench: Bench, e: Execution | str, piece: str | None = None) -> Cause:
    execution = bench.ran(e, piece)[-1] if isinstance(e, str) else e
    return Causes(bench.history, bench.spec).ran(execution)


def why_not(bench: Bench, node: str) -> list[Cause]:
    return list(WhyNot(bench.spec, bench.plan(), bench.history).of_node(node))


def lines(cause: Cause, depth: int = 0) -> Iterator[str]:
    """The tree as indented text."""
    yield f"{'  ' * depth}{cause.kind}: {cause.said}"
    for behind in cause.causes:
        yield from lines(behind, depth + 1)


def roots(cause: Cause) -> set[tuple[str, str]]:
    """What set it off: kind and text of the leaves."""
    if not cause.causes:
        return {(cause.kind, cause.said)}
    return set().union(*map(roots, cause.causes))


def test_a_corrected_span_is_followed_from_the_training_to_its_arrival_with_digests_that_connect() -> None:
    bench = settled(3)
    bench.arrive(2, version=2, content="corrected")
    bench.settle()
    trained = why(bench, "trainer")
    examples = bench.ran("examples")
    before, after = (e.ingredients["content"][:8] for e in (examples[1], examples[-1]))
    assert roots(trained) == {("version", f"span 2 version 2 arrived (content {before} -> {after})")}
    (changed,) = trained.causes
    assert changed.said == "transformed_examples of spans 1, 2, 3 and transform_graph changed"
    assert (changed.execution, changed.against) == (bench.ran("transform")[-1].id, bench.ran("transform")[-2].id)
    (behind,) = changed.causes
    old, new = (e.outputs["examples"][0].digest[:8] for e in (examples[1], examples[-1]))
    assert behind.said == f"examples of span 2 changed ({old} -> {new})"
    assert behind.execution == examples[-1].id


def test_a_new_span_and_one_that_left_are_told_apart() -> None:
    bench = settled(4)
    said = "\n".join(lines(why(bench, "transform")))
    assert "input new: examples of span 4 new" in said
    assert "span: span 4 arrived, complete: marker _SUCCESS" in said
    assert "input left: examples of span 1 left the window" in said


def test_work_once_per_span_is_compared_with_the_same_span_only() -> None:
    bench = settled(3)
    assert roots(why(bench, "statistics")) == {("span", "span 3 arrived, complete: marker _SUCCESS")}
    bench.arrive(1, version=2, content="corrected")
    bench.settle()
    (kind, said), *others = roots(why(bench, "statistics"))
    assert (kind, others) == ("version", [])
    assert said.startswith("span 1 version 2 arrived")


def test_edits_are_told_with_the_old_and_the_new() -> None:
    bench = settled()
    bench.spec = pipeline(trainer={"train_steps": 200})
    bench.settle()
    (edit,) = why(bench, "trainer").causes
    assert (edit.kind, edit.name, edit.before, edit.after) == ("setting", "train_steps", "100", "200")
    assert ("setting", "train_steps 100 -> 200") in roots(why(bench, "pusher", "serving")), "and down to the push"
    bench.code = "code-2"
    bench.settle()
    assert ("code", "code changed (code-1 -> code-2)") in roots(why(bench, "trainer"))
    bench.schema = "schema-2"
    bench.settle()
    edited = ("file", "/specs/schema.pbtxt changed (schema-1 -> schema-2)")
    assert roots(why(bench, "statistics")) == {edited}, "this schema does not say that they depend on nothing of it"
    assert edited in roots(why(bench, "validator"))


def test_going_back_is_told_although_the_older_result_is_the_cause() -> None:
    bench = settled()
    bench.spec = pipeline(trainer={"train_steps": 200})
    bench.settle()
    bench.spec = pipeline(trainer={"train_steps": 100})
    bench.settle()
    pushed = why(bench, "pusher", "serving")
    first, second = bench.ran("pusher")[0], bench.ran("pusher")[1]
    assert pushed.causes[0].kind == "again"
    assert (pushed.causes[0].against, pushed.against) == (first.id, second.id)


def test_old_executions_are_explained_as_they_were_then() -> None:
    bench = settled(2)
    second = bench.ran("trainer")[-1]
    before = list(lines(why(bench, second)))
    bench.spec = pipeline(trainer={"train_steps": 200})
    bench.arrive(3)
    bench.settle()
    assert list(lines(why(bench, second))) == before
    assert ("span", "span 2 arrived, complete: marker _SUCCESS") in roots(why(bench, second))


def test_the_first_execution_has_nothing_to_be_compared_with() -> None:
    bench = settled()
    assert roots(why(bench, "trainer")) == {("first", "trainer had never run")}
    assert roots(why(bench, "examples")) == {("span", "span 1 arrived, complete: marker _SUCCESS")}


def test_who_asked_is_a_cause() -> None:
    bench = settled()
    bench.ask(Verb.RUN_NOW, "trainer", again=True)
    bench.settle()
    (asked,) = why(bench, "trainer").causes
    assert (asked.kind, asked.name) == ("asked", "run-now")
    assert asked.said == "run-now, asked by ana: so be it"


def test_a_backfill_is_a_cause_with_who_asked_for_it() -> None:
    bench = settled(3)
    request = bench.ask(Verb.BACKFILL, "statistics", key="2..2", span=2, last=2, order=Order.NEWEST, again=True)
    bench.settle()
    redone = bench.ran("statistics")[-1]
    assert (redone.key, redone.id > request.id) == ("span-2.v1", True)
    (asked,) = why(bench, redone).causes
    assert (asked.kind, asked.name, asked.said) == ("asked", "backfill", "backfill 2..2, asked by ana: so be it")


def test_an_accepted_span_enters_by_the_word_of_a_person() -> None:
    bench = settled(2)
    bench.arrive(3, content="odd")
    bench.settle()
    (validated,) = (e for e in bench.ran("validator") if e.key == "span-3.v1")
    gate = next(w for w in bench.spec.work if w.piece.gate)
    bench.ask(Verb.ACCEPT, "validator", key="span-3.v1", span=3, about=finding(validated, gate))
    bench.settle()
    said = "\n".join(lines(why(bench, "transform")))
    assert "examples of span 3 new" in said
    assert "asked: accept span-3.v1, asked by ana" in said


def test_a_lost_result_is_a_cause() -> None:
    bench = settled()
    gone = bench.ran("trainer")[0].outputs["model"][0].uri
    bench.missing.add(gone)
    plan = bench.plan()
    (run,) = (r for r in plan.runs if r.subject.node == "trainer")
    (lost,) = Causes(bench.history, bench.spec).to_run(run).causes
    assert lost.kind == "lost"
    assert gone in lost.said
    assert lost.against == bench.ran("trainer")[0].id


def test_a_further_attempt_names_the_failure_and_still_what_set_it_off() -> None:
    bench = settled(1)
    bench.failures["trainer"] = Failure("WorkerLost", "killed", "see the log", "taxi.py:12", retryable=True)
    bench.arrive(2)
    for _ in range(9):
        made = bench.plan()
        if bench.ran("trainer")[-1].state is State.FAILED:
            break
        for run in made.runs:
            bench.finish(bench.start(run), run)
    bench.failures.clear()
    bench.now += timedelta(minutes=5)
    bench.settle()
    attempt, *others = why(bench, "trainer").causes
    assert attempt.kind == "attempt"
    assert "failed at taxi.py:12: killed" in attempt.said
    assert any(("span", "span 2 arrived, complete: marker _SUCCESS") in roots(c) for c in others)


def test_what_a_window_left_out_is_recorded_with_each_execution_and_told() -> None:
    bench = settled(1, examples={"deny": [2]})
    bench.arrive(2)
    bench.arrive(3, content="odd")
    bench.incomplete.add(bench.arrive(5))
    bench.arrive(4)
    bench.settle()
    recorded = {left.span: (left.kind, left.why) for left in bench.ran("transform")[-1].left_out}
    assert recorded == {
        3: ("quarantined", "validator: fare: out of range"),
        2: ("denied", "`deny` of the spec names it"),
    }
    (transform,) = why_not(bench, "transform")
    assert {c.spans[0]: c.name for c in transform.causes if c.kind == "left out"} == {
        5: "not complete", 3: "quarantined", 2: "denied",
    }  # fmt: skip


def test_work_that_stays_names_the_execution() -> None:
    bench = settled()
    (trainer,) = why_not(bench, "trainer")
    assert (trainer.kind, trainer.execution, trainer.causes) == ("reused", bench.ran("trainer")[0].id, ())
    assert trainer.at is not None


def test_equal_content_made_anew_is_a_cut_off_at_whatever_takes_it() -> None:
    bench = settled()
    bench.ask(Verb.RUN_NOW, "examples", again=True)
    bench.settle()
    old, new = bench.ran("examples")
    assert len(bench.ran("transform")) == 1
    (transform,) = why_not(bench, "transform")
    assert transform.kind == "cut off"
    digest = old.outputs["examples"][0].digest[:8]
    assert transform.causes[0].said == (
        f"examples of span 1 made anew by execution {new.id} "
        f"with the same content ({digest}) as by execution {old.id}: nothing follows"
    )
    (trainer,) = why_not(bench, "trainer")
    assert (trainer.kind, [c.kind for c in trainer.causes][:1]) == ("reused", ["cut off"])
    assert trainer.causes[0].said.startswith("transform was cut off: examples of span 1 made anew")


def test_a_chain_of_waits_is_followed_to_its_end() -> None:
    bench = settled()
    bench.arrive(2)
    (run,) = bench.plan().runs
    reading = bench.start(run)
    (trainer,) = why_not(bench, "trainer")
    said = list(lines(trainer))
    assert said[0].startswith("waits: trainer waits: ")
    assert [line.strip().partition(": ")[2] for line in said[1:]] == [
        "transform waits: examples/span-2.v1 is running",
        f"examples span-2.v1 runs as execution {reading.id}",
        "span 2 arrived, complete: marker _SUCCESS",
    ]


def test_a_failure_at_the_end_of_a_chain_has_its_place_and_hint() -> None:
    bench = Bench()
    bench.failures["transform"] = Failure("ComponentFailed", "KeyError: 'fare'", "look at the log", "taxi.py:7")
    bench.arrive(1)
    bench.settle()
    (pushed,) = (c for c in why_not(bench, "pusher"))
    (end,) = [c for c in flat(pushed) if c.kind == "failed"]
    assert "transform" in end.said
    assert " at taxi.py:7: " in end.said
    assert (end.hint, end.execution) == ("look at the log", bench.ran("transform")[-1].id)


def flat(cause: Cause) -> Iterator[Cause]:
    yield cause
    for behind in cause.causes:
        yield from flat(behind)


def test_a_pause_and_an_approval_are_words_of_their_own() -> None:
    bench = settled(pusher={"approval": True})
    assert [c.kind for c in why_not(bench, "pusher")] == ["needs approval"]
    bench.ask(Verb.PAUSE, "trainer")
    bench.arrive(2)
    bench.settle()
    assert [c.kind for c in why_not(bench, "trainer")] == ["paused"]


def test_a_forecast_says_what_equal_results_would_cut_off() -> None:
    bench = settled(2)
    bench.spec = pipeline(transform={"custom_config": {"buckets": 10}})
    same = {
        (e.run.subject.node, e.run.subject.piece): e.unless_same for e in forecast(bench.spec, bench.world()).expected
    }
    assert same["transform", ""] == (), "this is certain"
    assert same["trainer", ""] == ("transform",)
    assert same["evaluator", "metrics"] == ("trainer",)
    bench.spec = pipeline(transform={"custom_config": {"buckets": 10}}, trainer={"train_steps": 7})
    same = {
        (e.run.subject.node, e.run.subject.piece): e.unless_same for e in forecast(bench.spec, bench.world()).expected
    }
    assert same["trainer", ""] == (), "its own setting changed as well"


def test_a_forecast_of_a_new_span_promises_no_cut_off_where_windows_move() -> None:
    bench = settled(2)
    bench.arrive(3)
    same = {e.run.subject.node: e.unless_same for e in forecast(bench.spec, bench.world()).expected}
    assert same["statistics"] == same["transform"] == same["trainer"] == ()
    bench.arrive(2, version=2, content="corrected")
    del bench.contents[Span(3, 1)]
    same = {e.run.subject.node: e.unless_same for e in forecast(bench.spec, bench.world()).expected}
    assert same["statistics"] == same["transform"] == ("examples",)
