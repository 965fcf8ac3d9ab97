"""Data that is split already, seen by the daemon."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flow.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    spec = made.spec()
    whole = 'input: "../data/taxi/{SPAN}"'
    assert whole in spec.read_text()
    splits = 'input: {train: "../data/train/{SPAN}", eval: "../data/eval/{SPAN}"}'
    spec.write_text(spec.read_text().replace(whole, splits))
    return made.start()


def arrive(bench: Bench, split: str, text: str = "fare\n1\n") -> None:
    folder = bench.root / "data" / split / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trips.csv").write_text(text)
    (folder / "_SUCCESS").touch()


def test_a_span_is_read_when_all_splits_have_it_and_its_files_know_their_split(bench: Bench) -> None:
    (bench.root / "data/eval").mkdir()
    arrive(bench, "train")
    bench.tick()
    assert bench.of("examples").startswith(f"wait examples span-1: eval: no {bench.root}/data/eval/1 yet")
    arrive(bench, "eval")
    bench.tick()
    (request,) = bench.running("examples")
    assert [(Path(file.path).parts[-3], file.split) for file in request.files] == [("train", "train"), ("eval", "eval")]
    bench.settle()
    assert bench.trained_on() == ["span-1"]
    bench.check()


def test_a_change_in_any_split_is_new_data(bench: Bench) -> None:
    arrive(bench, "train")
    arrive(bench, "eval")
    bench.settle()
    arrive(bench, "eval", "fare\n2\n")
    bench.settle()
    assert bench.trained_on() == ["span-1", "span-1"]
    bench.check()


def test_the_folders_of_all_splits_are_watched(bench: Bench) -> None:
    arrive(bench, "train")
    arrive(bench, "eval")
    bench.tick()
    watched = {Path(path).name for path in bench.watcher.interests if Path(path).parent == bench.root / "data"}
    assert watched == {"train", "eval"}
