"""The evaluator takes the evaluation that it made the time before, for the answers kept there: a help, and no cause."""

from __future__ import annotations

from planning_world import Bench

from ctd.planning.decisions import Reuse
from ctd.planning.lineage import ancestors, reach


def test_each_evaluation_looks_back_at_the_one_before_and_at_no_more() -> None:
    bench = Bench()
    for span in (1, 2):
        bench.arrive(span)
        bench.settle()
    first, second = (e for e in bench.ran("evaluator") if e.piece == "metrics")
    (made,) = first.output("evaluation")
    assert (first.inputs.get("measured_before", ()), second.inputs["measured_before"]) == ((), (made.id,))
    assert all(isinstance(d, Reuse) for d in bench.plan().decisions), "a new evaluation is no reason to evaluate"
    assert "measured_before" not in second.ingredients["inputs"]
    assert first not in [step.execution for step in ancestors(bench.history, [second])]
    assert second in reach(bench.history, "taxi", 2).executions


def test_an_evaluation_that_was_collected_is_not_missed() -> None:
    bench = Bench()
    bench.arrive(1)
    bench.settle()
    (first,) = (e for e in bench.ran("evaluator") if e.piece == "metrics")
    bench.history.forget_artifact(first.output("evaluation")[0].id)
    bench.arrive(2)
    bench.settle()
    second = [e for e in bench.ran("evaluator") if e.piece == "metrics"][-1]
    assert "measured_before" not in second.inputs
