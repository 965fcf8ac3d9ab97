"""What `keep` will remove is told before it is saved; what it cannot let go of, and what nobody makes any more, too."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from ctd.core.errors import NotFound
from ctd.daemon.offline import removes
from ctd.engine.collect import kept_by
from ctd.planning.forecast import forecast
from tests.flow.bench import Bench

SPEC = """\
pipeline: taxi
module: ../model.py
nodes:
  examples: {{kind: example_gen, input: "../data/taxi/{{SPAN}}"{examples}}}
  statistics: {{kind: statistics_gen{statistics}}}
  schema: {{kind: importer, artifact: Schema, path: ../schema.pbtxt}}
  {trainer}: {{kind: trainer, window: {window}{keep}}}
"""


def save(bench: Bench, **said: Any) -> Path:
    path = bench.root / "specs/taxi.yaml"
    usual = {"examples": "", "statistics": "", "keep": "", "trainer": "trainer", "window": 2}
    path.write_text(SPEC.format(**{**usual, **said}))
    return path


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    save(made)
    made.start()
    for number in range(1, 6):
        made.span(number)
        made.settle()
    return made


def notes(bench: Bench) -> list[str]:
    return bench.views().status().pipelines[0].notes


def would_go(bench: Bench, **said: Any) -> list[str]:
    """What `ctd plan --spec` and `ctd gc --dry-run --spec` say of an edit."""
    in_force = (bench.root / "specs/taxi.yaml").read_text()
    save(bench, **said)
    bench.wanted.reload()
    spec = bench.wanted.pipelines["taxi"]
    world = bench.observer.observe(spec, bench.wanted.targets, bench.history)
    view = removes(spec, forecast(spec, world), bench.history, kept_by(bench.wanted.targets))
    (bench.root / "specs/taxi.yaml").write_text(in_force)
    bench.wanted.reload()
    return sorted(
        Path(c.artifact.uri).relative_to(bench.root / "state/artifacts/taxi").as_posix() for c in view.results
    )


def there(bench: Bench) -> set[str]:
    root = bench.root / "state/artifacts/taxi"
    return {p.relative_to(root).as_posix() for p in root.glob("*/*/*")}


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param({"keep": ", keep: {newest: 1}"}, id="models"),
        pytest.param({"keep": ", keep: {model: {newest: 2}}"}, id="one output"),
        pytest.param({"keep": ", keep: {newest: 1}, train_steps: 7"}, id="and other work to do first"),
        pytest.param({"keep": ", keep: {newest: 1}", "examples": ", start: 4, keep: {spans: 1}"}, id="spans"),
    ],
)
def test_an_edit_removes_what_was_told_before_it_was_saved(bench: Bench, edit: dict[str, Any]) -> None:
    before = there(bench)
    told = would_go(bench, **edit)
    assert there(bench) == before, "asking removes nothing"
    assert told
    save(bench, **edit)
    bench.settle()
    assert sorted(before - there(bench)) == told
    bench.check()


def test_an_edit_that_keeps_all_removes_nothing(bench: Bench) -> None:
    assert would_go(bench, keep=", keep: {newest: 50}") == []


def test_what_stays_since_its_data_is_there_is_told_with_what_lets_it_go(bench: Bench) -> None:
    assert notes(bench) == []
    save(bench, statistics=", keep: {spans: 2}", examples=", keep: {spans: 3}")
    bench.settle()
    because = "stay beyond `keep`, as the data of their spans is there: remove it, or write"
    assert notes(bench) == [
        f"examples: 2 results {because} `start: 3` at examples",
        f"statistics: 3 results {because} `start: 4` at examples",
    ]
    assert bench.views().removable("taxi").notes == notes(bench)
    save(bench, statistics=", keep: {spans: 2}", examples=", keep: {spans: 3}, start: 4")
    bench.settle()
    assert [n for n in notes(bench) if "keep" in n] == []
    assert len([p for p in there(bench) if p.startswith("statistics/")]) == 2
    assert len(bench.trained_on()) == 5, "nothing that was needed went"


def test_what_a_window_needs_is_not_told_to_be_let_go(bench: Bench) -> None:
    save(bench, window=4, examples=", keep: {spans: 1}")
    bench.settle()
    (note,) = notes(bench)
    assert note.startswith("examples: 1 result stays")
    assert note.endswith("`start: 2` at examples")
    save(bench, window="all", examples=", keep: {spans: 1}")
    bench.settle()
    assert notes(bench) == []


def test_of_folders_that_are_removed_the_results_go(bench: Bench) -> None:
    save(bench, examples=", keep: {spans: 2}")
    for number in (1, 2, 3):
        shutil.rmtree(bench.root / f"data/taxi/{number}")
    bench.settle()
    assert notes(bench) == []
    assert len([p for p in there(bench) if p.startswith("examples/")]) == 2


def test_results_of_a_node_that_was_renamed_stay_and_are_told_until_somebody_removes_them(bench: Bench) -> None:
    old = {p for p in there(bench) if p.startswith("trainer/")}
    save(bench, trainer="wide", keep=", keep: {newest: 1}")
    bench.settle()
    assert old <= there(bench)
    assert notes(bench) == [
        "trainer: 10 results stay, though the spec has no such node any more: `ctd gc taxi --gone` removes them"
    ]
    view = bench.views().removable("taxi", gone=True)
    assert {c.node for c in view.results} == {"trainer"}
    bench.controller.remove("taxi", bench.views().orphans("taxi"))
    assert not old & there(bench)
    assert (notes(bench), bench.views().removable("taxi", gone=True).results) == ([], [])
    bench.check()
    bench.settle()
    assert bench.executions("wide")
    bench.kill()
    bench.start().settle()
    bench.check()


def test_results_of_a_pipeline_without_a_spec_stay_and_are_told_until_somebody_removes_them(bench: Bench) -> None:
    (bench.root / "specs/taxi.yaml").unlink()
    bench.settle()
    assert there(bench)
    assert bench.views().status().notes == [
        "taxi has no spec any more; its results stay: `ctd gc taxi --gone` removes them"
    ]
    bench.controller.remove("taxi", bench.views().orphans("taxi"))
    assert (there(bench), bench.views().status().notes) == (set(), [])
    with pytest.raises(NotFound):
        bench.views().removable("taxi")
    with pytest.raises(NotFound):
        bench.views().removable("tax", gone=True)
    save(bench)
    bench.settle()
    assert bench.trained_on()[-1] == "spans 4..5 (2)"


def test_a_folder_of_specs_that_is_away_makes_no_leftovers(bench: Bench) -> None:
    (bench.root / "specs").rename(bench.root / "away")
    bench.settle()
    assert bench.views().status().notes == []
