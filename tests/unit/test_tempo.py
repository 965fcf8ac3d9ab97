"""Data that comes faster than it can be worked on starves nothing (decision 023), in simulated time.

The rule: *every model that ends is judged, or passed over by a newer one that ended; while data never stops, models are
judged and pushed at least every k trainings*, where k depends on how long judging takes beside training, and on nothing
else: 2 where it is quicker.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from planning_world import JUDGED_TWICE, NODES, SPLIT, TWO
from tempo_world import QUICK, Simulation, Tempo

SHAPES = {"one input": NODES, "an inferred schema": SPLIT, "two inputs": TWO, "two evaluators": JUDGED_TWICE}
REFUSING = {"metrics": {"AUC": {"at_least": 0.9}}}  # models whose digest is low are refused
HASTY = {"trainer": {"supersede": "running"}}


def seconds(least: float, most: float) -> st.SearchStrategy[float]:
    return st.floats(least, most).map(lambda x: round(x, 1))


DURATIONS = st.fixed_dictionaries(
    {
        "examples": seconds(0.2, 8), "statistics": seconds(0.2, 8), "schema": seconds(0.2, 4),
        "validator": seconds(0.2, 4), "transform": seconds(1, 15), "trainer": seconds(4, 30),
        "evaluator": seconds(1, 45), "infra": seconds(1, 45), "pusher": seconds(0.5, 10),
    }
)  # fmt: skip

TEMPI = st.builds(
    Tempo,
    every=seconds(2, 20),
    takes=DURATIONS,
    parallel=st.integers(2, 5),
    fails=st.sampled_from([0.0, 0.0, 10.0]),
    jitter=st.sampled_from([0.0, 0.4]),
    corrections=st.sampled_from([0.0, 20.0]),
    edits=st.sampled_from([{}, {"evaluator": REFUSING}, HASTY, {"trainer": {"coalesce": "5s"}}]),
    shape=st.sampled_from(list(SHAPES.values())),
    seed=st.integers(0, 1000),
)


def most_trainings(tempo: Tempo) -> int:
    """The k of the rule: one that is judged, one that ends meanwhile, and as many more as fit into judging."""
    takes = dict(tempo.takes)
    takes = {node: longest * (1 + tempo.jitter) for node, longest in takes.items() if node in tempo.shape}
    judging = takes["evaluator"] * (2 if "safety" in tempo.shape else 1) + takes.get("infra", 0) + takes["pusher"]
    # Each piece of it may wait until something else has ended.
    for_slots = 4 * max(takes.values()) if tempo.parallel < len(takes) - 1 else 0
    shortest = takes["trainer"] * (1 - tempo.jitter) / (1 + tempo.jitter)
    lost = 8 if tempo.fails else 0
    return 2 + lost + math.ceil((judging + for_slots) / shortest)


def lived(tempo: Tempo) -> Simulation:
    takes = [tempo.takes[node] for node in tempo.shape if node in tempo.takes]
    return Simulation(tempo).run(min(500, 120 + 4 * sum(takes)))


@settings(max_examples=settings().max_examples // 60)  # each lives through minutes
@given(TEMPI)
@example(Tempo())
@example(Tempo(every=10))
@example(Tempo(parallel=1))
@example(Tempo(every=9.0, shape=TWO))
@example(Tempo(edits=HASTY))
@example(Tempo(takes={**QUICK, "examples": 15.0}, parallel=4))
@example(Tempo(takes={**QUICK, "transform": 20.0}, parallel=3))
@example(Tempo(takes={**QUICK, "evaluator": 20.0, "infra": 20.0}, parallel=5))
@example(Tempo(every=3.4, takes={**QUICK, "trainer": 4.8, "evaluator": 17.1, "infra": 16.0}, parallel=8))
@example(Tempo(takes={**QUICK, "statistics": 15.0, "schema": 9.0, "validator": 9.0}, parallel=6, shape=SPLIT))
@example(Tempo(parallel=3, shape=JUDGED_TWICE))
@example(Tempo(takes={**QUICK, "evaluator": 14.0}, parallel=3, edits={"safety": REFUSING}, shape=JUDGED_TWICE))
def test_a_feed_that_never_stops_starves_nothing(tempo: Tempo) -> None:
    lived_through = lived(tempo)
    most = most_trainings(tempo)
    judged = lived_through.judged()
    assert lived_through.trained(), "nothing was trained"
    assert max(lived_through.trainings_between([at for at, _, _ in judged])) <= most
    good = [model for _, model, yes in judged if yes]
    pushed = [model for _, model in lived_through.pushed()]
    assert set(pushed) <= set(good), "only what all gates have blessed"
    if REFUSING not in tempo.edits.values():
        assert max(lived_through.trainings_between([at for at, _ in lived_through.pushed()])) <= most
    judges = [(node, piece) for node in ("evaluator", "safety") for piece in ("metrics", "verdict")]
    for node, piece in (*judges, ("infra", None), ("pusher", None)):
        had = lived_through.models(node, piece)
        assert all(a < b for a, b in pairwise(had)), f"{node}: twice, or out of order"


def test_at_the_rates_of_the_example_every_second_training_is_pushed() -> None:
    """A span every 6 s, 12 s of training: the figure that ctd is held to."""
    for every, parallel in ((6.0, 2), (10.0, 2), (6.0, 1), (3.0, 2)):
        simulation = Simulation(Tempo(every=every, parallel=parallel)).run(240)
        assert max(simulation.trainings_between([at for at, _ in simulation.pushed()])) <= 2


def test_spans_that_come_together_are_worked_on_once() -> None:
    simulation = Simulation(Tempo(every=0.1, spans=6)).run(100)
    assert [e.key for e in simulation.trained()] == ["spans 4..6 (3)"]


def test_an_input_that_alone_takes_all_slots_starves_no_other() -> None:
    """Spans of the one are to be read, described and validated faster than a single slot can do."""
    slow = {"examples": 7.0, "statistics": 7.0, "validator": 3.0}
    simulation = Simulation(Tempo(every=6.8, takes={**QUICK, **slow}, parallel=1, shape=TWO)).run(300)
    read = [len(simulation.bench.ran(node)) for node in ("examples", "holdout")]
    assert max(read) - min(read) <= 1
    assert len(simulation.pushed()) > 1


@pytest.mark.parametrize("name", SHAPES)
def test_data_that_stops_leaves_nothing_to_do(name: str) -> None:
    """What is ready is judged on the way, and in the end everything is about the newest."""
    simulation = Simulation(Tempo(every=7.0, spans=12, shape=SHAPES[name])).run(200)
    made = simulation.bench.plan()
    assert [d.action for d in made.decisions if d.action != "reuse"] == []
    newest = simulation.trained()[-1].output("model")[0].id
    assert [simulation.models(node)[-1] for node in ("evaluator", "pusher")] == [newest, newest]


INFERRED: dict[str, Any] = {**NODES, "schema": {"kind": "schema_gen"}}
UNCHECKED = {name: said for name, said in INFERRED.items() if name != "validator"}


@pytest.mark.parametrize("shape", [INFERRED, UNCHECKED], ids=["with a validator", "without"])
@pytest.mark.parametrize("slow", [{}, {"examples": 15.0}, {"statistics": 9.0}, {"schema": 6.0}], ids=str)
def test_what_an_inferred_schema_has_not_seen_is_not_taken_with_it(
    shape: Mapping[str, Any], slow: Mapping[str, float]
) -> None:
    """While data never stops there is always a newer span; a schema may ask for what that has not."""
    simulation = Simulation(Tempo(parallel=5, takes={**QUICK, **slow}, shape=shape)).run(300)
    bench = simulation.bench
    assert simulation.trained()
    taken = [(e, "examples") for e in bench.ran("transform")] + [(e, "statistics") for e in bench.ran("validator")]
    for e, key in taken:
        maker = bench.history.maker(e.inputs["schema"][0])
        assert maker
        seen = {n for n, _ in maker.ingredients["inputs"]["statistics"]}
        assert {n for n, _ in e.ingredients["inputs"][key] if n >= min(seen)} <= seen
