"""Where the kernel counts kills and refusals, in the layouts that cgroups come in."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctd.engine.pressure import Counts, Pressure, pressure_here

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
