"""The embedded server as a fork of this process: TensorFlow is imported here already, which takes a program seconds.

Only the imports are shared. The server has its own process group, environment, directory and log, none of this
process's descriptors, and dies with this process; whatever it does, a crash of TensorFlow's included, ends only it.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ctd.core.forking import op_has_run, thread_count
from ctd.serving import flags, leash

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def possible() -> bool:
    """Whether a fork of this process would work, and would have nothing left to import."""
    return "tensorflow" in sys.modules and not op_has_run() and thread_count() == 1


class Child:
    """A forked process, to be waited for as for a started program."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or minus the number of the signal that killed it; nothing while it runs."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        """The same, when it has ended."""
        return self._wait(0)

    def _wait(self, options: int) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, options)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code


def serve(arguments: Sequence[str], log: int, root: Path, environment: Mapping[str, str]) -> Child:
    """Fork a server with these flags, which writes to the descriptor `log`. Raises OSError."""
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()  # or both processes would write what is still in there
    pid = os.fork()
    if pid == 0:
        _become_server(arguments, log, root, environment, parent)
    return Child(pid)


def _become_server(
    arguments: Sequence[str], log: int, root: Path, environment: Mapping[str, str], parent: int
) -> NoReturn:
    code = 1
    try:
        os.setsid()
        leash.hold(parent)
        _settle_in(log, root, environment)
        code = importlib.import_module("ctd.serving.server").run(flags.parse(arguments))
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:  # noqa: BLE001  the top frame of the process
        traceback.print_exc()
    finally:
        # Never back into the code of the process that it was, nor through what that has registered for its end.
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _settle_in(log: int, root: Path, environment: Mapping[str, str]) -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir(root)
    os.environ.clear()  # noqa: TID251  of the process that it was
    os.environ.update(environment)  # noqa: TID251
    tempfile.tempdir = None
    logging.getLogger().handlers.clear()  # the server has its own way to log
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1, closefd=False), os.fdopen(2, "w", 1, closefd=False)
