"""After a long time down: what was missed is made up for once, within the limits, and nothing starts twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ctd.core.executions import State
from tests.flow.bench import Bench

MISSED = 50
SERVING = """\
  evaluator: {kind: evaluator, label_key: fare, metrics: {MeanSquaredError: {}}}
  pusher: {kind: pusher, targets: [serving], require: [model]}
"""


def down_for_fifty_spans(tmp_path: Path, *, parallel: int, beam: int) -> Bench:
    """A pipeline that trained on and served span 1, then slept while 50 spans came."""
    bench = Bench(tmp_path, parallel=parallel, pools={"train": 1, "beam": beam})
    spec = bench.spec()
    spec.write_text(spec.read_text() + SERVING)
    (tmp_path / "deploy_targets/serving.yaml").write_text("target: serving\nkind: tf_serving\npath: ../serving\n")
    bench.span(1)
    bench.start()
    to_the_end(bench)
    assert ended(bench, "pusher") == 1
    bench.kill()
    for number in range(2, MISSED + 2):
        bench.span(number)
    bench.clock.forward(days=MISSED)
    return bench.start()


def to_the_end(bench: Bench) -> int:
    """Everything that runs succeeds, one after the other; the most that ever ran at once."""
    most = 0
    bench.tick()
    while ids := list(bench.executor.running()):
        most = max(most, len(ids))
        nodes = Counter(bench.executor.requests[id_].node for id_ in ids)
        assert nodes["trainer"] <= 1
        assert nodes["statistics"] + nodes["evaluator"] <= max(1, bench.limits.pools["beam"])
        request = bench.executor.requests[ids[0]]
        blessed = {"evaluator": {"blessed": 1, "reason": "good"}, "pusher": {"pushed_version": ids[0]}}.get(
            request.node, {}
        )
        if request.node == "evaluator" and request.piece == "verdict":
            blessed = {**blessed, "current_model_id": request.inputs["model"][0].id}
        bench._succeed(request, **blessed)
        bench.tick()
    return most


def ended(bench: Bench, node: str) -> int:
    return len(bench.executions(node, State.SUCCEEDED))


def test_fifty_missed_spans_are_one_training_and_one_push(tmp_path: Path) -> None:
    bench = down_for_fifty_spans(tmp_path, parallel=4, beam=2)
    assert to_the_end(bench) == 4, "as many at once as there are slots, and no more"
    for node in ("examples", "statistics", "validator"):
        assert ended(bench, node) == MISSED + 1
    assert bench.trained_on() == ["span-1", "spans 49..51 (3)"]
    assert (ended(bench, "evaluator"), ended(bench, "pusher")) == (4, 2), "metrics and verdict of each model, once"
    attempts = Counter((e.node, e.piece, e.key, e.fingerprint) for e in bench.executions())
    assert set(attempts.values()) == {1}
    bench.check()


def test_it_is_killed_again_while_it_catches_up_and_does_nothing_twice(tmp_path: Path) -> None:
    bench = down_for_fifty_spans(tmp_path, parallel=4, beam=2)
    for _ in range(2):
        bench.tick()
        for id_ in list(bench.executor.running())[:2]:
            bench._succeed(bench.executor.requests[id_])
        bench.tick()
        bench.kill()
        bench.start()
    to_the_end(bench)
    assert bench.trained_on() == ["span-1", "spans 49..51 (3)"]
    assert ended(bench, "examples") == MISSED + 1
    assert len(bench.executions(state=State.ABANDONED)) <= 2 * 4
    bench.check()


def test_many_pipelines_that_wake_up_together_share_the_slots(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parallel=3, pools={"train": 1, "beam": 3})
    names = [f"p{n}" for n in range(12)]
    for name in names:
        bench.spec(name)
        for number in (1, 2):
            bench.span(number, pipeline=name)
    bench.start()
    assert to_the_end(bench) == 3
    trained = Counter(e.pipeline for e in bench.executions("trainer", State.SUCCEEDED))
    assert trained == dict.fromkeys(names, 1)
    bench.check()
