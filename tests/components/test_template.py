"""Workers forked from the template with all libraries work like fresh ones, and begin at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ctd.core.artifacts import Artifact
from ctd.core.executions import Outcome, State
from tests.contract.executor_bench import ROOT, Bench, settings, worker_env

pytestmark = pytest.mark.tf

KERAS = "keras 3, tf.keras is tf_keras: True"  # the same in every worker, forked or fresh


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    root = tmp_path_factory.mktemp("state")
    made = Bench(
        root, settings(root, templates={"test": "all"}, log_bytes=2**24), component="tests.components.template_work"
    )
    # The first one waits for the imports; what is measured below is a template that stands ready.
    assert made.ended(made.start("op", timeout=300), 300).state is State.SUCCEEDED
    yield made
    made.executor.stop(hurry=True)


def model(outcome: Outcome, log: str) -> Artifact:
    assert outcome.state is State.SUCCEEDED, log
    return outcome.outputs["model"][0]


def template_of(bench: Bench, execution_id: int) -> int:
    """The parent of a running worker."""
    return int(Path(f"/proc/{bench.begun(execution_id)}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_fork_has_all_libraries_that_a_fresh_process_would_have_to_import(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much sooner it begins for that, `bench/span_to_served.py` measures."""
    fresh = Bench(tmp_path, settings(tmp_path))
    said = []
    for one in (bench, fresh):
        monkeypatch.setattr(one, "component", "tests.components.imported_before")
        id_ = one.start("")
        said.append(model(one.ended(id_), one.text(id_)).properties["there"])
    fresh.executor.stop()
    assert said == ["apache_beam keras tensorflow tensorflow_data_validation tensorflow_transform", ""]


def test_workers_come_from_the_template_and_not_from_fresh_processes(bench: Bench) -> None:
    id_ = bench.start("hold")
    parent = template_of(bench, id_)
    assert parent != os.getpid()
    command = Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")
    assert b"ctd.engine.template" in command
    memory = dict(line.split()[:2] for line in Path(f"/proc/{parent}/smaps_rollup").read_text().splitlines()[1:])
    sys.stderr.write(f"\ntemplate: {memory['Rss:']} kB RSS, {memory['Pss:']} kB PSS\n")
    bench.executor.cancel(id_)
    assert bench.ended(id_).state is State.CANCELLED


def test_forks_train_with_both_kerases_and_run_beam_side_by_side(bench: Bench) -> None:
    trains, beams = bench.start("fit", timeout=300), bench.start("beam", timeout=300)
    trained = model(bench.ended(trains, 300), bench.text(trains))
    beamed = model(bench.ended(beams, 300), bench.text(beams))
    assert trained.properties["said"] == KERAS
    assert (bench.staging(trains) / "model" / "saved" / "saved_model.pb").is_file()
    assert beamed.properties["said"] == "50"
    # Both were forked from one state of numpy's generator.
    assert trained.properties["drawn"] != beamed.properties["drawn"]


def test_many_forks_in_a_row_all_work(bench: Bench) -> None:
    began = time.monotonic()
    for _ in range(15):
        outcome = bench.run("op")
        assert outcome.state is State.SUCCEEDED
    sys.stderr.write(f"\n15 executions one after the other: {time.monotonic() - began:.1f} s\n")


def test_an_op_in_the_template_would_be_noticed() -> None:
    script = """
import tensorflow as tf
from ctd.core.forking import op_has_run
assert not op_has_run()
tf.constant(1)
assert op_has_run()
"""
    env = {**worker_env(), "TF_USE_LEGACY_KERAS": "1"}
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, check=True, timeout=300)


def test_a_fresh_process_does_the_same_only_later(tmp_path: Path) -> None:
    bench = Bench(tmp_path, settings(tmp_path, grace=timedelta(seconds=2)), component="tests.components.template_work")
    id_ = bench.start("fit", timeout=300)
    outcome = bench.ended(id_, 300)
    assert model(outcome, bench.text(id_)).properties["said"] == KERAS
    sys.stderr.write(f"\nfresh process: {dict(outcome.timings)}\n")
    bench.executor.stop()
