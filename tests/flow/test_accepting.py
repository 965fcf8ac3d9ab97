"""What `ctd accept`, `approve` and `reject` answer is what then happens."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ctd.api.models import RequestView
from ctd.api.requests import RequestForm
from ctd.cli.act import line
from ctd.core.errors import ComponentFailed, CtdError, NotFound, NotPossible
from ctd.daemon.inbox import Inbox
from tests.flow.bench import Bench

SPEC = """\
pipeline: taxi
module: ../model.py
nodes:
  examples:
    {{kind: example_gen, input: "../data/taxi/{pattern}", complete: {{marker: _SUCCESS}}, max_lateness: 1d{examples}}}
  statistics: {{kind: statistics_gen}}
  schema: {{kind: importer, artifact: Schema, path: ../schema.pbtxt}}
  validator: {{kind: example_validator, on_anomaly: quarantine{validator}}}
  trainer: {{kind: trainer, window: {window}{trainer}}}
"""


def save(bench: Bench, **said: Any) -> None:
    keys = {"pattern": "{SPAN}", "examples": "", "validator": "", "trainer": "", "window": 3}
    (bench.root / "specs/taxi.yaml").write_text(SPEC.format(**{**keys, **said}))


def bench_of(root: Path, **said: Any) -> Bench:
    bench = Bench(root)
    save(bench, **said)
    return bench.start()


def read(bench: Bench, *numbers: int) -> None:
    for number in numbers:
        bench.span(number)
        bench.settle()
        bench.clock.forward(hours=1)


def refuse(bench: Bench, key: str) -> None:
    """A span that is there is read, and refused."""
    bench.tick()
    for node in ("examples", "schema", "statistics"):
        if bench.running(node):
            bench.finish(node)
        bench.tick()
    bench.finish("validator", key, blessed=0, reason="fare: out of range")
    bench.tick()


def ask(bench: Bench, verb: str, **said: Any) -> list[RequestView]:
    inbox = Inbox(bench.views(), bench.reconciler.obey, bench.controller.look, bench.clock)
    reason = {"reason": "so be it"} if verb == "accept" else {}
    form = RequestForm(verb=verb, pipeline="taxi", **reason, **said)
    found = inbox.take(form, "ana").requests
    bench.clock.forward(seconds=1)
    return found


def refusal(bench: Bench, verb: str, **said: Any) -> str:
    with pytest.raises((NotPossible, NotFound)) as caught:
        ask(bench, verb, **said)
    assert isinstance(caught.value, CtdError)
    return f"{caught.value.message}. {caught.value.hint}"


def test_what_nothing_else_stands_in_the_way_of_is_taken(tmp_path: Path) -> None:
    bench = bench_of(tmp_path)
    read(bench, 1)
    bench.span(2)
    refuse(bench, "span-2")
    (said,) = ask(bench, "accept", span="2")
    assert (said.obstacles, said.baseline) == ([], False)
    assert line(said) == (
        "span-2 is accepted although taxi validator refused it: windows take it. It is no baseline for other spans."
    )
    bench.settle()
    assert bench.trained_on()[-1] == "spans 1..2 (2)"
    assert "Windows that reach back to it take it." in refusal(bench, "accept", span="2")


def test_of_one_that_came_too_late_it_says_so_and_how_to_let_it_in(tmp_path: Path) -> None:
    bench = bench_of(tmp_path)
    read(bench, 1, 3)
    bench.clock.forward(days=2)
    bench.span(2)
    refuse(bench, "span-2")
    (said,) = ask(bench, "accept", span="2")
    assert [o.kind for o in said.obstacles] == ["late"]
    assert "but windows still go without it: it came 2d1h after span 3" in line(said)
    assert "`ctd backfill taxi 2 2` lets it in." in line(said)
    bench.settle()
    assert bench.trained_on()[-1] == "spans 1..3 (2)"
    assert "But windows leave it out: it came 2d1h after span 3" in refusal(bench, "accept", span="2")
    bench.ask("backfill", first="2", last="2")
    bench.settle()
    assert bench.trained_on()[-1] == "spans 1..3 (3)"


def test_of_one_that_the_spec_denies_it_says_so(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, examples=", deny: [2]")
    read(bench, 1)
    bench.span(2)
    refuse(bench, "span-2")
    (said,) = ask(bench, "accept", span="2")
    assert [(o.kind, o.hint) for o in said.obstacles] == [("denied", "Take 2 out of `deny` of examples.")]
    bench.settle()
    assert bench.trained_on() == ["span-1"]
    save(bench)
    bench.settle()
    assert bench.trained_on()[-1] == "spans 1..2 (2)"


def test_of_one_that_no_window_reaches_it_says_so(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, window=1)
    bench.span(1)
    refuse(bench, "span-1")
    read(bench, 2)
    (said,) = ask(bench, "accept", span="1")
    assert [o.kind for o in said.obstacles] == ["out of reach"]
    bench.settle()
    assert bench.trained_on() == ["span-2"]


def test_of_a_version_that_was_replaced_it_says_by_which(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, pattern="{SPAN}/v{VERSION}")
    for version in (1, 2):
        folder = bench.root / f"data/taxi/4/v{version}"
        folder.mkdir(parents=True)
        (folder / "trips.csv").write_text(f"fare\n{version}\n")
        (folder / "_SUCCESS").touch()
        refuse(bench, f"span-4.v{version}")
    said = refusal(bench, "accept", span="4.v1")
    assert (
        said == "span-4.v1 was replaced by span-4.v2, which is refused too. `ctd accept taxi 4.v2` would accept that."
    )
    assert "no validator of taxi has looked at a span 4.v3" in refusal(bench, "accept", span="4.v3")
    assert [r.key for r in ask(bench, "accept", span="4")] == ["span-4.v2"]


def test_of_one_that_no_validator_has_judged_it_says_why(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, examples=", start: 2")
    read(bench, 2, 3)
    bench.span(1)
    bench.span(4, marker=False)
    bench.tick()
    assert "span 1 is not read: 1 span before 2 is not read (start)" in refusal(bench, "accept", span="1")
    assert "has looked at span-4 yet: no _SUCCESS yet" in refusal(bench, "accept", span="4")
    assert "no validator of taxi has looked at a span 9" in refusal(bench, "accept", span="9")
    shutil.rmtree(bench.root / "data/taxi/3")
    bench.settle()
    assert "span 3 is no longer there" in refusal(bench, "accept", span="3")
    assert "span-2 is not refused: it is good" in refusal(bench, "accept", span="2")
    bench.span(5)
    bench.tick()
    bench.finish("examples")
    bench.tick()
    bench.fail("statistics", ComponentFailed("no rows", hint="mend"))
    bench.tick()
    assert "span-5 is not refused: validator: statistics/span-5 is blocked: no rows" in refusal(
        bench, "accept", span="5"
    )


def test_of_a_good_one_that_is_late_it_says_that(tmp_path: Path) -> None:
    bench = bench_of(tmp_path)
    read(bench, 1, 3)
    bench.clock.forward(days=2)
    read(bench, 2)
    said = refusal(bench, "accept", span="2")
    assert "span-2 is not refused, but windows leave it out: it came 2d1h after span 3" in said
    assert said.endswith("`ctd backfill taxi 2 2` lets it in.")


def test_an_acceptance_may_become_a_baseline_and_an_exception_again(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, validator=", drift: {fare: 0.1}")
    read(bench, 1)
    bench.span(2)
    refuse(bench, "span-2")

    def compared_with(number: int) -> list[int]:
        last = [e for e in bench.executions("validator") if e.key == f"span-{number}"][-1]
        return [of for of, _ in last.ingredients["inputs"]["previous_statistics"]]

    ask(bench, "accept", span="2")
    read(bench, 3)
    assert compared_with(3) == [1]
    (said,) = ask(bench, "accept", span="2", as_baseline=True)
    assert (said.baseline, said.obstacles) == (True, [])
    assert line(said).endswith("windows take it. Other spans are compared with it, too.")
    bench.settle()
    assert compared_with(3) == [2]
    assert "accepted before" in refusal(bench, "accept", span="2", as_baseline=True)
    ask(bench, "accept", span="2")
    bench.settle()
    read(bench, 4)
    assert compared_with(4) == [3]
    bench.kill()
    bench.start().settle()
    assert bench.history.requests("taxi")[1].baseline


def test_an_approval_says_what_else_holds_the_work(tmp_path: Path) -> None:
    bench = bench_of(tmp_path, trainer=", approval: true")
    assert "Work asks when all its inputs are there" in refusal_of_nothing(bench)
    read(bench, 1)
    bench.ask("pause", "trainer")
    (said,) = ask(bench, "approve", node="trainer")
    assert [o.kind for o in said.obstacles] == ["paused"]
    assert "may run, but not yet: taxi trainer is paused by ana: so be it. `ctd resume taxi trainer`" in line(said)
    bench.settle()
    assert bench.trained_on() == []
    bench.ask("resume", "trainer")
    bench.tick()
    assert "span-1 runs. `ctd cancel taxi trainer` stops it." in refusal(bench, "reject", node="trainer")
    bench.settle()
    assert "all its work is done" in refusal(bench, "approve", node="trainer")
    assert "Only nodes with `approval: true` ask" in refusal(bench, "approve", node="statistics")


def refusal_of_nothing(bench: Bench) -> str:
    bench.tick()
    return refusal(bench, "approve", node="trainer")
