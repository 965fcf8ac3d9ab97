"""Transform takes the analyzer cache that it made the time before: a help that decides nothing."""

from __future__ import annotations

import pytest
from planning_world import Bench, pipeline

from ctd.core.artifacts import Artifact
from ctd.core.executions import Execution
from ctd.core.facts import Damage
from ctd.planning.decisions import Reuse
from ctd.planning.lineage import ancestors, reach
from ctd.planning.retention import collectable


@pytest.fixture
def bench() -> Bench:
    """Two spans, each trained on when it came."""
    made = Bench()
    for span in (1, 2):
        made.arrive(span)
        made.settle()
    return made


def cache(execution: Execution) -> Artifact:
    (found,) = execution.output("updated_analyzer_cache")
    return found


def taken(bench: Bench) -> list[tuple[int, ...]]:
    return [e.inputs.get("analyzer_cache", ()) for e in bench.ran("transform")]


def test_each_execution_takes_what_the_last_one_made(bench: Bench) -> None:
    first, _ = bench.ran("transform")
    assert taken(bench) == [(), (cache(first).id,)]


def test_a_new_cache_is_no_reason_to_run(bench: Bench) -> None:
    assert all(isinstance(d, Reuse) for d in bench.plan().decisions)
    assert all("analyzer_cache" not in e.ingredients["inputs"] for e in bench.ran("transform"))


def test_the_newest_success_counts_whatever_it_was_made_of(bench: Bench) -> None:
    bench.code = "code-2"
    bench.settle()
    _, before, _ = bench.ran("transform")
    assert taken(bench)[-1] == (cache(before).id,)


@pytest.mark.parametrize("how", ["missing", "unreadable", "deleted"])
def test_without_the_cache_the_next_span_is_transformed_all_the_same(bench: Bench, how: str) -> None:
    last = cache(bench.ran("transform")[-1])
    if how == "missing":
        bench.missing.add(last.uri)
        bench.damaged[last.uri] = Damage(last.id, last.uri, "data: checksum")
    elif how == "unreadable":
        bench.unreadable[last.uri] = f"{last.uri}: Input/output error"
    else:
        bench.history.forget_artifact(last.id)
    bench.arrive(3)
    bench.settle()
    assert taken(bench)[-1] == ()
    assert len(bench.ran("trainer")) == 3


def test_lineage_does_not_go_back_through_caches(bench: Bench) -> None:
    bench.arrive(3)
    bench.settle()
    *before, last = bench.ran("transform")
    made = [step.execution for step in ancestors(bench.history, bench.ran("trainer")[-1:])]
    assert last in made
    assert not any(e in made for e in before)
    bench.spec = pipeline(transform={"window": 1})
    bench.arrive(4)
    bench.settle()
    newest = bench.ran("transform")[-1]
    assert newest.inputs["analyzer_cache"] == (cache(last).id,)
    assert newest not in reach(bench.history, "taxi", 3).executions


def test_caches_that_nobody_takes_any_more_can_be_collected() -> None:
    bench = Bench(spec=pipeline(transform={"keep": {"updated_analyzer_cache": {"newest": 1}}}))
    for span in range(1, 6):
        bench.arrive(span)
        bench.settle()
    caches = [cache(e) for e in bench.ran("transform")]
    found = collectable(bench.spec, bench.plan(), bench.history, {"serving": 1})
    assert caches[-1] not in [one.artifact for one in found]
    assert [one.artifact for one in found if one.artifact in caches] == caches[-3::-1]
