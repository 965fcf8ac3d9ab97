"""Training data and serving logs side by side in one pipeline, with a validator each."""

from __future__ import annotations

from pathlib import Path

from tests.flow.bench import Bench

SPEC = """\
pipeline: taxi
module: ../model.py
nodes:
  examples: {kind: example_gen, input: "../data/taxi/{SPAN}"}
  served: {kind: example_gen, input: "../data/served/{SPAN}"}
  statistics: {kind: statistics_gen, inputs: {examples: examples}}
  served_statistics: {kind: statistics_gen, inputs: {examples: served}}
  schema: {kind: importer, artifact: Schema, path: ../schema.pbtxt}
  validator:
    kind: example_validator
    inputs: {statistics: statistics, serving_statistics: served_statistics}
    skew: {fare: 0.1}
    environment: TRAINING
  served_validator:
    {kind: example_validator, inputs: {statistics: served_statistics}, environment: SERVING, on_anomaly: quarantine}
  trainer: {kind: trainer, window: 3, train_steps: 100, inputs: {examples: examples}}
"""


def begun(root: Path, spec: str = SPEC) -> Bench:
    bench = Bench(root)
    (root / "specs/taxi.yaml").write_text(spec)
    return bench.start()


def compared(bench: Bench) -> list[tuple[str, list[int]]]:
    """Every validation of training data: its span, and the serving span that it was compared with."""
    return [
        (e.key, [span for span, _ in e.ingredients["inputs"]["serving_statistics"]])
        for e in bench.executions("validator")
    ]


def test_a_serving_span_that_comes_later_is_compared_with_and_nothing_is_trained_again(tmp_path: Path) -> None:
    bench = begun(tmp_path)
    for number in (1, 2):
        bench.span(number)
    bench.settle()
    assert sorted(compared(bench)) == [("span-1", []), ("span-2", [])]
    bench.span(2, "fare\n5\n", pipeline="served")
    bench.settle()
    assert compared(bench)[2:] == [("span-2", [2])]
    assert "served_statistics" not in bench.of("trainer")
    assert bench.trained_on() == ["spans 1..2 (2)"]
    bench.check()


def test_refused_serving_data_holds_no_training_up_and_is_not_compared_with(tmp_path: Path) -> None:
    bench = begun(tmp_path)
    bench.span(1, pipeline="served")
    bench.settle()
    bench.span(2, pipeline="served")
    bench.tick()
    bench.finish("served", "span-2")
    bench.tick()
    bench.finish("served_statistics", "span-2")
    bench.tick()
    bench.finish("served_validator", "span-2", blessed=0, reason="fare: out of range")
    bench.span(2)
    bench.settle()
    assert compared(bench) == [("span-2", [1])]
    assert "quarantined span 2: served_validator: fare: out of range" in bench.of("validator")
    assert bench.trained_on() == ["span-2"]
    bench.check()


def test_the_gap_survives_a_restart(tmp_path: Path) -> None:
    bench = begun(tmp_path)
    bench.span(1, pipeline="served")
    bench.span(3)
    bench.settle()
    before = compared(bench)
    assert before == [("span-3", [1])]
    bench.kill()
    bench.start().settle()
    assert compared(bench) == before, "the same serving span, and judged once"
    bench.check()


BOTH_WAYS = SPEC.replace(
    "inputs: {statistics: served_statistics}, environment: SERVING, on_anomaly: quarantine}",
    "inputs: {statistics: served_statistics, serving_statistics: statistics}, on_anomaly: quarantine}",
)


def test_two_validators_that_look_at_each_others_spans_do_not_wait_for_each_other(tmp_path: Path) -> None:
    bench = begun(tmp_path, BOTH_WAYS)
    for number in (1, 2):
        bench.span(number)
        bench.span(number, pipeline="served")
    bench.settle()
    mine = {key: spans for key, spans in compared(bench) if spans}
    theirs = {
        e.key: [span for span, _ in e.ingredients["inputs"]["serving_statistics"]]
        for e in bench.executions("served_validator")
    }
    assert mine == {"span-1": [1], "span-2": [2]} == theirs
    assert bench.trained_on() == ["spans 1..2 (2)"]
    bench.check()


def test_what_either_refuses_is_kept_from_training_all_the_same(tmp_path: Path) -> None:
    bench = begun(
        tmp_path, BOTH_WAYS.replace("environment: TRAINING", "environment: TRAINING\n    on_anomaly: quarantine")
    )
    bench.span(1)
    bench.settle()
    bench.span(2)
    bench.tick()
    bench.finish("examples", "span-2")
    bench.tick()
    bench.finish("statistics", "span-2")
    bench.tick()
    bench.finish("validator", "span-2", blessed=0, reason="fare: out of range")
    bench.settle()
    assert bench.trained_on() == ["span-1"]
    bench.check()
