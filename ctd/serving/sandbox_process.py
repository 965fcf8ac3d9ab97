"""A model server as a child process: it hears only on a UNIX socket, has a clean environment and a temporary directory,
and is always killed and reaped.

The embedded server is a fork of this process where that is safe and gives the same verdict: what it would import for
seconds is here already. What else is here, such as ops of other libraries, must not help a model (decision 032).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ctd.serving import custom_ops, leash
from ctd.serving import sandbox_fork as fork
from ctd.serving.errors import ServerNotStarted
from ctd.serving.sandbox import VERSION, Ended

EMBEDDED = "embedded"

_LONGEST_SOCKET_PATH = 100  # the kernel takes 107 bytes
_LOG_TAIL = 4000  # bytes of the server's log that are searched for a reason


@dataclass(frozen=True)
class ProcessRunner:
    """A program that takes the flags of tensorflow_model_server."""

    name: str
    command: tuple[str, ...]

    def start(self, model: Path, name: str, log: Path) -> ProcessServer:
        """Start it; raises ServerNotStarted.

        Call this from a thread that lives as long as the server: the kernel kills the server when that thread ends.
        """
        server = ProcessServer(log)
        try:
            self.spawn(server, model, name)
        except OSError as error:
            server.stop()
            raise ServerNotStarted(
                f"model server {self.name} cannot be started: {error}", hint="check the program and the disk"
            ) from error
        return server

    def spawn(self, server: ProcessServer, model: Path, name: str) -> None:
        """Start the process. Raises OSError."""
        server.spawn(self.command, model, name)


@dataclass(frozen=True)
class EmbeddedRunner(ProcessRunner):
    """ctd's own server; warm if this process has imported TensorFlow and not used it yet."""

    name: str = EMBEDDED
    command: tuple[str, ...] = (sys.executable, "-m", "ctd.serving")
    op_libraries: tuple[str, ...] = ()

    def spawn(self, server: ProcessServer, model: Path, name: str) -> None:
        if not self.op_libraries and fork.possible() and custom_ops.only_tensorflows_own(model):
            server.fork(model, name)
        elif self.op_libraries:
            server.spawn((*self.command, f"--op_libraries={','.join(self.op_libraries)}"), model, name)
        else:
            super().spawn(server, model, name)


def embedded(libraries: tuple[str, ...] = ()) -> EmbeddedRunner:
    """ctd's own server, with these libraries of ops."""
    return EmbeddedRunner(op_libraries=libraries)


def program(path: str) -> ProcessRunner:
    """The server at this path. Raises ServerNotStarted if there is no program."""
    if not os.access(path, os.X_OK) or not Path(path).is_file():
        raise ServerNotStarted(
            f"model server {path} does not exist or cannot be executed",
            hint="`binary` is the full path of a tensorflow_model_server; without it, the one on PATH is taken",
        )
    whole = str(Path(path).absolute())
    return ProcessRunner(whole, (whole,))


class ProcessServer:
    """A server process that cannot outlive this one."""

    def __init__(self, log_path: Path) -> None:
        self._log_path = log_path
        self._log_start = log_path.stat().st_size if log_path.exists() else 0
        self._root = _temporary_directory()
        self._socket = self._root / "grpc.sock"
        self._process: subprocess.Popen[bytes] | fork.Child | None = None

    @property
    def address(self) -> str:
        return f"unix:{self._socket}" if self._socket.exists() else ""

    @property
    def pid(self) -> int:
        """The process, to measure it."""
        return self._process.pid if self._process else 0

    def ended(self) -> Ended | None:
        code = self._process.poll() if self._process else 0
        return None if code is None else Ended(code)

    def log(self) -> str:
        """The end of what this server has logged; the file may hold earlier tries too."""
        with self._log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _LOG_TAIL))
            return log.read().decode(errors="replace")

    def stop(self) -> None:
        # There is nothing to save in a sandbox, so it is not asked nicely. Once reaped, its group may be another's.
        if self._process and self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:  # a fork that has not come to lead its group yet
                os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
        shutil.rmtree(self._root, ignore_errors=True)

    def spawn(self, command: tuple[str, ...], model: Path, name: str) -> None:
        """Start a program. Raises OSError."""
        flags = self._flags(model, name)
        prefix = (sys.executable, "-I", "-S", str(Path(leash.__file__)), str(os.getpid()))
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  # the runner is the operator's choice
                [*prefix, *command, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._root,
                env=self._environment(),
                start_new_session=True,
            )

    def fork(self, model: Path, name: str) -> None:
        """Start the embedded server without imports. Raises OSError."""
        flags = self._flags(model, name)
        with self._log_path.open("ab") as log:
            self._process = fork.serve(flags, log.fileno(), self._root, self._environment())

    def _flags(self, model: Path, name: str) -> tuple[str, ...]:
        base_path = self._root / name
        base_path.mkdir()
        (base_path / str(VERSION)).symlink_to(model.resolve(), target_is_directory=True)
        return (
            "--port=0",
            f"--grpc_socket_path={self._socket}",
            f"--model_name={name}",
            f"--model_base_path={base_path}",
            # A candidate that does not load at once is bad; TensorFlow's server would try for five minutes.
            "--max_num_load_retries=0",
        )

    def _environment(self) -> dict[str, str]:
        """Nothing of ours but what Python needs: no tokens, proxies or switches of other libraries."""
        environment = {
            "PATH": os.defpath,
            "HOME": str(self._root),
            "TMPDIR": str(self._root),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "CUDA_VISIBLE_DEVICES": "-1",  # training has the GPU
        }
        if sys.pycache_prefix:
            environment["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
        return environment


def _temporary_directory() -> Path:
    root = Path(tempfile.mkdtemp(prefix="ctd-sandbox-"))
    if len(str(root)) + len("/grpc.sock") <= _LONGEST_SOCKET_PATH:
        return root
    root.rmdir()
    return Path(tempfile.mkdtemp(prefix="ctd-sandbox-", dir="/tmp"))  # mode 700, and short
