"""Where the kernel counts kills and refusals, in the layouts that cgroups come in."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctd.core.executions import Failure
from ctd.engine.pressure import Counts, Pressure, fault_under, pressure_here

V1 = "9:name=systemd:/\n8:pids:/system.slice/ctd.service\n4:memory:/system.slice/ctd.service\n0::/\n"
V2 = "0::/system.slice/ctd.service\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"
EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 7\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("said", "files"),
    [
        pytest.param(
            V1,
            {
                "memory/system.slice/ctd.service/memory.oom_control": CONTROL,
                "memory/memory.oom_control": "oom_kill 99\n",
                "pids/system.slice/ctd.service/pids.events": "max 2\n",
            },
            id="version 1",
        ),
        pytest.param(
            V1, {"memory/memory.oom_control": CONTROL, "pids/pids.events": "max 2\n"}, id="version 1 in a container"
        ),
        pytest.param(
            V2,
            {
                "system.slice/ctd.service/memory.events": EVENTS,
                "system.slice/ctd.service/pids.events": "max 2\n",
            },
            id="version 2",
        ),
        pytest.param("0::/\n", {"memory.events": EVENTS, "pids.events": "max 2\n"}, id="version 2 in a container"),
        pytest.param(
            V2,
            {
                "unified/system.slice/ctd.service/memory.events": EVENTS,
                "unified/system.slice/ctd.service/pids.events": "max 2\n",
            },
            id="both, hybrid",
        ),
    ],
)
def test_the_counters_are_those_of_the_own_cgroup(tmp_path: Path, said: str, files: dict[str, str]) -> None:
    (tmp_path / "cgroup").write_text(said)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    assert pressure_here(tmp_path / "cgroup", tmp_path / "fs").counts() == Counts(killed=7, refused=2)


def test_where_there_is_no_cgroup_nothing_was_ever_killed(tmp_path: Path) -> None:
    assert pressure_here(tmp_path / "none", tmp_path).counts() == Counts()
    (tmp_path / "cgroup").write_text(V2)
    assert pressure_here(tmp_path / "cgroup", tmp_path / "fs").counts() == Counts()
    assert Pressure(tmp_path / "gone", tmp_path / "gone").counts() == Counts()


OURS = Failure("ComponentFailed", "its process ended with code 1")
LOST = Failure("WorkerLost", "its process was ended by SIGABRT", retryable=True)
DISK = Failure("StorageUnavailable", "no space left", retryable=True)
DATA = Failure("BadInput", "no column")


@pytest.mark.parametrize(
    ("counted", "failure", "alone", "killed", "kind"),
    [
        pytest.param(Counts(), None, True, False, None, id="nothing was counted"),
        pytest.param(Counts(killed=1), None, True, False, "WorkerLost", id="a success that lost a process"),
        pytest.param(Counts(killed=1), None, False, False, "MachineUnavailable", id="whose it was cannot be told"),
        pytest.param(Counts(killed=1), OURS, True, False, "WorkerLost", id="a failure for want of a process"),
        pytest.param(Counts(killed=1), LOST, False, True, "WorkerLost", id="the worker itself"),
        pytest.param(Counts(killed=1), DISK, True, False, None, id="a failure that is tried again anyway"),
        pytest.param(Counts(refused=3), LOST, True, False, "MachineUnavailable", id="no thread for a library"),
        pytest.param(Counts(refused=3), OURS, True, False, "MachineUnavailable", id="no process for a component"),
        pytest.param(Counts(refused=3), None, True, False, None, id="a success without the processes"),
        pytest.param(Counts(refused=3), DATA, True, False, None, id="a judgement of data"),
    ],
)
def test_what_an_end_is_called_that_came_under_pressure(
    counted: Counts, failure: Failure | None, alone: bool, killed: bool, kind: str | None
) -> None:
    fault = fault_under(counted, failure, alone=alone, killed=killed)
    assert (type(fault).__name__ if fault else None) == kind
