"""Failpoints do nothing until armed, and then exactly what they say at the hit they name."""

import errno
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctd.core.errors import SpecError
from ctd.core.failpoints import Failpoint, FailpointHit, arm, fp, parse_failpoints


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def test_a_point_that_is_not_armed_does_nothing() -> None:
    fp("art.before_rename")
    arm("art.after_rename=raise")
    fp("art.before_rename")


def test_a_point_without_a_number_fires_at_every_hit() -> None:
    arm("a=raise")
    for _ in range(2):
        with pytest.raises(FailpointHit, match="a"):
            fp("a")


def test_a_point_with_a_number_fires_at_that_hit_only() -> None:
    arm("a=err(ENOSPC):2")
    fp("a")
    with pytest.raises(OSError, match="failpoint a") as raised:
        fp("a")
    assert raised.value.errno == errno.ENOSPC
    fp("a")


def test_an_error_with_a_file_lasts_as_long_as_the_file(tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    arm(f"a=err(EMFILE,{fault})")
    fp("a")
    fault.touch()
    for _ in range(3):
        with pytest.raises(OSError, match="Too many open files") as raised:
            fp("a")
        assert raised.value.errno == errno.EMFILE
    fault.unlink()
    fp("a")


def test_arming_again_starts_counting_again() -> None:
    arm("a=raise:2")
    fp("a")
    arm("a=raise:2")
    fp("a")
    with pytest.raises(FailpointHit):
        fp("a")


def test_sleep_sleeps() -> None:
    arm("a=sleep(0.05)")
    began = time.monotonic()
    fp("a")
    assert time.monotonic() - began >= 0.05


def test_hold_waits_until_the_file_is_gone(tmp_path: Path) -> None:
    held = tmp_path / "held-1"
    held.touch()
    arm(f"a=hold({held})")
    passed = threading.Event()
    waiting = threading.Thread(target=lambda: (fp("a"), passed.set()))
    waiting.start()
    assert not passed.wait(0.1)
    held.unlink()
    waiting.join(100)
    assert passed.is_set()


def test_kill_is_a_sigkill_of_the_own_process(tmp_path: Path) -> None:
    script = "from ctd.core.failpoints import *; arm('a=kill:2'); fp('a'); open('one', 'w'); fp('a'); open('two', 'w')"
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [p.name for p in tmp_path.iterdir()] == ["one"]


def test_hold_says_so_and_stays_until_it_is_killed() -> None:
    script = f"from ctd.core.failpoints import *; arm('node-1.made=hold({__file__})'); fp('node-1.made')"
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as held:
        assert held.stderr is not None
        assert held.stderr.readline() == f"failpoint node-1.made: held, pid {held.pid}\n"
        assert held.poll() is None
        held.kill()
    assert held.returncode == -signal.SIGKILL


def test_the_trace_lists_every_hit_in_order(tmp_path: Path) -> None:
    trace = tmp_path / "hits"
    arm("", str(trace))
    for name in ("a", "b", "a"):
        fp(name)
    assert trace.read_text() == "a\nb\na\n"


def test_several_points_are_read() -> None:
    assert parse_failpoints("a.b=kill:1; c=sleep(5) ;d=err(EIO):3;") == (
        Failpoint("a.b", "kill", "", 1),
        Failpoint("c", "sleep", "5", 0),
        Failpoint("d", "err", "EIO", 3),
    )


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a=",
        "a=explode",
        "a=err",
        "a=err(ENOSUCH)",
        "a=err(ENOSUCH,/tmp/fault)",
        "a=sleep",
        "a=sleep(x)",
        "a=kill:x",
        "a=hold",
    ],
)
def test_what_is_not_a_failpoint_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="a"):
        parse_failpoints(text)
