"""Of several evaluators of a model each has to bless it: for a push, a baseline, a warm start, and to be kept."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_world import JUDGED_TWICE, Bench, model_of, pipeline

from ctd.core.executions import Execution, Failure, State
from ctd.planning.blessed import blessed_models
from ctd.planning.decisions import Blocked, Decision, Run, Wait
from ctd.specs.load import load_pipeline
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.problems import SpecProblems

STRICT = {"metrics": {"AUC": {"at_least": 1.0}}}  # no model of these tests is as good
HALF = {"metrics": {"AUC": {"at_least": 0.8}}}  # every second one is
JUDGES = ("evaluator", "safety")


def bench_of(**edits: Any) -> Bench:
    bench = Bench(spec=pipeline(JUDGED_TWICE, **edits), shape=JUDGED_TWICE)
    bench.arrive(1)
    return bench


def of(bench: Bench, node: str, piece: str | None = None) -> Decision:
    (found,) = (d for d in bench.plan().decisions if d.subject.node == node and piece in (None, d.subject.piece))
    return found


def pusher(bench: Bench) -> Decision:
    return of(bench, "pusher", "serving")


def run_all_but(bench: Bench, *nodes: str) -> None:
    """Work until nothing is to run but these nodes."""
    while runs := [r for r in bench.plan().runs if r.subject.node not in nodes]:
        for run in runs:
            bench.finish(bench.start(run), run)


def pushed(bench: Bench) -> list[int]:
    return [model_of(e) for e in bench.ran("pusher", "serving") if e.state is State.SUCCEEDED]


def models(bench: Bench) -> list[int]:
    return [e.output("model")[0].id for e in bench.ran("trainer") if e.state is State.SUCCEEDED]


def blessed(bench: Bench) -> list[int]:
    return [m.id for m in blessed_models(bench.history, bench.spec.name, bench.spec.judges)]


# Who is asked.

HEAD = """\
pipeline: p
module: m.py
nodes:
  examples: {kind: example_gen, input: "/d/{SPAN}"}
"""
ONE, OTHER = (f"  {name}: {{kind: evaluator, label_key: y, metrics: {{AUC: {{}}}}}}\n" for name in ("one", "other"))
PUSH = "  push: {kind: pusher, targets: [a], require: [model]}\n"


def load(tmp_path: Path, nodes: str) -> PipelineSpec:
    (tmp_path / "m.py").touch()
    (tmp_path / "p.yaml").write_text(HEAD + nodes)
    return load_pipeline(tmp_path / "p.yaml")


def asked(spec: PipelineSpec, node: str = "push") -> dict[str, str]:
    """Whose blessings a pusher asks for, by input."""
    (wired,) = (w for w in spec.work if w.node == node and w.piece.effect)
    return {key: s.node for key, s in wired.sources.items() if wired.piece.takes[key].must_be_blessed}


def test_a_pusher_asks_all_that_judge_its_model(tmp_path: Path) -> None:
    found = asked(load(tmp_path, "  m: {kind: trainer}\n" + ONE + OTHER + PUSH))
    assert found == {"model_blessing": "one", "model_blessing.other": "other"}


def test_it_asks_all_infra_validators_too(tmp_path: Path) -> None:
    infra = "".join(f"  i{n}: {{kind: infra_validator}}\n" for n in (1, 2))
    found = asked(load(tmp_path, "  m: {kind: trainer}\n" + ONE + infra + PUSH.replace(", require: [model]", "")))
    assert found == {"model_blessing": "one", "infra_blessing": "i1", "infra_blessing.i2": "i2"}


def test_an_input_that_is_said_is_the_only_one(tmp_path: Path) -> None:
    push = PUSH.replace("require", "inputs: {model_blessing: other}, require")
    spec = load(tmp_path, "  m: {kind: trainer}\n" + ONE + OTHER + push)
    assert asked(spec) == {"model_blessing": "other"}


def test_one_evaluator_is_asked_as_before(tmp_path: Path) -> None:
    assert asked(load(tmp_path, "  m: {kind: trainer}\n" + ONE + PUSH)) == {"model_blessing": "one"}


TRAINERS = "  m: {kind: trainer}\n  n: {kind: trainer}\n"


def about(nodes: str, model: str) -> str:
    judged = f"kind: evaluator, inputs: {{model: {model}, baseline_model: {model}}}"
    pushed = f"kind: pusher, inputs: {{model: {model}}}"
    return nodes.replace("kind: evaluator", judged).replace("kind: pusher", pushed)


def test_of_two_models_each_is_judged_by_its_own(tmp_path: Path) -> None:
    push = about(PUSH, "m") + about(PUSH, "n").replace("push", "push2", 1).replace("[a]", "[b]")
    spec = load(tmp_path, TRAINERS + about(ONE, "m") + about(OTHER, "n") + push)
    assert (asked(spec), asked(spec, "push2")) == ({"model_blessing": "one"}, {"model_blessing": "other"})


def test_a_model_that_none_of_several_judges_is_refused_at_its_pusher(tmp_path: Path) -> None:
    nodes = TRAINERS + about(ONE, "m") + about(OTHER, "m") + about(PUSH, "n")
    with pytest.raises(SpecProblems, match="none of one and other judges the models of n") as refused:
        load(tmp_path, nodes)
    (problem,) = refused.value.problems
    assert "Wire one to it" in str(problem)


# What is pushed.


def test_a_model_that_both_bless_is_pushed_once() -> None:
    bench = bench_of()
    bench.settle()
    assert pushed(bench) == blessed(bench) == models(bench)
    assert len(models(bench)) == 1


@pytest.mark.parametrize("refusing", JUDGES)
def test_what_one_refuses_is_not_pushed_and_is_nobodys_baseline(refusing: str) -> None:
    bench = bench_of(**{refusing: STRICT})
    bench.settle()
    found = pusher(bench)
    assert isinstance(found, Blocked)
    assert found.because.startswith(f"{refusing}: ")
    bench.arrive(2)
    bench.settle()
    assert pushed(bench) == blessed(bench) == []
    assert all("base_model" not in e.inputs for e in bench.ran("trainer"))
    assert all("baseline_model" not in e.inputs for node in JUDGES for e in bench.ran(node, "metrics"))


def test_all_that_refuse_are_named() -> None:
    bench = bench_of(evaluator=STRICT, safety=STRICT)
    bench.settle()
    because = pusher(bench).because
    assert "evaluator: " in because
    assert "safety: " in because


@pytest.mark.parametrize("last", JUDGES)
def test_one_that_has_not_judged_yet_is_waited_for(last: str) -> None:
    bench = bench_of()
    run_all_but(bench, last)
    assert isinstance(pusher(bench), Wait)
    assert blessed(bench) == []
    bench.settle()
    assert pushed(bench) == models(bench)


@pytest.mark.parametrize("failing", JUDGES)
def test_one_that_fails_holds_the_push_up_until_it_is_mended(failing: str) -> None:
    bench = bench_of()
    bench.failures[failing] = Failure("BadInput", "no label 'tips'", hint="Mend it.")
    bench.settle()
    assert (pushed(bench), blessed(bench)) == ([], [])
    assert failing in pusher(bench).because
    assert "no label" in pusher(bench).because
    bench.failures.clear()
    bench.spec = pipeline(JUDGED_TWICE, **{failing: {"timeout": "3h"}})
    bench.settle()
    assert pushed(bench) == models(bench)


def test_a_limit_that_was_lowered_is_judged_again_and_pushes() -> None:
    bench = bench_of(safety=STRICT)
    bench.settle()
    bench.spec = pipeline(JUDGED_TWICE)
    before = [len(bench.ran(node, "metrics")) for node in JUDGES]
    bench.settle()
    assert [len(bench.ran(node, "metrics")) for node in JUDGES] == before
    assert pushed(bench) == models(bench)


# A second one that comes later.


def only_one() -> Bench:
    bench = Bench(spec=pipeline())
    bench.arrive(1)
    bench.settle()
    return bench


def added(bench: Bench, **edits: Any) -> int:
    """Add the second evaluator; how much there was before."""
    bench.spec, bench.shape = pipeline(JUDGED_TWICE, **edits), JUDGED_TWICE
    return len(bench.history)


def test_a_second_evaluator_runs_itself_and_nothing_else_again() -> None:
    bench = only_one()
    before = added(bench)
    bench.settle()
    assert [e.node for e in list(bench.history)[before:]] == ["safety", "safety"]
    assert len(pushed(bench)) == 1


def test_what_is_live_stays_the_baseline_until_the_second_has_judged_it() -> None:
    bench = only_one()
    added(bench)
    assert blessed(bench) == models(bench)


def test_what_is_live_stays_live_if_the_second_refuses_it_and_is_no_baseline() -> None:
    bench = only_one()
    added(bench, safety=STRICT)
    bench.settle()
    assert isinstance(pusher(bench), Blocked)
    assert (blessed(bench), len(pushed(bench))) == ([], 1)


def test_an_evaluator_that_is_taken_out_or_renamed_leaves_what_was_blessed() -> None:
    bench = bench_of()
    bench.settle()
    bench.spec = pipeline()
    bench.settle()
    assert blessed(bench) == models(bench)
    bench.spec = pipeline({("quality" if n == "evaluator" else n): said for n, said in JUDGED_TWICE.items()})
    assert blessed(bench) == models(bench)
    bench.settle()
    assert len(pushed(bench)) == 1


def test_a_refusal_of_an_evaluator_that_is_gone_is_forgotten() -> None:
    bench = bench_of(safety=STRICT)
    bench.settle()
    bench.spec = pipeline()
    bench.settle()
    assert pushed(bench) == blessed(bench) == models(bench)


# In whatever order things end.


class Life:
    """Work that begins and ends in any order."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.random = bench, random.Random(seed)
        self.runs: dict[int, Run] = {}

    def step(self) -> bool:
        """Begin or end one piece of work; whether there was anything to do."""
        runs = list(self.bench.plan().runs)
        going = [e for e in self.bench.history.running() if e.id in self.runs]
        if not runs and not going:
            return False
        if runs and (not going or self.random.random() < 0.5):
            run = self.random.choice(runs)
            self.runs[self.bench.start(run).id] = run
        else:
            e = self.random.choice(going)
            self.bench.finish(e, self.runs.pop(e.id))
        return True

    def words(self, model: int) -> dict[tuple[str, str], bool]:
        """What was said of a model, by whom."""
        said = [(e, a) for e in self.bench.history for a in e.output("blessing")]
        return {(e.node, e.piece): a.blessed for e, a in said if a.properties.get("current_model_id") == model}


ALL = {("evaluator", "verdict"), ("safety", "verdict"), ("infra", "")}


@settings(max_examples=settings().max_examples // 20)  # each lives through some dozens of plans
@given(
    st.integers(0, 10_000),
    st.sampled_from([{}, {"safety": HALF}, {"evaluator": HALF}, {"evaluator": HALF, "safety": HALF}]),
    st.lists(st.integers(0, 12), min_size=1, max_size=5),
)
def test_whatever_ends_first_only_what_all_have_blessed_is_pushed(
    seed: int, edits: dict[str, Any], pauses: list[int]
) -> None:
    life = Life(bench_of(**edits), seed)
    bench = life.bench
    seen: set[int] = set()
    for number, steps in enumerate([*pauses, 400], 2):
        for _ in range(steps):
            before = {m: life.words(m) for m in models(bench)}
            good = {m for m, said in before.items() if all(said.get(place) for place in ALL)}
            if not life.step():
                break
            for e in bench.ran("pusher", "serving"):
                if e.id not in seen:
                    seen.add(e.id)
                    assert model_of(e) in good, "pushed without the yes of all"
        if steps < 400:
            bench.arrive(number)
    assert not bench.plan().runs
    _starts_are_blessed(bench, life)
    newest = models(bench)[-1]
    assert (newest in pushed(bench)) == all(life.words(newest).get(place) for place in ALL)
    assert len(pushed(bench)) == len(set(pushed(bench)))


def _starts_are_blessed(bench: Bench, life: Life) -> None:
    """What trainings began with, and evaluators compared with, had the yes of all evaluators."""
    bases: list[tuple[Execution, str]] = [(e, "base_model") for e in bench.ran("trainer")]
    bases += [(e, "baseline_model") for node in JUDGES for e in bench.ran(node, "metrics")]
    for e, key in bases:
        for base in e.inputs.get(key, ()):
            said = life.words(base)
            assert all(said.get((node, "verdict")) for node in JUDGES)
            assert base < e.id
