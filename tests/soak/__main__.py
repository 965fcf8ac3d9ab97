"""`python -m tests.soak --minutes 30 --seed 1`: prints what it did and found; ends with 1 at any violation."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tests.soak import disk, scratch
from tests.soak.campaign import Campaign, Reader
from tests.soak.daemon import Supervisor, adopt_orphans, bound_by_permissions
from tests.soak.damage import DAMAGE
from tests.soak.faults import MACHINE
from tests.soak.generator import Feed
from tests.soak.ground import Ground
from tests.soak.history import History
from tests.soak.people import PEOPLE
from tests.soak.project import Project, Wanted
from tests.soak.schedule import pace_of, schedule
from tests.soak.seen import Looker

_DISK = 300  # megabytes
FAULTS = {**MACHINE, **PEOPLE, **DAMAGE}


def main() -> int:
    """The whole run; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience", type=float, default=30, help="seconds in which everything has to heal")
    only = "only this fault; may be there several times"
    parser.add_argument("--fault", action="append", choices=sorted(FAULTS), metavar="NAME", help=only)
    parser.add_argument("--folder", type=Path, help="where it lives; made anew if nothing is said")
    parser.add_argument("--keep", action="store_true", help="leave everything in the folder")
    asked = parser.parse_args()
    disk.go_private("tests.soak", sys.argv[1:])
    adopt_orphans()
    signal.signal(signal.SIGTERM, _interrupted)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    root = asked.folder or Path(tempfile.mkdtemp(prefix="ctd-soak-"))
    root.mkdir(parents=True, exist_ok=True)
    history = History(root / "history.jsonl", lambda text: print(text, flush=True))  # noqa: T201
    history.tell(f"seed {asked.seed}, {asked.minutes:g} minutes, in {root}")
    with _disk(Project(root), history, keep=asked.keep):
        _soak(asked, Project(root), history)
    _report(asked.seed, history)
    if not asked.keep and not history.violations and asked.folder is None:
        shutil.rmtree(root, ignore_errors=True)
    return 1 if history.violations else 0


def _soak(asked: argparse.Namespace, project: Project, history: History) -> None:
    seconds = asked.minutes * 60
    pace = pace_of(seconds)
    possible = FAULTS
    if not disk.is_private():
        history.tell("without root there is no small disk: it is never full, and has inodes")
        possible = {name: fault for name, fault in possible.items() if not fault.mounts}
    if not bound_by_permissions():
        history.tell("root without setpriv may enter every folder: none is closed")
        possible = {name: fault for name, fault in possible.items() if not fault.bound}
    chosen = {name: fault for name, fault in possible.items() if not asked.fault or name in asked.fault}
    lasting = [name for name, fault in chosen.items() if fault.lasting]
    rounds = schedule(asked.seed, seconds, lasting, [name for name in chosen if name not in lasting])

    wanted = Wanted(seconds=pace.training)
    project.lay_out(wanted)
    feed = Feed(project, history, asked.seed, pace.feed)
    ground = Ground(project, history, Supervisor(project, history), feed, Looker(project), wanted)
    campaign, reader = Campaign(ground, chosen, pace, asked.patience), Reader(ground)
    try:
        reader.begin()
        campaign.begin()
        campaign.go_through(rounds, seconds)
        feed.end()
        campaign.settle()
        reader.end()
        soaked = scratch.pieces(project, project.state)
        history.tell("from scratch")
        fresh = scratch.run_from_scratch(project, history)
        history.measured("pieces compared with a run from scratch", scratch.compare(soaked, fresh, history))
        _count(ground, reader)
    finally:
        ground.daemon.end_all()


def _count(ground: Ground, reader: Reader) -> None:
    executions, _ = ground.looker.recorded()
    for state in sorted({e.state.value for e in executions}):
        ground.history.measured(f"executions {state}", sum(e.state.value == state for e in executions))
    ground.history.measured("starts of the daemon", ground.daemon.starts)
    ground.history.measured("versions seen by the reader", reader.seen)


@contextlib.contextmanager
def _disk(project: Project, history: History, *, keep: bool) -> Iterator[None]:
    """The small disk, if there can be one. What is to be kept is copied: it goes with the run."""
    project.disk.mkdir(exist_ok=True)
    if not disk.is_private():
        yield
        return
    disk.mount(project.disk, _DISK)
    try:
        yield
    finally:
        if keep or history.violations:
            shutil.copytree(project.disk, project.root / "kept", dirs_exist_ok=True, ignore=_sockets)
            history.tell(f"the small disk is kept as {project.root / 'kept'}")
        disk.unmount(project.disk)


def _sockets(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder, name).is_socket() or name == "filler"]


def _report(seed: int, history: History) -> None:
    history.tell(f"seed {seed}: {len(history.violations)} violations")
    lines = [f"{history.counts.get('fault', 0)} faults, {history.counts.get('span', 0)} span versions"]
    for name, values in sorted(history.figures.items()):
        if len(values) > 1:
            least, middle, most = min(values), statistics.median(values), max(values)
            lines.append(f"{name}: {least:.1f} to {most:.1f}, median {middle:.1f}, of {len(values)}")
        else:
            lines.append(f"{name}: {values[0]:.0f}")
    for line in [*lines, *(f"VIOLATION {said}" for said in history.samples())]:
        print(f"    {line}", flush=True)  # noqa: T201
    print(f"    history: {history.path}", flush=True)  # noqa: T201


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    raise SystemExit(130)


if __name__ == "__main__":
    sys.exit(main())
