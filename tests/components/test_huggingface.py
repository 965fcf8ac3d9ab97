"""Versions of a hub on a Hugging Face Hub too: one commit and one tag each, whatever dies in between.

The Hub is a server on the loopback (`hub_server`), the client the real library, as it is for who downloads.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import psutil
import pytest
import tensorflow as tf
import yaml

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.deploy.hub import write_version
from ctd.deploy.huggingface import upload
from ctd.specs.targets import HuggingFace
from tests.components.conftest import Perform
from tests.components.hub_server import Broken, Hub, running

pytestmark = pytest.mark.tf

TOKEN = "hf_" + "s3cr3t" * 5
STORY: dict[str, Any] = {
    "pipeline": "taxi",
    "trained": "2026-01-01T00:00:00+00:00",
    "code": "c0de" * 16,
    "settings": {},
    "spans": [{"span": 7, "version": None, "content": "aa"}],
    "verdicts": ["blessed: AUC 0.9 >= 0.5"],
    "made_by": [],
}
Push = Callable[..., Artifact]


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    (tmp_path / "stored").mkdir()
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with running(tmp_path / "stored", TOKEN) as hub:
        yield hub


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    """Two models that give y = 2x and y = 3x; the first has an asset that the second lacks."""
    made = []
    for number, slope in enumerate((2.0, 3.0), start=1):
        folder = tmp_path_factory.mktemp("model")
        module = tf.Module()
        module.slope = tf.Variable(slope)
        spec = tf.TensorSpec([None], tf.float32, name="x")
        times = tf.function(lambda x, module=module: {"y": x * module.slope}, input_signature=[spec])
        tf.saved_model.save(module, str(folder / "Format-Serving"), {"serving_default": times})
        if number == 1:
            (folder / "Format-Serving/assets/words.txt").write_text("cash\ncredit\n")
        made.append(Artifact(ArtifactType.MODEL, str(folder), f"model-{number}", id=number))
    return made


@pytest.fixture
def push(work: Perform, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Push:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # as a worker has one of its own

    def perform(model: Artifact, **more: Any) -> Artifact:
        where = {"repo": "acme/{pipeline}", "endpoint": hub.url, "token_file": str(tmp_path / "token"), **more}
        target = {"target": "hub", "kind": "hub", "path": str(tmp_path / "hub"), "huggingface": where}
        given = {"model": model}
        spec = {"targets": ["hub"], "require": []}
        story = {**STORY, "model": model.id}
        made = work("pusher", tmp_path, spec=spec, inputs=given, target=target, story=story)
        (pushed,) = made["pushed_model"]
        return pushed

    return perform


def titles(hub: Hub) -> list[str]:
    return [commit.title for commit in hub.repos["acme/test"].commits]


def tagged(hub: Hub) -> Mapping[str, str]:
    """The titles of the commits with tags."""
    repo = hub.repos["acme/test"]
    return {tag: commit.title for tag in repo.tags if (commit := repo.at(tag))}


def fetch(hub: Hub, revision: str, to: Path) -> Path:
    """As anyone downloads a version."""
    path = huggingface_hub.snapshot_download(
        "acme/test", revision=revision, endpoint=hub.url, token=TOKEN, cache_dir=to / "cache", local_dir=to / revision
    )
    return Path(path)


def answer(folder: Path) -> float:
    code = (
        "import sys, tensorflow as tf; f = tf.saved_model.load(sys.argv[1]).signatures['serving_default']; "
        "print(float(f(x=tf.constant([2.0]))['y'][0]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def test_every_version_is_a_commit_and_a_tag_and_what_is_downloaded_is_what_was_pushed(
    push: Push, models: list[Artifact], hub: Hub, tmp_path: Path
) -> None:
    first, again, second = push(models[0], license="apache-2.0"), push(models[0]), push(models[1], tags=["tips"])
    assert [made.properties["pushed_version"] for made in (first, again, second)] == [1, 1, 2]
    assert {made.properties["uploaded"] for made in (first, again, second)} == {f"{hub.url}/acme/test"}
    assert "uploaded to" in str(first.properties["reason"])
    assert titles(hub) == ["initial commit", "v1: model #1 of taxi", "v2: model #2 of taxi"]
    assert tagged(hub) == {"v1": "v1: model #1 of taxi", "v2": "v2: model #2 of taxi"}
    for revision, version in (("v1", "1"), ("v2", "2"), ("main", "2")):
        fetched = fetch(hub, revision, tmp_path / "fetched")
        local = tmp_path / "hub" / version
        said = json.loads((fetched / "model.json").read_text())
        assert said == json.loads((local / "model.json").read_text())
        digests = {name: hashlib.sha256((fetched / name).read_bytes()).hexdigest() for name in said["files"]}
        assert digests == said["files"], "the files are those that model.json lists, byte by byte"
        here = {
            p.relative_to(fetched).as_posix() for p in fetched.rglob("*") if p.is_file() and ".cache" not in p.parts
        }
        assert here == {*said["files"], "model.json", "README.md", ".gitattributes"}, "and nothing of another version"
    assert answer(tmp_path / "fetched/v1") == 4.0
    card = (tmp_path / "fetched/v2/README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["tags"] == ["tensorflow", "saved-model", "ctd", "tips"]
    assert card.endswith((tmp_path / "hub/2/MODEL_CARD.md").read_text())


def test_a_server_that_is_down_gets_the_version_later_and_then_all_that_it_missed(
    push: Push, models: list[Artifact], hub: Hub, tmp_path: Path
) -> None:
    def down(_: str) -> None:
        raise Broken

    hub.before = down
    missed = [push(model) for model in models]
    assert [made.properties["pushed_version"] for made in missed] == [1, 2], "pushed here all the same"
    assert all("uploaded" not in made.properties for made in missed)
    assert "cannot be reached" in str(missed[0].properties["not_uploaded"])
    assert (tmp_path / "hub/current").read_text() == "2\n"
    hub.before = lambda request: None
    made = push(models[1])
    assert (made.properties["pushed_version"], made.properties["uploaded"]) == (2, f"{hub.url}/acme/test")
    assert tagged(hub) == {"v1": "v1: model #1 of taxi", "v2": "v2: model #2 of taxi"}
    assert hub.repos["acme/test"].at("main") is hub.repos["acme/test"].at("v2")


def test_the_token_is_sent_and_nowhere_else(push: Push, models: list[Artifact], hub: Hub, tmp_path: Path) -> None:
    push(models[0])
    (tmp_path / "token").write_text("hf_of-somebody-else")
    refused = push(models[1])
    why = str(refused.properties["not_uploaded"])
    assert why.startswith(f"the token in {tmp_path / 'token'} may not write to acme/test (401). Mend `token_file`")
    (tmp_path / "token").unlink()
    assert "the token cannot be read" in str(push(models[1]).properties["not_uploaded"])
    assert "who has no token" in str(push(models[1], token_file=None).properties["not_uploaded"])
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        assert TOKEN.encode() not in path.read_bytes(), path
    assert tagged(hub) == {"v1": "v1: model #1 of taxi"}


def test_a_tag_of_something_else_is_not_touched(push: Push, models: list[Artifact], hub: Hub, tmp_path: Path) -> None:
    push(models[0])
    before = titles(hub), dict(hub.repos["acme/test"].tags)
    (tmp_path / "hub").rename(tmp_path / "elsewhere")
    made = push(models[1])
    assert made.properties["pushed_version"] == 1
    assert "acme/test has a tag v1 already, of something else" in str(made.properties["not_uploaded"])
    assert (titles(hub), hub.repos["acme/test"].tags) == before


def version(folder: Path, model: Artifact) -> None:
    """A version as the pusher makes it."""
    card = {**STORY, "handle": "ctd/taxi", "model": model.id, "metrics": [], "signatures": {}}
    folder.mkdir(parents=True)
    write_version(Path(model.uri, "Format-Serving"), folder, card)


STEPS = ["POST /api/repos/create", "PUT /lfs/", "POST /api/models/acme/test/commit/", "POST /api/models/acme/test/tag/"]


def test_an_upload_killed_before_and_after_each_of_its_requests_ends_with_one_commit_and_one_tag(
    models: list[Artifact], hub: Hub, tmp_path: Path
) -> None:
    base = tmp_path / "hub"
    version(base / "1", models[0])
    where = HuggingFace(repo="acme/test", endpoint=hub.url, token_file=str(tmp_path / "token"))
    for number, (step, when) in enumerate(itertools.product(STEPS, ("before", "after"))):
        killed_at(hub, step, when, partial(upload, where, "taxi", [1], base, tmp_path / f"killed-{number}"))
    for name in ("next", "once-more"):
        assert upload(where, "taxi", [1], base, tmp_path / name) == ""
        assert titles(hub) == ["initial commit", "v1: model #1 of taxi"]
        assert tagged(hub) == {"v1": "v1: model #1 of taxi"}


def killed_at(hub: Hub, step: str, when: str, uploading: Callable[[], str]) -> None:
    """Kill an upload while the server holds a request, that it has not heard yet or has done without an answer."""
    reached, released = threading.Event(), threading.Event()

    def held(request: str) -> None:
        if request.startswith(step):
            reached.set()
            released.wait(100)
            raise Broken

    setattr(hub, when, held)
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(uploading)
        assert reached.wait(100), f"{when} {step}"
        (process,) = (p for p in psutil.Process().children() if "ctd.deploy.to_huggingface" in p.cmdline())
        process.kill()
        assert "was ended by SIGKILL" in ended.result(100)
    released.set()
    hub.before = hub.after = lambda request: None
