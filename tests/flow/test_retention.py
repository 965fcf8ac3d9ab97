"""Results that need not stay are removed when a pipeline comes to rest; a crash in between loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ctd.core.failpoints import FailpointHit, arm
from ctd.engine.collect import prune_logs
from ctd.storage.layout import StateDir
from tests.flow.bench import Bench


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm("")


def keeping(bench: Bench, keep: str = "{newest: 1}") -> None:
    """The same pipeline, which keeps few models."""
    path = bench.spec()
    path.write_text(path.read_text().replace("kind: trainer,", f"kind: trainer, keep: {keep},"))


def models(bench: Bench) -> list[str]:
    return sorted(p.name for p in (bench.root / "state/artifacts/taxi/trainer/model").iterdir())


def trained(bench: Bench, spans: int) -> None:
    for number in range(1, spans + 1):
        bench.span(number)
        bench.settle()


def test_old_models_go_when_the_pipeline_is_at_rest(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    keeping(bench)
    bench.start()
    trained(bench, 4)
    newest = str(bench.executions("trainer")[-1].id)
    assert models(bench) == [newest]
    bench.check()
    assert len(bench.executions("trainer")) == 4


def test_saying_keep_later_collects_what_has_gathered(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.spec()
    bench.start()
    trained(bench, 3)
    assert len(models(bench)) == 3
    keeping(bench, "{newest: 2}")
    bench.settle()
    assert len(models(bench)) == 2
    bench.check()


def test_nothing_goes_while_the_data_is_out_of_sight(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    path = bench.spec()
    path.write_text(path.read_text().replace("kind: example_gen,", "kind: example_gen, keep: {spans: 1},"))
    bench.start()
    trained(bench, 5)
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    bench.settle()
    assert bench.controller.collect(bench.wanted.pipelines["taxi"]) == ()  # not even if someone asks
    assert list(bench.store.deleted_artifacts()) == []
    (tmp_path / "elsewhere").rename(tmp_path / "data")
    bench.settle()
    assert len(bench.executions("trainer")) == 5


def test_what_was_collected_is_made_again_with_that_reason(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    keeping(bench)
    bench.start()
    trained(bench, 4)
    bench.remove(4)
    bench.tick()
    (request,) = bench.running("trainer")
    assert "is gone: made again" in bench.executions("trainer")[-1].because
    bench.settle()
    assert models(bench) == [str(request.execution_id)]


@pytest.mark.parametrize("point", ["gc.mark", "gc.before_unlink", "gc.mid_tree"])
@pytest.mark.parametrize("hit", [1, 2, 3])
def test_a_crash_while_collecting_loses_nothing_and_leaves_nothing(tmp_path: Path, point: str, hit: int) -> None:
    bench = Bench(tmp_path)
    bench.spec()
    bench.start()
    trained(bench, 4)
    before = bench.said()
    keeping(bench)
    arm(f"{point}=raise:{hit}")
    with pytest.raises(FailpointHit):
        bench.tick()
    arm("")
    bench.kill()
    bench.start()
    bench.check()  # every live artifact has its files, and no other files are there
    assert bench.settle() == before
    assert models(bench) == [str(bench.executions("trainer")[-1].id)]
    bench.check()


def test_a_start_visits_only_what_is_left_of_all_that_was_ever_collected(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    keeping(bench)
    bench.start()
    trained(bench, 6)
    collected = [a for a in bench.history.deleted() if "/trainer/model/" in a.uri]
    assert len(collected) == 5
    bench.kill()
    arm("gc.before_unlink=raise:1")
    bench.start()  # nothing is left, so nothing is visited
    bench.kill()
    (Path(collected[1].uri) / "half").mkdir(parents=True)
    arm("gc.before_unlink=raise:2")
    bench.start()
    assert not Path(collected[1].uri).exists()
    bench.check()


def test_only_the_newest_logs_stay(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.spec()
    bench.start()
    state = StateDir(tmp_path / "state")
    state.logs.mkdir(parents=True)
    bench.span(1)
    bench.tick()
    running = bench.running()[0].execution_id
    for number in range(1, 40):
        state.log(number).touch()
    (state.logs / "template.log").touch()
    prune_logs(bench.history, state, 10)
    kept = {str(n) for n in range(30, 40)} | {str(r.execution_id) for r in bench.running()} | {"template"}
    assert str(running) in kept
    assert {p.stem for p in state.logs.iterdir()} == kept
