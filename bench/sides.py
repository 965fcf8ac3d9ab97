"""The two sides of `make bench-peer`: the same spans, module, schema and settings, each by its usual way of running."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from bench.comparison import Sample, shown_seconds
from bench.daemon import CTD, Events, running, until
from bench.process_tree import cpu_of_ended, cpu_of_tree, watched
from bench.taxi_spans import Trips, drop
from ctd.core.executions import BEFORE, PHASES
from ctd.engine.recovery import remember
from ctd.metadata.mlmd import MlmdReader

HERE = Path(__file__).parent
MODULE = HERE.parent / "examples/taxi/taxi.py"
RUN = HERE / "peer/tfx_run.py"
STEPS = 500
LIMIT, LOWER_LIMIT = 0.7, 0.65  # of the accuracy, before and after the edit of the threshold
PUSH = "pusher.serving"
SETTLING = 8.0  # seconds in which a new daemon still looks twice at what changed just before it started


@dataclass(frozen=True)
class Work:
    """What both sides are to do."""

    trips: Trips
    steps: int
    sample_memory: bool  # which costs time, so that such a round's seconds count nothing


def tell(side: str, case: str, sample: Sample) -> None:
    """Say how it goes, on standard error."""
    print(f"  {case}: {side} {shown_seconds(sample.seconds)}", file=sys.stderr, flush=True)


@dataclass
class CtdSide:
    """A folder with a spec and data, and `ctd run` on it."""

    root: Path
    work: Work
    samples: dict[str, Sample] = field(default_factory=dict)
    _began: dict[str, float] = field(default_factory=dict)  # case to its beginning, by the clock of the executions

    def __post_init__(self) -> None:
        shutil.copytree(HERE / "taxi", self.root)
        shutil.copy(MODULE, self.root / "taxi.py")
        shutil.copy(self.work.trips.schema, self.root / "schema.pbtxt")
        self._edit("train_steps: 500", f"train_steps: {self.work.steps}")

    @property
    def _command(self) -> list[str]:
        return [CTD, "run", "--specs", str(self.root / "specs"), "--log-format", "json"]

    def _edit(self, old: str, new: str) -> None:
        spec = self.root / "specs/taxi.yaml"
        assert old in spec.read_text()  # noqa: S101 - both are ours
        draft = spec.with_suffix(".new")
        draft.write_text(spec.read_text().replace(old, new))
        draft.replace(spec)

    def _versions(self) -> int:
        serving = self.root / "serving/taxi"
        return sum(path.name.isdecimal() for path in serving.iterdir()) if serving.is_dir() else 0

    def arrive(self, span: int, times: float = 1) -> None:
        drop(self.root / f"data/span-{span}", self.work.trips.drawn(span, times))

    def run_once(self, case: str, *, pushes: bool) -> None:
        """`ctd run --once`, from its start to its end."""
        before, events, cpu = self._versions(), Events(), cpu_of_ended()
        began, self._began[case] = time.monotonic(), time.time()
        with running([*self._command, "--once"], events) as process:
            with watched(process.pid, sample=self.work.sample_memory) as peak:
                process.wait()
            took = time.monotonic() - began
        if process.returncode or self._versions() != before + pushes:
            raise SystemExit(f"{case}: ctd ended with {process.returncode}: {events.failures() or events.lines[-1:]}")
        self._keep(case, Sample(took, cpu=cpu_of_ended() - cpu, megabytes=peak.megabytes))

    def daemon(self, steps: Mapping[str, Callable[[], str]]) -> None:
        """One daemon; for each case, what begins it, which returns the work whose end ends it."""
        events = Events()
        with running(self._command, events) as process:
            until("the daemon has started", lambda: any(said["event"] == "daemon started" for _, said in events.lines))
            for case, begin in steps.items():
                time.sleep(1)  # for what the last case left behind, such as the end of its processes
                with watched(process.pid, sample=self.work.sample_memory) as peak:
                    cpu = cpu_of_tree(process.pid)
                    began, self._began[case] = time.monotonic(), time.time()
                    awaited = begin()
                    ended = until(f"{case}: {awaited}", lambda: self._over(events, awaited, began, process))  # noqa: B023
                    cpu = cpu_of_tree(process.pid) - cpu
                self._keep(case, Sample(ended - began, cpu=cpu, megabytes=peak.megabytes))

    def _over(self, events: Events, awaited: str, began: float, process: subprocess.Popen[str]) -> bool:
        if events.failures() or process.poll() is not None:
            raise SystemExit(f"ctd: {events.failures() or 'the daemon ended'}")
        ended = events.ended(awaited, began)
        if ended and ended["state"] != "succeeded":
            raise SystemExit(f"ctd: {ended}")
        return ended is not None

    def span(self, number: int, times: float = 1) -> Callable[[], str]:
        """A span arrives: its files are there before, and what begins the case is the marker."""
        self.arrive(number, times)
        marker = self.root / f"data/span-{number}/_SUCCESS"
        marker.unlink()

        def begin() -> str:
            marker.touch()
            return PUSH

        return begin

    def lower_threshold(self) -> str:
        self._edit(f"at_least: {LIMIT}", f"at_least: {LOWER_LIMIT}")
        return "evaluator.verdict"

    def unchanged(self, case: str, looks: int) -> list[float]:
        """A daemon that looks again and again where nothing changed; the seconds of each look."""
        file = self.root / "looks"
        file.touch()
        command = [sys.executable, "-m", "bench.timed_daemon", str(file), *self._command[1:]]

        def lines() -> list[str]:
            return file.read_text().splitlines()

        # Every few milliseconds everything is looked at anew, as it otherwise is every 30 s.
        with running(command, Events(), {"CTD_RESCAN": "5ms"}):
            until("the first look", lambda: len(lines()) > 0)
            time.sleep(SETTLING)
            before = len(lines())
            until(f"{looks} looks", lambda: len(lines()) > before + looks)
        found = [float(line) for line in lines()[before : before + looks]]
        self._keep(case, Sample(statistics.median(found)))
        return found

    @property
    def evaluation(self) -> Path:
        """What the Evaluator wrote last."""
        return newest(self.root / "state/artifacts/taxi/evaluator/evaluation")

    def _keep(self, case: str, sample: Sample) -> None:
        self.samples[case] = sample
        tell("ctd", case, sample)

    def finished(self) -> dict[str, Sample]:
        """The samples, with the executions that ML Metadata has of each case. Only when no daemon runs."""
        reader = MlmdReader(self.root / "state/metadata.sqlite")
        try:
            executions = sorted(remember(reader).successes("taxi"), key=lambda e: e.id)
        finally:
            reader.close()
        for case, since in self._began.items():
            later = [at for at in self._began.values() if at > since]
            start = datetime.fromtimestamp(since, timezone.utc)
            end = datetime.fromtimestamp(min(later, default=time.time()), timezone.utc)
            details: dict[str, dict[str, float]] = {}
            for e in executions:
                if start <= e.started < end and e.took:
                    began = (e.started - start).total_seconds()
                    details[".".join(filter(None, (e.node, e.piece)))] = phases_of(began, e.took, e.timings)
            steps = {work: said["took"] for work, said in details.items()}
            self.samples[case] = replace(self.samples[case], steps=steps, details=details)
        return self.samples


def newest(folder: Path) -> Path:
    """Of the folders in it, which are numbered by execution, the last."""
    return max(folder.iterdir(), key=lambda path: int(path.name))


def metrics_of(folders: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    """What each side's Evaluator found over all examples, by side."""
    command = [sys.executable, "-m", "bench.evaluations", *map(str, folders.values())]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return dict(zip(folders, json.loads(answer.stdout), strict=True))


def phases_of(began: float, took: timedelta, timings: Mapping[str, float]) -> dict[str, float]:
    """When an execution began, how long it took, and the phases of that in their order, without those before it."""
    inside = (name for name in PHASES if name not in BEFORE and name in timings)
    return {"began at": began, "took": took.total_seconds(), **{name: timings[name] for name in inside}}


@dataclass
class TfxSide:
    """A folder with data, and a process of TFX for each run."""

    root: Path
    work: Work
    python: Path
    samples: dict[str, Sample] = field(default_factory=dict)

    def arrive(self, span: int, times: float = 1) -> None:
        drop(self.root / f"data/span-{span}", self.work.trips.drawn(span, times))

    def run(self, case: str, *, at_least: float = LIMIT, pushes: bool) -> None:
        """A process of the peer, from its start to its end."""
        before, cpu = self._versions(), cpu_of_ended()
        report, log = self.root / "report.json", self.root / f"{len(self.samples)}.log"
        report.unlink(missing_ok=True)
        command = [
            *(str(self.python), str(RUN), "--root", str(self.root / "tfx"), "--data", str(self.root / "data")),
            *("--schema", str(self.work.trips.schema), "--module", str(MODULE), "--steps", str(self.work.steps)),
            *("--at-least", str(at_least), "--report", str(report)),
        ]
        # What the example's module may import of ctd is there for both sides.
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "TF_CPP_MIN_LOG_LEVEL": "2"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        with log.open("w") as output:
            began = time.monotonic()
            since = ("--since", str(time.time()))
            process = subprocess.Popen([*command, *since], stdout=output, stderr=subprocess.STDOUT, env=environment)
            with watched(process.pid, sample=self.work.sample_memory) as peak:
                process.wait()
            took = time.monotonic() - began
        if process.returncode or self._versions() != before + pushes:
            tail = log.read_text(errors="replace")[-2000:]
            raise SystemExit(f"{case}: TFX ended with {process.returncode} or did not push\n{tail}")
        said: dict[str, Any] = json.loads(report.read_text())
        ran = {step["component"]: step["seconds"] for step in said["steps"] if step["state"] == "COMPLETE"}
        parts = {**said["process"], "exit": took - sum(said["process"].values())}
        self.samples[case] = Sample(took, ran, cpu_of_ended() - cpu, peak.megabytes, {"process": parts})
        tell("TFX", case, self.samples[case])

    @property
    def evaluation(self) -> Path:
        """What the Evaluator wrote last."""
        return newest(self.root / "tfx/artifacts/Evaluator/evaluation")

    def _versions(self) -> int:
        serving = self.root / "tfx/serving"
        return len(list(serving.iterdir())) if serving.is_dir() else 0
