"""Which spans a schema is inferred from: its window's, or where it has none those of the windows downstream."""

from __future__ import annotations

from pathlib import Path

import pytest
from planning_world import NODES, Bench, pipeline

from ctd.core.executions import Execution
from ctd.core.requests import Verb
from ctd.core.selectors import AllSpans, AnyOf, Between, Newest, Pinned, Selector
from ctd.planning.decisions import Reuse, Run
from ctd.specs.load import load_folder, load_pipeline

HEAD = """\
pipeline: p
module: m.py
nodes:
  examples: {kind: example_gen, input: "/d/{SPAN}"}
  statistics: {kind: statistics_gen, inputs: {examples: examples}}
  schema: {kind: schema_gen, inputs: {statistics: statistics}}
"""
JUDGED = "evaluator, label_key: y, metrics: {AUC: {}}"
OTHER = '  other: {kind: example_gen, input: "/o/{SPAN}"}\n'


def window_of_schema(tmp_path: Path, nodes: str, head: str = HEAD) -> Selector:
    (tmp_path / "p.yaml").write_text(head + nodes)
    (schema,) = (w for w in load_pipeline(tmp_path / "p.yaml").work if w.node == "schema")
    return schema.piece.takes["statistics"].select


@pytest.mark.parametrize(
    ("nodes", "select"),
    [
        pytest.param("", Newest(1), id="nothing takes it"),
        pytest.param("  v: {kind: example_validator}\n", Newest(1), id="nothing has a window"),
        pytest.param("  t: {kind: transform}\n  m: {kind: trainer}\n", Newest(1), id="the newest span"),
        pytest.param("  t: {kind: transform, window: 3}\n  m: {kind: trainer}\n", Newest(3), id="transform"),
        pytest.param("  t: {kind: transform, window: 7}\n  m: {kind: trainer, window: 3}\n", Newest(7), id="a part"),
        pytest.param("  m: {kind: trainer, window: 5}\n", Newest(5), id="no transform"),
        pytest.param(
            f"  t: {{kind: transform, window: 2}}\n  m: {{kind: trainer}}\n  e: {{kind: {JUDGED}, window: 4}}\n",
            Newest(4),
            id="the longest of several",
        ),
        pytest.param("  t: {kind: transform, window: 3, min_spans: 2, on_gap: wait}\n", Newest(3), id="who waits"),
        pytest.param("  t: {kind: transform, window: all}\n  m: {kind: trainer}\n", AllSpans(), id="all spans"),
        pytest.param("  t: {kind: transform, window: {first: 2, last: 5}}\n", Between(2, 5), id="a range"),
        pytest.param("  t: {kind: transform, window: {first: 2}}\n", Between(2, None), id="an open range"),
        pytest.param("  t: {kind: transform, window: {pinned: [4, 2]}}\n", AnyOf((Pinned((2, 4)),)), id="pinned spans"),
        pytest.param(
            f"  t: {{kind: transform, window: {{pinned: [1, 2]}}}}\n  m: {{kind: trainer}}\n  e: {{kind: {JUDGED}}}\n",
            AnyOf((Newest(1), Pinned((1, 2)))),
            id="pinned spans and the newest",
        ),
        pytest.param(
            f"  t: {{kind: transform, window: {{first: 1, last: 4}}}}\n  m: {{kind: trainer}}\n"
            f"  e: {{kind: {JUDGED}, window: 2}}\n",
            AnyOf((Newest(2), Between(1, 4))),
            id="a range and the newest",
        ),
        pytest.param(
            f"{OTHER}  m: {{kind: trainer, window: 3, inputs: {{examples: examples}}}}\n"
            f"  e: {{kind: {JUDGED}, window: 9, inputs: {{examples: other}}}}\n",
            Newest(3),
            id="spans of other data",
        ),
        pytest.param(
            "  t: {kind: transform, window: 3, inputs: {schema: curated}}\n"
            "  curated: {kind: importer, artifact: Schema, path: s.pbtxt}\n"
            "  v: {kind: example_validator, inputs: {schema: schema}}\n",
            Newest(3),
            id="a validator that judges by it stands before the window",
        ),
        pytest.param(
            "  t: {kind: transform, window: 3, inputs: {schema: curated}}\n"
            "  curated: {kind: importer, artifact: Schema, path: s.pbtxt}\n",
            Newest(1),
            id="nobody who has a window takes it",
        ),
    ],
)
def test_without_a_window_it_is_inferred_from_the_spans_of_the_windows_downstream(
    tmp_path: Path, nodes: str, select: Selector
) -> None:
    (tmp_path / "m.py").touch()
    (tmp_path / "s.pbtxt").touch()
    assert window_of_schema(tmp_path, nodes) == select


def test_times_of_windows_downstream_have_the_numbers_of_their_spans(tmp_path: Path) -> None:
    head = HEAD.replace("/d/{SPAN}", "/d/{YYYY}-{MM}-{DD}")
    nodes = "  t: {kind: transform, window: {first: 2026-11-01, last: 2026-11-30}}\n"
    assert window_of_schema(tmp_path, nodes, head) == Between(20_758, 20_787)


def test_its_own_window_counts(tmp_path: Path) -> None:
    head = HEAD.replace("schema_gen,", "schema_gen, window: 2,")
    assert window_of_schema(tmp_path, "  t: {kind: transform, window: 5}\n", head) == Newest(2)


@pytest.mark.parametrize(
    ("window", "more", "warned"),
    [
        ("1", "", "p.yaml:6: warning: the schema is inferred from the newest span, and t takes the newest 3 spans"),
        ("2", "", "p.yaml:6: warning: the schema is inferred from the newest 2 spans, and t takes the newest 3 spans"),
        ("{pinned: [4]}", "", "p.yaml:6: warning: the schema is inferred from span 4, and t takes the newest 3 spans"),
        ("3", "", ""),
        ("all", "", ""),
        ("{pinned: [4]}", "  v: {kind: example_validator, on_anomaly: quarantine}\n", ""),
        (
            "{pinned: [4]}",
            "  v: {kind: example_validator, on_anomaly: warn}\n",
            "p.yaml:6: warning: the schema is inferred from span 4, and t takes the newest 3 spans",
        ),
    ],
)
def test_a_window_that_is_smaller_than_those_downstream_is_warned_of(
    tmp_path: Path, window: str, more: str, warned: str
) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "targets").mkdir()
    (tmp_path / "specs/m.py").touch()
    text = HEAD.replace("schema_gen,", f"schema_gen, window: {window},") + "  t: {kind: transform, window: 3}\n" + more
    (tmp_path / "specs/p.yaml").write_text(text)
    found = load_folder(tmp_path / "specs", tmp_path / "targets").problems
    said = [str(p) for problems in found.values() for p in problems]
    assert [line.partition("specs/")[2].split(" Take `window`")[0].split(". What")[0] for line in said] == (
        [warned] if warned else []
    )


# What is planned.

INFERRED = {**NODES, "schema": {"kind": "schema_gen"}}


def settled(*spans: int, **edits: object) -> Bench:
    bench = Bench(spec=pipeline(INFERRED, **edits), shape=INFERRED)
    for number in spans:
        bench.arrive(number)
    bench.settle()
    return bench


def spans_of(bench: Bench, e: Execution, key: str) -> list[int]:
    return [a.span or 0 for i in e.inputs[key] if (a := bench.history.artifact(i))]


def last(bench: Bench, node: str, key: str) -> list[int]:
    return spans_of(bench, bench.ran(node)[-1], key)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (3, [3, 4, 5]),
        ("all", [1, 2, 3, 4, 5]),
        ({"first": 2, "last": 3}, [2, 3, 5]),  # the evaluator takes the newest
        ({"pinned": [1, 3]}, [1, 3, 5]),
    ],
)
def test_a_schema_has_the_spans_that_transform_has(window: object, expected: list[int]) -> None:
    bench = settled(1, 2, 3, 4, 5, transform={"window": window}, validator=None)
    assert last(bench, "schema", "statistics") == expected
    assert {*last(bench, "transform", "examples")} <= {*expected}


def test_a_denied_span_is_in_neither() -> None:
    bench = settled(1, 2, 3, 4, examples={"deny": [3]})
    assert last(bench, "schema", "statistics") == last(bench, "transform", "examples") == [1, 2, 4]


def test_a_pinned_span_that_is_not_there_does_not_hold_the_others_up() -> None:
    bench = settled(1, 2, transform={"window": {"pinned": [1, 9]}}, validator=None)
    assert last(bench, "schema", "statistics") == [1, 2]
    assert not bench.ran("transform")


def test_a_span_that_fails_is_looked_past() -> None:
    bench = settled(1, 2, 3)
    bench.arrive(4, content="empty")
    bench.settle()
    assert last(bench, "schema", "statistics") == [1, 2, 3]


def test_work_on_newest_spans_only_is_what_it_was_before() -> None:
    """Where nothing has a window nothing is done again: neither is it other work, nor of other spans."""
    bench = settled(1, 2, transform={"window": None}, trainer={"window": None})
    assert last(bench, "schema", "statistics") == [2]
    done = len(bench.history)
    bench.spec = pipeline(INFERRED, transform={"window": None}, trainer={"window": None}, schema={"window": 1})
    made = bench.settle()
    assert [d.subject.node for d in made.decisions if isinstance(d, Run)] == []
    assert len(bench.history) == done
    assert all(isinstance(d, Reuse) for d in made.decisions if d.subject.node == "schema")


def test_a_schema_that_says_the_same_of_more_spans_trains_nothing_again() -> None:
    bench = settled(1, 2, 3, schema={"window": 1})
    trained = len(bench.ran("trainer"))
    schema = bench.ran("schema")[-1].output("schema")[0].digest
    bench.spec = pipeline(INFERRED)
    (run,) = bench.plan().runs
    assert (run.subject.node, [a.span for a in run.inputs["statistics"]]) == ("schema", [1, 2, 3])
    assert schema
    assert trained == 1


def test_an_edit_of_a_window_downstream_infers_the_schema_again_and_that_of_a_pusher_does_not() -> None:
    bench = settled(1, 2, 3, 4)
    bench.spec = pipeline(INFERRED, transform={"window": 2}, trainer={"window": 2})
    bench.settle()
    assert last(bench, "schema", "statistics") == [3, 4]
    done = len(bench.ran("schema"))
    bench.spec = pipeline(INFERRED, transform={"window": 2}, trainer={"window": 2}, pusher={"require": ["model"]})
    bench.settle()
    assert len(bench.ran("schema")) == done


def test_a_new_span_is_judged_once_by_the_schema_that_has_seen_it() -> None:
    bench = settled(1, 2, 3)
    before = len(bench.ran("validator"))
    bench.arrive(4)
    made = bench.settle()
    assert not made.runs
    assert last(bench, "schema", "statistics") == [2, 3, 4]
    assert len(bench.ran("validator")) - before <= 4  # each span by the new schema at most once


def test_a_quarantined_span_and_its_acceptance_move_both_windows_on() -> None:
    bench = settled(1, 2, 3)
    bench.arrive(4, content="odd")
    bench.settle()
    assert last(bench, "transform", "examples") == [1, 2, 3]
    bench.ask(Verb.ACCEPT, "validator", span=4)
    bench.settle()
