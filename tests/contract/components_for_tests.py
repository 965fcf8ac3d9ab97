"""Components that do what real ones should not. `spec["do"]` names the function; each runs in a worker of its own."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ctd.components.api import Outputs, Work, user_code
from ctd.core.errors import BadInput


def run(work: Work) -> Outputs:
    DEEDS[str(work.request.spec["do"])](work)
    folder = work.output("model")
    (folder / "weights").write_text(str(work.request.spec.get("content", "42")))
    (folder / "assets").mkdir()
    (folder / "assets" / "words").write_text("a b c")
    return {"model": [work.made(folder, loss=0.5)]}


def _nothing(work: Work) -> None:
    print("said by the component")  # noqa: T201  stdout belongs into the log


def _bad_input(work: Work) -> None:
    raise BadInput("no column `tips`", hint="Mend the CSV.")


def _raises(work: Work) -> None:
    raise ValueError("unexpected")


def _loses_its_input(work: Work) -> None:
    shutil.rmtree(work.input("examples").uri)
    (Path(work.input("examples").uri) / "data").read_bytes()


def _exits(work: Work) -> None:
    sys.exit("enough")


def _exits_hard(work: Work) -> None:
    os._exit(3)


def _exits_hard_as_if_well(work: Work) -> None:
    os._exit(0)


def _kills_itself(work: Work) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _crashes(work: Work) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _out_of_memory(work: Work) -> None:
    raise MemoryError


def _disk_full(work: Work) -> None:
    raise OSError(28, "No space left on device")


def _writes_for_a_user(work: Work) -> None:
    """What a user's function does gets an answer of the operating system that `spec` names, about a file it names."""
    number = getattr(errno, str(work.request.spec["errno"]))
    named = {"staging": f"{work.request.staging}/model/weights", "own": "/data/vocabulary", "": None}
    with user_code("run_fn"):
        raise OSError(number, os.strerror(number), named[str(work.request.spec["about"])])


def _another_error_for_a_user(work: Work) -> None:
    with user_code("run_fn"):
        raise ValueError("cannot be saved")


def _judges_data(work: Work) -> None:
    """An OSError that was looked at and told: the data is not what it was said to be."""
    try:
        Path("/data/vocabulary/nowhere").read_bytes()
    except OSError as error:
        raise BadInput("no vocabulary", hint="Put it there.") from error


def _uses_up_descriptors(work: Work) -> None:
    with user_code("run_fn"):
        kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(10**6)]
        assert not kept


def _has_few_descriptors(work: Work) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 10))
    with user_code("run_fn"):
        (Path(work.request.staging) / "file").write_text("")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def _cannot_be_said(work: Work) -> None:
    raise Unspeakable


def _cannot_be_said_for_a_user(work: Work) -> None:
    with user_code("run_fn"):
        raise Unspeakable


def _says_much(work: Work) -> None:
    work.progress("p" * 5_000_000)
    raise ValueError("e" * 5_000_000)


def _counts_a_kill(work: Work) -> None:
    """The kernel kills something for want of memory, and it goes on as if nothing had happened."""
    said = f"oom_kill_disable 0\nunder_oom 0\noom_kill {work.request.spec['kills']}\n"
    Path(str(work.request.spec["counter"])).write_text(said)


def _counts_a_kill_and_dies(work: Work) -> None:
    _counts_a_kill(work)
    os.kill(os.getpid(), signal.SIGKILL)


def _waits_for(work: Work) -> None:
    work.progress("waits")
    while not Path(str(work.request.spec["file"])).exists():
        time.sleep(0.01)


def _sleeps(work: Work) -> None:
    work.progress("step 1 of 2\x1b[31m")
    time.sleep(600)


def _ignores_sigterm(work: Work) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    work.progress("deaf")
    time.sleep(600)


def _finishes_despite_sigterm(work: Work) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    work.progress("deaf")
    time.sleep(1.5)


def _grandchild(work: Work) -> None:
    """Leaves a process behind that holds stdout."""
    _leave_pid(work, subprocess.Popen(["sleep", "600"]).pid)


def _grandchild_and_sleeps(work: Work) -> None:
    _grandchild(work)
    time.sleep(600)


def _grandchild_and_holds_the_lock(work: Work) -> None:
    """Native code that never gives the interpreter's lock back."""
    _grandchild(work)
    ctypes.PyDLL(None).sleep(600)


def _setsid_grandchild(work: Work) -> None:
    """Leaves a process behind that has left the group, as daemons do."""
    _leave_pid(work, subprocess.Popen(["sleep", "600"], start_new_session=True).pid)


def _forked_grandchild(work: Work) -> None:
    """The same without an exec, so that the kernel knows no environment of its own."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        time.sleep(600)
        os._exit(0)
    _leave_pid(work, pid)


def _leave_pid(work: Work, pid: int) -> None:
    Path(str(work.request.spec["pid_file"])).write_text(f"{os.getpid()} {pid}")


def _garbage_outcome(work: Work) -> None:
    Path(work.request.staging, ".outcome.json").write_text('{"state": "succeeded", "outputs": 7}')
    os._exit(0)


def _huge_outcome(work: Work) -> None:
    with Path(work.request.staging, ".outcome.json").open("w") as file:
        file.truncate(2**30)
    os._exit(0)


def _outcome_elsewhere(work: Work) -> None:
    Path(work.request.staging, ".outcome.json").symlink_to("/etc/hostname")
    os._exit(0)


def _talks(work: Work) -> None:
    line = b"x" * 1023 + b"\n"
    for _ in range(200):
        os.write(1, line * 1024)
    os.write(2, b"the last words\n")


def _link(work: Work) -> None:
    (work.output("model") / "passwd").symlink_to("/etc/passwd")


def _temporary_file(work: Work) -> None:
    with tempfile.NamedTemporaryFile() as file:
        work.progress(f"{file.name} {os.environ['TMPDIR']} {Path.cwd()}")
    time.sleep(600)


def _environment(work: Work) -> None:
    work.progress(" ".join(sorted(os.environ)))
    time.sleep(600)


DEEDS = {name[1:]: deed for name, deed in list(globals().items()) if name.startswith("_") and not name.startswith("__")}
