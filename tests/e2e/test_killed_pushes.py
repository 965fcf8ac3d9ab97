"""kill -9 at every step of a push, on each kind of target, by the real daemon with the real converters.

Each kind of target has a site and a daemon of its own, and they go side by side. At a step inside a worker the worker
is held there, and the daemon killed with it; at a step of the daemon's own the daemon is killed by itself. Then it is
started again with the next step armed, so that one push of one model is killed at all of them, one after the other:

- before anything is made, while the converter runs, while its result is asked in its own runtime; the hub's when made
- when the number is taken in the ledger, between two files of the copy, before and after the rename to the version
- before and after `current` is written, before and after the version before is deleted (`keep: 1`)
- before the outcome is written, after the note of the push was renamed, before and after the MLMD transaction

- with a server behind the folder: while it is waited for, while it is asked, and after it answered

Not covered here: power that fails, where files that were written may be gone. The uploads of a hub to Hugging Face have
tests of their own.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import tensorflow as tf

from ctd.core.executions import State
from ctd.deploy.folder import CURRENT, Folder
from ctd.deploy.target import Candidate
from ctd.deploy.tf_serving import TfServing
from tests.e2e.site import Site, eventually, serving

pytestmark = pytest.mark.e2e

PARITY = "parity: {examples: 4}\n"
KINDS = {"tf_serving": "", "tflite": PARITY, "tfjs": PARITY, "hub": ""}

MADE = {
    "tf_serving": {"saved_model.pb", "variables"},
    "tflite": {"model.tflite", "metadata.json"},
    "tfjs": {"model.json", "group1-shard1of1.bin"},
    "hub": {"saved_model.pb", "model.json", "model.tar.gz", "MODEL_CARD.md"},
}
CONVERTED, POINTED = {"tflite", "tfjs"}, {"tflite", "tfjs", "hub"}
EVERY = set(KINDS)
HELD: list[tuple[str, set[str]]] = [
    ("push.held:1", EVERY),
    ("push.program:1", CONVERTED),  # the converter
    ("push.program:2", CONVERTED),  # the runtime
    ("push.made:1", {"hub"}),  # of the converted ones nothing differs from when the runtime is asked
    ("push.alloc:1", EVERY),
    ("push.copy_mid:2", EVERY),
    ("push.before_rename:1", EVERY),
    ("push.after_rename:1", EVERY),
    ("push.before_current:1", POINTED),
    ("push.after_current:1", POINTED),
    ("push.before_delete:1", EVERY),
    ("worker.before_result:1", EVERY),
]
"""Steps of a worker: at which hit of the failpoint, and which kinds of target have it."""

KILLED = ["art.after_rename:1", "store.before_commit:1", "store.after_commit:1"]
"""Steps of the daemon's own, when the worker has ended well."""

OLD = 999_999  # a model from before


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one signature of numbers, which converts in no time."""
    folder = tmp_path_factory.mktemp("model")
    module = tf.Module()
    module.slope = tf.Variable([[2.0]])
    spec = tf.TensorSpec([None, 1], tf.float32, name="x")
    twice = tf.function(lambda x: {"y": x @ module.slope}, input_signature=[spec])
    tf.saved_model.save(module, str(folder), {"serving_default": twice})
    return folder


def site_of(root: Path, kind: str, model: Path) -> Site:
    """A pipeline that imports the model and pushes it to one target, where an older version is live."""
    site = Site(root, "light")
    for folder in ("specs", "deploy_targets", "data/1"):
        (root / folder).mkdir(parents=True)
    (root / "data/1/_SUCCESS").touch()
    (root / "data/1/x.csv").write_text("x\n" + "".join(f"{n}.5\n" for n in range(8)))
    nodes = f"  model: {{kind: importer, artifact: Model, path: {model}}}\n"
    if kind in CONVERTED:
        # What both are asked about. Beam is quick with so little.
        nodes += "  examples: {kind: example_gen, input: '../data/{SPAN}', format: csv, complete: {marker: _SUCCESS}}\n"
    site.spec.write_text(f"pipeline: light\nnodes:\n{nodes}")
    said = f"target: t\nkind: {kind}\npath: ../served\nkeep: 1\n{KINDS[kind]}"
    (root / "deploy_targets/t.yaml").write_text(said)
    (root / "old").mkdir()
    (root / "old/saved_model.pb").write_text("old")
    if kind in POINTED:
        Folder(base(site), keep=1).push(OLD, "old", lambda: root / "old")
    else:
        TfServing(base(site), keep=1).push(Candidate(OLD, root / "old"))
    with site.daemon("--no-warm", "--once") as daemon:
        assert daemon.process.wait(100) == 0, daemon.log.read_text()[-3000:]
    site.edit(site.spec, "nodes:\n", "nodes:\n  pusher: {kind: pusher, targets: [t], require: []}\n")
    return site


def base(site: Site) -> Path:
    return site.root / "served"


def versions(site: Site) -> list[int]:
    return sorted(int(p.name) for p in base(site).iterdir() if p.name.isdecimal())


def killed_at(site: Site, step: str, life: int) -> None:
    """A daemon's life until its push is at a step, where everything is killed.

    Work that was running when the daemon died three times waits before it runs again, unless someone asks for it: every
    third life does, or this would take minutes.
    """
    armed = {"CTD_TEST": "1", "CTD_FAILPOINTS": step.replace(":", "=kill:")} if step in KILLED else site.held(step)
    with site.daemon("--no-warm", **armed) as daemon:
        if life % 3 == 0 and life:
            daemon.wait_for("daemon started")
            eventually("it answers", site.status)
            site.ctd("retry", site.pipeline, "pusher", ok=(0, 1))  # 1: it had waited long enough, and runs
        if step in KILLED:
            assert daemon.process.wait(100) == -signal.SIGKILL, f"{step} was not reached"
            return
        held = site.until_held(daemon, ["pusher.t"])
        assert f"failpoint {step.partition(':')[0]}: held" in (site.state / f"logs/{held.execution}.log").read_text()
        daemon.kill()


def check_usable(site: Site, step: str) -> None:
    """Whatever happened: who looks now finds a whole version, and the file `current` names one."""
    there = versions(site)
    assert there, step
    for version in there:
        names = {p.name for p in (base(site) / str(version)).iterdir()}
        assert names & {"saved_model.pb", "model.tflite", "model.json"}, f"{step}: {version} has {names}"
    current = base(site) / CURRENT
    assert not current.exists() or int(current.read_text()) in there, step


def check_converged(site: Site, kind: str) -> None:
    """One version of the one model, nothing beside it, and MLMD that says the same."""
    (version,) = versions(site)
    pointer = {CURRENT: f"{version}\n"} if kind in POINTED else {}
    assert {p.name for p in base(site).iterdir()} == {str(version), ".ctd", *pointer}
    assert {name: (base(site) / name).read_text() for name in pointer} == pointer
    assert MADE[kind] <= {p.name for p in (base(site) / str(version)).iterdir()}
    executions = site.executions()
    pushes = [e for e in executions if e.node == "pusher"]
    (done,) = [e for e in pushes if e.state is State.SUCCEEDED]
    assert {e.state for e in pushes if e is not done} == {State.ABANDONED}
    (pushed,) = done.output("pushed_model")
    assert pushed.properties["pushed_destination"] == str(base(site) / str(version))
    entries = [json.loads(line) for line in (base(site) / ".ctd/pushes.jsonl").read_text().splitlines()]
    mine = [said for said in entries if said["model"] == pushed.properties["model_id"]]
    assert {said["version"] for said in mine if said["fate"] == "pushed"} == {version}
    recorded = {a.uri for e in executions for made in e.outputs.values() for a in made}
    assert {str(p) for p in (site.state / "artifacts").glob("*/*/*/*")} == recorded
    assert not any((site.state / "staging").iterdir())


def processes_of(site: Site) -> Iterator[str]:
    """What still runs of a site's daemons, workers and converters."""
    for process in psutil.process_iter(["cmdline"]):
        if process.pid != os.getpid() and any(str(site.root) in word for word in process.info["cmdline"] or ()):
            yield " ".join(process.info["cmdline"])


def test_a_push_killed_at_every_step_ends_with_one_version_of_the_model(tmp_path: Path, model: Path) -> None:
    def story(kind: str) -> Site:
        site = site_of(tmp_path / kind, kind, model)
        for life, step in enumerate([*(step for step, kinds in HELD if kind in kinds), *KILLED]):
            killed_at(site, step, life)
            check_usable(site, f"{kind} {step}")
        with site.daemon("--no-warm", "--once") as daemon:
            assert daemon.process.wait(100) == 0, daemon.log.read_text()[-3000:]
        return site

    with ThreadPoolExecutor(len(KINDS)) as threads:
        for kind, site in zip(KINDS, threads.map(story, KINDS), strict=True):
            check_converged(site, kind)
            assert site.node("pusher") == {}
            eventually(f"nothing runs any more: {[*processes_of(site)]}", lambda site=site: not [*processes_of(site)])


def test_a_push_killed_while_its_server_is_waited_for_or_asked_ends_verified_and_with_one_version(
    tmp_path: Path, model: Path
) -> None:
    site = site_of(tmp_path / "served", "tf_serving", model)
    with serving(base(site), "light", "--file_system_poll_wait_seconds=0.2", "--max_num_load_retries=0") as server:
        target = site.root / "deploy_targets/t.yaml"
        target.write_text(f"{target.read_text()}server: {{grpc: '{server.grpc}'}}\n")
        for life, step in enumerate(["push.waiting:1", "push.asking:1", "push.before_delete:1"]):
            killed_at(site, step, life)
            check_usable(site, step)
        with site.daemon("--no-warm", "--once") as daemon:
            assert daemon.process.wait(100) == 0, daemon.log.read_text()[-3000:]
        check_converged(site, "tf_serving")
        (push,) = (e for e in site.executions() if e.node == "pusher" and e.state is State.SUCCEEDED)
        assert push.output("pushed_model")[0].properties["verified"] == 1
