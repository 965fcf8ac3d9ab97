"""The sandbox that tries a model: its three ends, and that it leaves nothing behind."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

from tests.components.serving_process import (
    PATIENCE,
    corrupt,
    cut_short,
    example,
    without_data,
    without_variables,
)

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def start() -> Callable[..., Any]:
    """`start(model, name, log)` starts the embedded server; a path of a program in the end that one."""
    sandbox, process = (importlib.import_module(f"ctd.serving.{name}") for name in ("sandbox", "sandbox_process"))

    def start(model: Path, name: str, log: Path, binary: str | None = None) -> Any:
        runner = process.program(binary) if binary else process.embedded()
        return sandbox.ModelServer.start(runner, model, name, log)

    return start


@pytest.fixture(scope="module")
def ends() -> Any:
    return importlib.import_module("ctd.serving.errors")


def test_the_sandbox_serves_a_good_model_and_leaves_nothing_behind(
    start: Callable[..., Any], saved_models: Path, tmp_path: Path
) -> None:
    with start(saved_models / "scorer", "candidate", tmp_path / "logs" / "server.log") as server:
        server.wait_available(PATIENCE)
        outputs = server.predict("", {"examples": np.array([example(0.25)], np.object_)}, PATIENCE)
        assert server.runner == "embedded"
        pid, root = server.running.pid, Path(server.running.address.removeprefix("unix:")).parent
    assert outputs["score"].tolist() == [[0.5]]
    assert not Path(f"/proc/{pid}").exists()
    assert not root.exists()
    assert "candidate version 1 is AVAILABLE" in (tmp_path / "logs" / "server.log").read_text()


@pytest.mark.parametrize("damage", [corrupt, without_variables, without_data, cut_short])
def test_the_sandbox_says_that_a_damaged_model_is_refused(
    start: Callable[..., Any], ends: Any, saved_models: Path, tmp_path: Path, damage: Callable[[Path, Path], Path]
) -> None:
    model = damage(saved_models / "plus_two", tmp_path / "model")
    with start(model, "m", tmp_path / "log") as server, pytest.raises(ends.ModelRefused) as caught:
        server.wait_available(PATIENCE)
    assert not caught.value.retryable
    assert "embedded server refused model m: " in caught.value.message


def test_the_sandbox_passes_on_what_the_model_says_to_a_request(
    start: Callable[..., Any], ends: Any, saved_models: Path, tmp_path: Path
) -> None:
    with start(saved_models / "scorer", "m", tmp_path / "log") as server:
        server.wait_available(PATIENCE)
        with pytest.raises(ends.RequestRefused, match="Could not parse example input"):
            server.predict("", {"examples": np.array([b"\xff"], np.object_)}, PATIENCE)
        os.kill(server.running.pid, signal.SIGSEGV)
        with pytest.raises(ends.ModelRefused, match="was killed by SIGSEGV while answering"):
            server.predict("", {"examples": np.array([example(1.0)], np.object_)}, PATIENCE)


def program(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


REFUSAL = "echo 'E retrier.cc:40] Loading servable: {name: m version: 1} failed: OUT_OF_RANGE: too short'; exit 255"


@pytest.mark.parametrize(
    ("script", "end", "words"),
    [
        pytest.param("echo no such library >&2; exit 127", "ServerNotStarted", "no such library", id="ends at once"),
        pytest.param("kill -KILL $$", "ServerNotStarted", "exit code -9", id="killed from outside"),
        pytest.param(REFUSAL, "ModelRefused", "OUT_OF_RANGE: too short", id="says no as TensorFlow's server does"),
        pytest.param(
            "echo m version 1 is LOADING; kill -ABRT $$", "ModelRefused", "SIGABRT", id="crashes in the model"
        ),
        pytest.param("exec sleep 60", "ServerDeadline", "within 0.5 s", id="never comes to a result"),
    ],
)
def test_the_sandbox_tells_three_ends_apart(
    start: Callable[..., Any], ends: Any, tmp_path: Path, script: str, end: str, words: str
) -> None:
    binary = program(tmp_path / "server", script)
    with (
        start(tmp_path, "m", tmp_path / "log", binary) as server,
        pytest.raises(getattr(ends, end), match=words) as caught,
    ):
        server.wait_available(0.5 if end == "ServerDeadline" else PATIENCE)
    assert caught.value.retryable == (end != "ModelRefused")


def test_a_program_that_is_not_there_is_not_the_models_fault(
    start: Callable[..., Any], ends: Any, saved_models: Path, tmp_path: Path
) -> None:
    for binary in (str(tmp_path / "nothing"), str(tmp_path)):
        with pytest.raises(ends.ServerNotStarted, match="does not exist or cannot be executed"):
            start(saved_models / "plus_two", "m", tmp_path / "log", binary)


def test_a_sandbox_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    binary = program(tmp_path / "server", f"echo $$ > {tmp_path / 'pid'}; exec sleep 60")
    script = (
        "import sys, time; from ctd.core.partial_import import install\n"
        "from ctd.serving.__main__ import NEEDED; install(NEEDED)\n"
        "from pathlib import Path; from ctd.serving.sandbox_process import program\n"
        f"server = program({binary!r}).start(Path({str(tmp_path)!r}), 'm', Path({str(tmp_path / 'log')!r}))\n"
        "time.sleep(60)"
    )
    # A parent that is killed cannot tidy up: what it leaves goes with the directory of this test.
    (tmp_path / "t").mkdir()
    parent = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(tmp_path / "t")})
    deadline = monotonic() + PATIENCE
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        assert monotonic() < deadline
        sleep(0.02)
    pid = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    while Path(f"/proc/{pid}").exists() and "(sleep) Z" not in Path(f"/proc/{pid}/stat").read_text():
        assert monotonic() < deadline
        sleep(0.02)


# Runs in a process that has imported what serves and used none of it, as a worker has.
WARM = """
import contextlib, os, signal, sys, threading, time
from ctd.core.partial_import import install
from ctd.serving.__main__ import NEEDED
assert install(NEEDED)
import numpy as np
from pathlib import Path
from ctd.serving import sandbox_fork
from ctd.serving.errors import ModelRefused
from ctd.serving.sandbox import ModelServer
from ctd.serving.sandbox_process import embedded

models, folder, patience, record = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.stdin.buffer.read()
pipe, _ = os.pipe()
assert sandbox_fork.possible()
waiting = threading.Event()
thread = threading.Thread(target=waiting.wait)
thread.start()
assert not sandbox_fork.possible()
waiting.set()
while not sandbox_fork.possible():  # the kernel takes a moment longer than `join`
    time.sleep(0.01)
with ModelServer.start(embedded(), models / "scorer", "m", folder / "log"):
    pass  # nobody has asked it anything: a question starts threads, after which this process forks no more
left = embedded().start(models / "scorer", "m", folder / "log")
with ModelServer.start(embedded(), models / "scorer", "m", folder / "log") as server:
    pid = server.running.pid
    print("warm:", Path(f"/proc/{pid}/cmdline").read_bytes() == Path("/proc/self/cmdline").read_bytes())
    server.wait_available(patience)
    print("score:", server.predict("", {"examples": np.array([record], np.object_)}, patience)["score"].tolist())
    held = Path("/proc/self/fd", str(pipe)).stat().st_ino
    inodes = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            inodes.add(path.stat().st_ino)
    print("own group:", os.getpgid(pid) == pid, "holds:", held in inodes, "others:", len(inodes) > 3)
    os.kill(pid, signal.SIGSEGV)
    try:
        server.predict("", {"examples": np.array([record], np.object_)}, patience)
    except ModelRefused as refused:
        print("crashed:", refused.message)
print("gone:", not Path(f"/proc/{pid}").exists())
with ModelServer.start(embedded(), models / "broken", "m", folder / "log") as server:
    try:
        server.wait_available(patience)
    except ModelRefused as refused:
        print("refused:", refused.message)
print("left:", left.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_warm_process_forks_its_sandbox_and_is_none_the_worse_for_it(saved_models: Path, tmp_path: Path) -> None:
    corrupt(saved_models / "plus_two", saved_models / "broken")
    (tmp_path / "t").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", WARM, str(saved_models), str(tmp_path), str(PATIENCE)],
        input=example(0.25),
        # Workers are forks, which have lost the threads that numpy's library starts.
        env={**os.environ, "TMPDIR": str(tmp_path / "t"), "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        check=False,
    )
    *lines, last = done.stdout.decode().splitlines()
    assert [line.partition(" refused model m")[0] for line in lines] == [
        "warm: True",
        "score: [[0.5]]",
        "own group: True holds: False others: True",
        "crashed: embedded server was killed by SIGSEGV while answering model m",
        "gone: True",
        "refused: embedded server",
    ]
    assert done.returncode == -signal.SIGKILL
    deadline = monotonic() + PATIENCE
    while _runs(int(last.removeprefix("left: "))):
        assert monotonic() < deadline
        sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
