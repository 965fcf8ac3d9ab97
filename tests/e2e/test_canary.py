"""A real daemon and a real model server: a good model is tried and takes over, a bad one is taken back by itself.

All the while clients ask by the labels. They never get an error, and by `stable` never an answer of a bad model.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ctd.core.executions import State
from tests.e2e.site import PATIENCE, Daemon, Server, Site, eventually, serving

pytestmark = pytest.mark.e2e

FACTORS = {"first": 1.0, "good": 1.1, "bad": 3.0, "next": 1.2}
FARE = 0.5
WATCH = "serving.canary"


def example(fare: float) -> str:
    """A tf.Example with the one feature, in base64. Its fields are few enough to write them by hand."""

    def message(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    feature = message(2, message(1, struct.pack("<f", fare)))  # Feature.float_list, packed
    features = message(1, message(1, b"fare") + message(2, feature))  # Features.feature, a map
    return base64.b64encode(message(1, features)).decode()


@dataclass
class Clients:
    """Two clients that ask by label for as long as they live."""

    server: Server
    answers: dict[str, set[float]] = field(default_factory=lambda: {"stable": set(), "canary": set()})
    errors: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def ask(self, label: str) -> float:
        body = json.dumps({"instances": [{"b64": example(FARE)}]}).encode()
        url = f"{self.server.rest}/v1/models/light/labels/{label}:predict"
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=PATIENCE) as answer:  # noqa: S310
            return round(json.loads(answer.read())["predictions"][0][0] / FARE, 3)

    def live(self) -> None:
        while not self._stop.wait(0.02):
            for label in self.answers:
                self._note(label)

    def _note(self, label: str) -> None:
        try:
            self.answers[label].add(self.ask(label))
        except urllib.error.HTTPError as error:
            self.errors.append(f"{label}: {error} {error.read().decode()}")
        except (OSError, ValueError, KeyError) as error:
            self.errors.append(f"{label}: {error}")

    @contextlib.contextmanager
    def asking(self) -> Iterator[Clients]:
        thread = threading.Thread(target=self.live)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join(PATIENCE)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A pipeline that reads examples, imports a model, and pushes it to a target with a canary."""
    made = Site(tmp_path, "light")
    program = Path(__file__).with_name("score_models.py")
    models = [f"{tmp_path / 'exported' / name}={factor}" for name, factor in FACTORS.items()]
    subprocess.run([sys.executable, str(program), *models], check=True, capture_output=True)
    for folder in ("specs", "deploy_targets", "data/1"):
        (tmp_path / folder).mkdir(parents=True)
    rows = "".join(f"{fare / 100}\n" for fare in range(1, 100))
    (tmp_path / "data/1/trips.csv").write_text(f"fare\n{rows}")
    (tmp_path / "data/1/_SUCCESS").touch()
    nodes = '  trips: {kind: example_gen, input: "../data/{SPAN}"}\n'
    nodes += "  model: {kind: importer, artifact: Model, path: ../model}\n"
    nodes += "  pusher: {kind: pusher, targets: [serving], require: []}\n"
    made.spec.write_text(f"pipeline: light\nnodes:\n{nodes}")
    (tmp_path / "models.config").touch()
    return made


def declare(site: Site, server: Server) -> None:
    said = "target: serving\nkind: tf_serving\npath: ../serving/{pipeline}\nkeep: 1\n"
    said += f"server: {{grpc: '{server.grpc}', config: ../models.config}}\n"
    said += "canary: {bake: 4s, watch: {errors: 0, drift: 0.2}}\n"  # no latency: this machine has other things to do
    (site.root / "deploy_targets/serving.yaml").write_text(said)


def export(site: Site, name: str) -> None:
    """Put another model in the place that is imported, at once."""
    new = site.root / "model.new"
    shutil.copytree(site.root / "exported" / name, new)
    if (site.root / "model").exists():
        (site.root / "model").rename(site.root / f"model.before-{name}")
    new.rename(site.root / "model")


def model_server(site: Site) -> contextlib.AbstractContextManager[Server]:
    config = f"--model_config_file={site.root / 'models.config'}"
    polls = ("--model_config_file_poll_wait_seconds=0.2", "--file_system_poll_wait_seconds=0.2")
    return serving(site.serving, "light", config, *polls)


def verdict(daemon: Daemon, begins: str) -> dict[str, Any]:
    """The end of a watch with a result that begins so."""

    def ended() -> dict[str, Any] | None:
        mine = (e for e in daemon.events if e["event"] == "execution ended" and e["piece"] == WATCH)
        return next((e for e in mine if e.get("result", "").startswith(begins)), None)

    found: dict[str, Any] = eventually(f"the watch says {begins!r}; log: {daemon.log}", ended)
    return found


def begun(daemon: Daemon, after: int) -> dict[str, Any] | None:
    """The first watch that began after an execution."""
    mine = (e for e in daemon.events if e["event"] == "execution started" and e["piece"] == WATCH)
    return next((e for e in mine if e["execution"] > after), None)


def test_a_good_model_takes_over_and_a_bad_one_is_taken_back_by_itself(site: Site) -> None:
    with model_server(site) as server:
        declare(site, server)
        clients = Clients(server)
        with site.daemon() as daemon:
            daemon.wait_for("execution ended", node="trips", state="succeeded")
            export(site, "first")
            assert site.until_live(1)["verified"]
            with clients.asking():
                export(site, "good")
                verdict(daemon, "version 2 promoted after ")
                assert site.until_live(2)["canary"] == ""
                assert {clients.ask("stable"), clients.ask("canary")} == {1.1}
                export(site, "bad")
                back = verdict(daemon, "version 3 rolled back after ")
                assert ": drift: output 'score' differs by " in back["result"]
                eventually("the target says why", lambda: site.until_live(2)["hold"] == back["result"])
                eventually("the canary's clients have the live version", lambda: clients.ask("canary") == 1.1)
                assert site.versions() == [2], "`keep: 1`, and 3 is in quarantine"
                export(site, "next")
                eventually("version 4 is watched", lambda: begun(daemon, after=back["execution"]))
                daemon.kill()
                with site.daemon():
                    assert site.until_live(4)["hold"] == ""
        assert clients.errors == []
        assert clients.answers["stable"] == {1.1, 1.2} | (clients.answers["stable"] & {1.0})
        assert clients.ask("stable") == 1.2
    watches = [e for e in site.executions() if e.piece == WATCH]
    judged = [e.result.partition(" after ")[0] for e in watches if e.state is State.SUCCEEDED]
    assert judged == ["version 2 promoted", "version 3 rolled back", "version 4 promoted"], "once each, killed or not"
    assert {e.state for e in watches} <= {State.SUCCEEDED, State.ABANDONED}
