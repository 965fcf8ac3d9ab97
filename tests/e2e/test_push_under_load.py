"""Pushes, rollbacks, models that do not load and kill -9 under a steady load: no request fails, nothing is in part.

The models cost nothing to train, so that there can be many: each multiplies by a factor of its own, which tells who
answered.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ctd.serving.client import Client
from tests.e2e import small_models
from tests.e2e.site import PATIENCE, Server, Site, eventually, serving

pytestmark = pytest.mark.e2e

X = np.array([3.0], np.float32)
QUICK = ("--file_system_poll_wait_seconds=0.1", "--max_num_load_retries=0")
PUSHES = 20
CORRUPT, ROLLBACKS = (4, 10, 16), (6, 12, 17)  # after the push of this number
PUSHER_KILLED, DAEMON_KILLED = 8, 14  # in the middle of the push of this number


@dataclass
class Project(Site):
    """A pipeline that pushes whatever model is put into a folder."""

    pipeline: str = "small"

    @classmethod
    def at(cls, root: Path) -> Project:
        made = cls(root)
        for folder in ("specs", "deploy_targets"):
            (root / folder).mkdir()
        importer, pusher = "{kind: importer, artifact: Model, path: ../model}", "{targets: [serving], require: []}"
        made.spec.write_text(f"pipeline: small\nnodes:\n  model: {importer}\n  pusher: {{kind: pusher, {pusher[1:]}\n")
        return made

    def served_at(self, address: str) -> None:
        """Push to the folder that the server at this address watches."""
        path, server = "../serving/{pipeline}", f"{{grpc: '{address}'}}"
        text = f"target: serving\nkind: tf_serving\npath: {path}\nkeep: 3\nserver: {server}\n"
        (self.root / "deploy_targets/serving.yaml").write_text(text)

    def offer(self, model: Path) -> None:
        """Put a model where the pipeline takes it from, in one step."""
        new, old = self.root / ".new", self.root / ".old"
        shutil.copytree(model, new)
        with contextlib.suppress(FileNotFoundError):
            (self.root / "model").rename(old)
        new.rename(self.root / "model")
        shutil.rmtree(old, ignore_errors=True)

    def live(self) -> Mapping[str, Any]:
        return next(iter(self.status().get("live") or [{}]))

    def ledger(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.serving / ".ctd/pushes.jsonl").read_text().splitlines()]


@dataclass
class Load:
    """Clients that ask without a pause worth mentioning, and what they were told."""

    server: Server
    answers: dict[str, Counter[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Ask over gRPC and REST until the end."""
        url = f"{self.server.rest}/v1/models/small:predict"
        with Client(self.server.grpc) as client, httpx.Client(trust_env=False, timeout=PATIENCE) as web:

            def over_grpc() -> float:
                return float(client.predict("small", "", {"x": X}, timeout=PATIENCE)["y"][0])

            def over_rest() -> float:
                answer = web.post(url, json={"instances": [float(X[0])]})
                return float(answer.raise_for_status().json()["predictions"][0])

            ways = {"gRPC": over_grpc, "REST": over_rest}
            self.answers = {way: Counter() for way in ways}
            threads = [threading.Thread(target=self._ask, args=each) for each in ways.items()]
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                self.over.set()
                for thread in threads:
                    thread.join()

    def _ask(self, way: str, ask: Callable[[], float]) -> None:
        while not self.over.wait(0.01):  # a steady load, and a core for the others
            answer = self._answer(way, ask)
            if answer is not None:
                self.answers[way][answer / float(X[0])] += 1

    def _answer(self, way: str, ask: Callable[[], float]) -> float | None:
        try:
            return ask()
        except Exception as error:  # noqa: BLE001  whatever a client can be told
            self.failures.append(f"{way}: {type(error).__name__}: {error}")
            return None

    def until_answered_by(self, factor: float) -> None:
        """Wait until both ways get this model's answer."""
        before = {way: self.answers[way][factor] for way in self.answers}
        check = lambda: all(self.answers[way][factor] > n for way, n in before.items())  # noqa: E731
        eventually(f"factor {factor} answers; last failures: {self.failures[-3:]}", check)


@dataclass
class Reader:
    """Looks at the versions as a server does: reads each whole at first sight, and later at the sizes of its files."""

    base: Path
    whole: list[small_models.Files]
    partial: list[str] = field(default_factory=list)
    seen: dict[tuple[str, int], bool] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Look until the end."""
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield
        finally:
            self.over.set()
            thread.join()

    def _look(self) -> None:
        sizes = [small_models.sizes_in(model) for model in self.whole]
        while not self.over.wait(0.005):
            for version in [path for path in self.base.iterdir() if path.name.isdecimal()]:
                with contextlib.suppress(FileNotFoundError):
                    self._check(version, (version.name, version.stat().st_ino), sizes)

    def _check(self, version: Path, known: tuple[str, int], sizes: list[Mapping[str, int]]) -> None:
        try:
            if known in self.seen:
                whole = small_models.sizes(version) in sizes
            else:
                whole = self.seen[known] = small_models.files(version) in self.whole
        except FileNotFoundError:
            whole = False
        # What is moved away while it is read is no longer at its name afterwards.
        if not whole and version.stat().st_ino == known[1]:
            self.partial.append(f"{version.name}: {sorted(p.name for p in version.rglob('*'))}")


@dataclass
class Story:
    """What is done to the project, and which models should answer, the live one last."""

    site: Project
    load: Load
    on_top: list[float] = field(default_factory=list)

    def push(self, number: int, model: Path) -> None:
        """Offer a model, and wait until it answers and was verified."""
        self.site.offer(model)
        self._served(float(number))
        self.on_top.append(float(number))

    def after(self, number: int, bad: Mapping[int, Path]) -> None:
        """What else comes after the push of this number."""
        if number in bad:
            hidden = len(list(self.site.serving.glob(".ctd-quarantine-*")))
            self.site.offer(bad[number])
            self.site.until("pusher", "failed", because="the server cannot load version")
            assert len(list(self.site.serving.glob(".ctd-quarantine-*"))) == hidden + 1
            self._served(self.on_top[-1])
        if number in ROLLBACKS:
            self.site.ctd("rollback", "small", "serving", "--reason", "scores far too high")
            self.on_top.append(self.on_top[-2])
            self._served(self.on_top[-1])

    def _served(self, factor: float) -> None:
        self.load.until_answered_by(factor)
        eventually(f"factor {factor} is live and verified", self._verified)

    def _verified(self) -> bool:
        live = self.site.live()
        return bool(live.get("verified")) and live["version"] == max(self.site.versions())


def tell(story: Story, models: Mapping[int, Path], bad: Mapping[int, Path]) -> int:
    """All that happens; the version that is live in the end."""
    site, load = story.site, story.load
    holds = {point: site.root / point for point in ("push.copy_mid", "push.after_rename")}
    armed = "; ".join(f"{point}=hold({file})" for point, file in holds.items())
    with contextlib.ExitStack() as later:
        with site.daemon(CTD_DEBOUNCE="20ms", CTD_TEST="1", CTD_FAILPOINTS=armed) as daemon:
            site.offer(models[1])
            eventually("the first version is live", lambda: site.live().get("verified"))
            story.on_top = [1.0]
            later.enter_context(load.running())
            for n in range(2, DAEMON_KILLED):
                if n == PUSHER_KILLED:
                    holds["push.copy_mid"].touch()
                    site.offer(models[n])
                    os.kill(site.until_held(daemon, ["pusher.serving"]).pid, signal.SIGKILL)
                    holds["push.copy_mid"].unlink()
                story.push(n, models[n])
                story.after(n, bad)
            holds["push.after_rename"].touch()
            site.offer(models[DAEMON_KILLED])
            site.until_held(daemon, ["pusher.serving"])
            daemon.kill()
        with site.daemon(CTD_DEBOUNCE="20ms"):
            for n in range(DAEMON_KILLED, PUSHES + 1):
                story.push(n, models[n])
                story.after(n, bad)
            return int(site.live()["version"])


def check_target(site: Project, live: int) -> None:
    """What the target holds, and what its ledger says of all that was there."""
    ledger = site.ledger()
    numbers: dict[int, set[str]] = {}
    for said in ledger:
        numbers.setdefault(said["version"], set()).add(said["tree"])
    assert all(len(trees) == 1 for trees in numbers.values()), "a number stands for one content, for ever"
    pushed = sum(said["fate"] == "pushed" for said in ledger)
    hidden = [said["version"] for said in ledger if said["fate"] == "quarantined"]
    assert pushed - len(hidden) == PUSHES + len(ROLLBACKS), "each once, also what was being pushed at a kill"
    assert len(hidden) == len(CORRUPT)
    assert sorted(path.name for path in site.serving.glob(".ctd-*")) == sorted(f".ctd-quarantine-{v}" for v in hidden)
    assert not set(hidden) & set(site.versions())
    assert (len(site.versions()), max(site.versions())) == (3, live)


def test_twenty_pushes_three_rollbacks_three_models_that_do_not_load_and_two_kills_fail_no_request(
    tmp_path: Path,
) -> None:
    site = Project.at(tmp_path)
    models = {n: small_models.write(tmp_path / f"models/{n}", float(n)) for n in range(1, PUSHES + 1)}
    bad = {n: small_models.without_values(models[n], tmp_path / f"models/bad-{n}") for n in CORRUPT}
    reader = Reader(site.serving, [small_models.files(model) for model in (*models.values(), *bad.values())])
    with serving(site.serving, "small", *QUICK) as server, reader.running():
        site.served_at(server.grpc)
        story = Story(site, Load(server))
        live = tell(story, models, bad)

    assert story.load.failures == []
    for way, answers in story.load.answers.items():
        assert answers.keys() <= {float(n) for n in models}, f"{way} was answered by a model that is none of ours"
    assert reader.partial == []
    assert len(reader.seen) > len(CORRUPT)
    check_target(site, live)
    with serving(site.serving, "small") as again, Client(again.grpc) as client:
        answered = client.ask("small", "", {"x": X}, timeout=PATIENCE)
        assert (answered.version, answered.outputs["y"][0] / X[0]) == (live, story.on_top[-1])


def test_a_server_that_was_down_at_the_push_verifies_it_when_it_comes_up(tmp_path: Path) -> None:
    site = Project.at(tmp_path)
    with unused_port() as door, site.daemon(CTD_DEBOUNCE="20ms", CTD_RESCAN="1s"):
        port = door.getsockname()[1]
        site.served_at(f"127.0.0.1:{port}")
        site.offer(small_models.write(tmp_path / "models/1", 2.0))
        assert not site.until_live(1)["verified"]
        eventually("nobody answers", lambda: "nobody answers" in site.live()["problem"])
        assert "not verified" in site.ctd("status", "small")
        door.close()
        with serving(site.serving, "small", *QUICK, f"--port={port}") as server:
            assert server.grpc == f"127.0.0.1:{port}"
            eventually("it is verified", lambda: site.live()["verified"])
            assert (site.live()["version"], site.live()["problem"]) == (1, "")
            assert "not verified" not in site.ctd("status", "small")
    pushes = [e for e in site.executions() if e.node == "pusher"]
    said = [str(made.properties["reason"]) for e in pushes for made in e.output("pushed_model")]
    assert said[0].startswith("version 1 pushed: pushed, not verified: the server does not answer")
    assert said[-1].startswith("version 1 was already there: the server answers with it; 1 golden requests")


def unused_port() -> socket.socket:
    """A port that is bound and does not listen: below those that the kernel gives away, so that it stays ours."""
    for port in range(20000 + os.getpid() % 5000, 30000):
        door = socket.socket()
        with contextlib.suppress(OSError):
            door.bind(("127.0.0.1", port))
            return door
        door.close()
    raise AssertionError("no port is free")
