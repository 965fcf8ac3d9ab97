"""A process that writes to a metadata store while bad things happen to it. Run by test_metadata_faults.py.

`python metadata_writer.py kills STORE TIMES SEED`: fork a writer, kill it at a random moment, again and again
`python metadata_writer.py fill STORE limit|tmpfs`: write until the disk is full, read, get space, write on
`python metadata_writer.py births FOLDER TIMES SEED`: make new stores and be killed while at it
Prints JSON.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.errors import StoreUnavailable
from ctd.core.executions import Execution, Outcome, State
from ctd.core.timing import ManualClock
from ctd.metadata.mlmd import MlmdStore

CLOCK = ManualClock()


def execution(number: int, *, weight: int = 10) -> Execution:
    return Execution(
        "taxi",
        "examples",
        "example_gen",
        f"span-{number}",
        f"{number:064x}",
        CLOCK.now(),
        ingredients={"number": number, "weight": "x" * weight},
    )


def outcome(number: int) -> Outcome:
    artifacts = tuple(Artifact(ArtifactType.EXAMPLES, f"/a/{number}/{i}", digest="d", span=number) for i in range(2))
    return Outcome(State.SUCCEEDED, {"examples": artifacts})


def write(store: MlmdStore, number: int, *, weight: int = 10) -> Execution:
    begun = store.begin(execution(number, weight=weight))
    if begun.state.final:
        return begun  # the writer before us was killed after the commit
    return store.finish(begun.with_outcome(outcome(number), CLOCK.now() + timedelta(seconds=1)))


def kills(path: Path, times: int, seed: int) -> dict[str, object]:
    """Each writer goes on at the number after the last acknowledged one, which may have been written all the same."""
    acknowledged = path.with_name("acknowledged")
    acknowledged.touch()
    dice = random.Random(seed)

    def writer() -> None:
        store = MlmdStore(path, CLOCK)
        number = len(acknowledged.read_bytes())
        with acknowledged.open("ab", buffering=0) as done:
            while True:
                number += 1
                write(store, number)
                done.write(b".")

    # A busy machine writes little between two kills: then there are more of them.
    while times > 0 or len(acknowledged.read_bytes()) <= 40:
        times -= 1
        kill_after(dice.uniform(0.03, 0.2), writer)
    return {"acknowledged": len(acknowledged.read_bytes())}


def births(folder: Path, times: int, seed: int) -> dict[str, object]:
    """Kill makers of stores; every store must open afterwards, empty."""
    dice = random.Random(seed)
    half_made = 0
    for number in itertools.count():
        if number >= times and half_made:
            break
        path = folder / str(number) / "metadata.sqlite"
        kill_after(dice.uniform(0.001, 0.03), lambda path=path: MlmdStore(path, CLOCK))
        half_made += path.parent.exists() and not path.exists()
        store = MlmdStore(path, CLOCK)
        assert list(store.executions()) == []
        store.close()
    return {"half made": half_made}


def kill_after(seconds: float, work: Callable[[], object]) -> None:
    child = os.fork()
    if child == 0:
        work()
        time.sleep(60)
        os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def fill(path: Path, way: str) -> dict[str, object]:
    """`tmpfs`: on a disk of 4 MB. `limit`: under a limit of the size of files; the kernel refuses both alike."""
    disk = path.parent / "disk"
    disk.mkdir()
    if way == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], check=True)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(1_000_000))
    store = MlmdStore(disk / path.name, CLOCK)
    write(store, 1)
    if way == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, resource.RLIM_INFINITY))
    number, refused = 1, None
    while refused is None and number < 5000:
        refused = refusal(store, number + 1)
        number += refused is None
    still_refused = refusal(store, number + 1) is not None
    readable = len(list(store.executions()))
    ballast.unlink()
    if way == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for more in range(1, 4):
        write(store, number + more)
    written = [e.key for e in store.executions() if e.state is State.SUCCEEDED]
    store.close()
    shutil.copytree(disk, path.parent / "kept")
    return {
        "acknowledged": number,
        "message": refused.message if refused else "",
        "hint": refused.hint if refused else "",
        "still refused": still_refused,
        "readable": readable,
        "written": written,
    }


def refusal(store: MlmdStore, number: int) -> StoreUnavailable | None:
    try:
        write(store, number, weight=20_000)
    except StoreUnavailable as error:
        return error
    return None


if __name__ == "__main__":
    command, where, *rest = sys.argv[1:]
    if command == "fill":
        answer = fill(Path(where), rest[0])
    else:
        answer = {"kills": kills, "births": births}[command](Path(where), int(rest[0]), int(rest[1]))
    sys.stdout.write(json.dumps(answer))
