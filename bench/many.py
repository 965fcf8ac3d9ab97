"""Many pipelines on one daemon: what the end of an execution costs until the next ones run, and who gets the slots.

`python -m bench.many [--pipelines 1 10 50] [--executions 200]`. The daemon's own loop on a real store and real folders;
executions end as they are told, so that only the daemon is measured. Fewer slots than work, all the time.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

from ctd.core.artifacts import ArtifactType
from ctd.core.history import History
from ctd.core.timing import SystemClock
from ctd.daemon.controller import Controller
from ctd.daemon.wanted import Wanted
from ctd.engine.executor import ManualExecutor
from ctd.engine.observe import Observer
from ctd.engine.queue import DelayQueue
from ctd.engine.reconcile import Parts, Reconciler
from ctd.engine.slots import Limits
from ctd.metadata.mlmd import MlmdStore
from ctd.storage.layout import StateDir
from ctd.watching.watcher import Watcher

SPEC = """\
pipeline: {name}
module: ../model.py
nodes:
  examples: {{kind: example_gen, input: "../data/{name}/{{SPAN}}", complete: {{marker: _SUCCESS}}}}
  statistics: {{kind: statistics_gen}}
  schema: {{kind: schema_gen}}
  validator: {{kind: example_validator}}
  trainer: {{kind: trainer, window: 1}}
"""
SLOTS = 4
FIRST = 20  # executions that are not measured: with them everything has been read once


class Town:
    """A daemon without processes, whose pipelines have more work than slots."""

    def __init__(self, root: Path, pipelines: int, executions: int) -> None:
        for folder in ("specs", "deploy_targets"):
            (root / folder).mkdir()
        (root / "model.py").write_text("def run_fn(fn_args):\n    pass\n")
        self.names = [f"p{number:02}" for number in range(pipelines)]
        spans = 2 + (FIRST + executions) // pipelines
        for name in self.names:
            (root / f"specs/{name}.yaml").write_text(SPEC.format(name=name))
            for span in range(1, spans + 1):
                folder = root / f"data/{name}/{span}"
                folder.mkdir(parents=True)
                (folder / "trips.csv").write_text(f"fare\n{name}{span}\n")
                (folder / "_SUCCESS").touch()
        clock = SystemClock()
        self.executor, state, looks = ManualExecutor(), StateDir(root / "state"), DelayQueue(clock)
        state.root.mkdir()
        self.store = MlmdStore(state.metadata, clock)
        watcher = Watcher(looks.add_all, clock)
        self.observer = Observer(clock, looks.add, watcher.touched)
        wanted = Wanted(root / "specs", root / "deploy_targets", state.root)
        parts = Parts(self.store, History(), self.executor, self.observer, state, clock, 1, Limits(SLOTS))
        self.controller = Controller(
            wanted, Reconciler(parts, lambda: wanted.targets), self.executor, watcher, looks, clock
        )
        self.watcher = watcher
        self.controller.look_at_all()
        self.go_on()

    def go_on(self) -> None:
        """Until nothing is due."""
        self.controller.step(timedelta(0))
        while self.controller.step(timedelta(0)):
            pass

    def end_one(self) -> str:
        """The oldest execution ends; its pipeline."""
        request = self.executor.requests[min(self.executor.running())]
        blessed = ArtifactType.ANOMALIES in request.outputs.values()
        self.executor.succeed(request.execution_id, **({"blessed": 1, "reason": "none"} if blessed else {}))
        return request.pipeline

    def close(self) -> None:
        self.watcher.stop()
        self.observer.close()
        self.store.close()


def measured(pipelines: int, executions: int) -> tuple[float, float, int]:
    """CPU milliseconds per execution, wall milliseconds from an end to the next start, and who is how far ahead."""
    with tempfile.TemporaryDirectory(prefix="ctd-bench-") as scratch:
        town = Town(Path(scratch), pipelines, executions)
        ended: Counter[str] = Counter(dict.fromkeys(town.names, 0))
        cpu, wall = [], []
        for number in range(FIRST + executions):
            ended[town.end_one()] += 1
            began = time.process_time(), time.perf_counter()
            town.go_on()
            if number >= FIRST:
                cpu.append(time.process_time() - began[0])
                wall.append(time.perf_counter() - began[1])
        town.close()
    ahead = max(ended.values()) - min(ended.values())
    return statistics.median(cpu) * 1000, statistics.median(wall) * 1000, ahead


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipelines", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--executions", type=int, default=200)
    said = parser.parse_args(arguments)
    logging.getLogger("ctd").setLevel(logging.CRITICAL)
    print("| pipelines | CPU per execution | from an end to the next start | most ahead of another, executions |")
    print("|---|---|---|---|")
    for pipelines in said.pipelines:
        cpu, wall, ahead = measured(pipelines, said.executions)
        print(f"| {pipelines} | {cpu:.1f} ms | {wall:.1f} ms | {ahead} |")


if __name__ == "__main__":
    main()
