"""Models with ops that TensorFlow does not have: the verdict on them is that of the server which will serve."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.work import Request
from ctd.specs.nodes import AnyNode
from tests.components import evaluation_models as small
from tests.components.conftest import Perform
from tests.components.serving_process import PATIENCE, Running, publish, running_server

pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to compile an op with"),
]

MICROFRONTEND = "tensorflow.lite.experimental.microfrontend"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`heard`, `forest` and `one_more` as model artifacts, and `one_more.so`."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, "-m", "tests.components.op_models", str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return small.write_examples(tmp_path_factory.mktemp("examples") / "examples", small.rides(5))


def model(models: Path, name: str) -> Artifact:
    return Artifact(ArtifactType.MODEL, str(models / name), name, id=7)


def validated(work: Perform, models: Path, name: str, examples: Artifact, *libraries: str) -> Artifact:
    spec = {"requests": 3, "op_libraries": list(libraries)}
    inputs = {"model": model(models, name), "examples": examples}
    (blessing,) = work("infra_validator", spec=spec, inputs=inputs)["blessing"]
    return blessing


def score(server: Running, model: str, *xs: float) -> Any:
    """What the server says to examples with these `x`, over gRPC."""
    client = importlib.import_module("ctd.serving.client").Client
    columns = {"x": np.array(xs, np.float32)}
    with client(server.grpc) as asked:
        feeds = {"examples": small.serialized(*small.records(columns))}
        return asked.ask(model, "", feeds, timeout=PATIENCE).outputs["y"]


# Runs in a process that has imported TensorFlow and a library besides, and used neither, as a worker has. It is a fork,
# as workers are: without the threads that an import starts.
FORKS = """
import os, sys
import tensorflow as tf
from pathlib import Path
from ctd.serving import sandbox_fork
from ctd.serving.errors import ModelRefused
from ctd.serving.sandbox import ModelServer
from ctd.serving.sandbox_process import embedded

models, folder, patience, libraries = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
tf.load_op_library(str(models / "one_more.so"))
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
assert sandbox_fork.possible()
for name in ("heard", "one_more"):
    with ModelServer.start(embedded(tuple(libraries)), models / name / "Format-Serving", "m", folder / "log") as server:
        try:
            server.wait_available(patience)
            print(f"{name} is loaded", flush=True)
        except ModelRefused as refused:
            print(refused.message, flush=True)
"""


@pytest.mark.parametrize("declared", [False, True])
def test_what_the_asking_process_has_loaded_helps_no_model(models: Path, tmp_path: Path, declared: bool) -> None:
    libraries = (MICROFRONTEND, str(models / "one_more.so")) if declared else ()
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(models), str(tmp_path), str(PATIENCE), *libraries],
        stdout=subprocess.PIPE,
        check=True,
    )
    heard, one_more = done.stdout.decode().splitlines()
    if declared:
        assert (heard, one_more) == ("heard is loaded", "one_more is loaded")
    else:
        assert "Op type not registered 'AudioMicrofrontend' in binary running on" in heard
        assert "Op type not registered 'OneMore'" in one_more
        assert "ctd serve --op_libraries=" in one_more


def test_the_verdict_names_the_op_and_what_brings_it(work: Perform, models: Path, examples: Artifact) -> None:
    refused = validated(work, models, "one_more", examples)
    assert (refused.blessed, "op_libraries" in refused.properties) == (False, False)
    assert "Op type not registered 'OneMore'" in str(refused.properties["reason"])
    assert "`op_libraries: [...]` of the infra_validator" in str(refused.properties["reason"])
    blessed = validated(work, models, "one_more", examples, str(models / "one_more.so"))
    assert (blessed.blessed, blessed.properties["runner"]) == (True, "embedded"), blessed.properties["reason"]
    assert blessed.properties["op_libraries"] == str(models / "one_more.so")


def test_a_decision_forest_is_blessed_and_served_as_tensorflow_model_server_serves_it(
    work: Perform, models: Path, examples: Artifact, tmp_path: Path
) -> None:
    blessed = validated(work, models, "forest", examples)
    assert blessed.blessed, blessed.properties["reason"]
    publish(models / "forest" / "Format-Serving", tmp_path / "m", 1)
    with running_server(tmp_path, "--model_name=m", f"--model_base_path={tmp_path / 'm'}") as server:
        assert score(server, "m", -0.5, 0.5) == pytest.approx(np.load(models / "forest.npy"), abs=1e-6)


def test_a_server_knows_the_libraries_that_its_flag_names(models: Path, tmp_path: Path) -> None:
    for name in ("heard", "one_more"):
        publish(models / name / "Format-Serving", tmp_path / name, 1)
    config = tmp_path / "models.config"
    entries = " ".join(f'config {{ name: "{name}" base_path: "{tmp_path / name}" }}' for name in ("heard", "one_more"))
    config.write_text(f"model_config_list {{ {entries} }}")
    (tmp_path / "my_ops.py").write_text(
        f"import tensorflow as tf\n\ntf.load_op_library({str(models / 'one_more.so')!r})\n"
    )
    with running_server(tmp_path / "without", f"--model_config_file={config}") as server:
        for name, op in (("heard", "AudioMicrofrontend"), ("one_more", "OneMore")):
            status, answer = server.ask(f"/v1/models/{name}")
            assert (status, server.states(name)) == (200, {1: "END"})
            said = answer["model_version_status"][0]["status"]["error_message"]
            assert said.startswith(f"Op type not registered {op!r} in binary running on")
    for library in (models / "one_more.so", "my_ops"):
        flags = (f"--model_config_file={config}", f"--op_libraries={MICROFRONTEND},{library}")
        with pytest.MonkeyPatch.context() as patched, running_server_in(tmp_path, patched, *flags) as server:
            assert score(server, "one_more", 1.5, -2.0)[:, 0].tolist() == [2.5, -1.0]
            assert server.states("heard") == {1: "AVAILABLE"}


def running_server_in(folder: Path, patched: pytest.MonkeyPatch, *flags: str) -> Any:
    """A server that finds the Python modules of a folder."""
    patched.setenv("PYTHONPATH", str(folder))
    return running_server(folder / "with", *flags)


@pytest.mark.parametrize(
    ("library", "words"),
    [
        ("no_such_package", "no Python package or module of this name is installed"),
        ("/does/not/exist.so", "there is no file /does/not/exist.so"),
        ("HERE/damaged.so", "damaged.so cannot be loaded: "),
        ("no-name", "neither a path of a shared object nor the name of a Python module"),
    ],
)
def test_a_library_that_is_not_there_ends_the_server_at_once(library: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "damaged.so").write_bytes(b"OpDefBuilder")
    library = library.replace("HERE", str(tmp_path))
    flags = (f"--model_base_path={tmp_path}", f"--op_libraries={library}")
    ended = subprocess.run(
        [sys.executable, "-m", "ctd.serving", *flags], stderr=subprocess.PIPE, text=True, check=False
    )
    assert (ended.returncode, words in ended.stderr) == (1, True), ended.stderr[-500:]


# A component in a process of its own: this one has loaded the library in the tests above.
RUNS = """
import importlib, json, sys
from ctd.components.api import Work
from ctd.core.errors import ComponentFailed
from ctd.core.work import Request

request = Request.from_json(json.load(sys.stdin))
try:
    ((_, (made,)),) = importlib.import_module(request.entrypoint).run(Work(request)).items()
    print(json.dumps(dict(made.properties)))
except ComponentFailed as failed:
    print(json.dumps(failed.message))
"""


def run(
    folder: Path,
    component: str,
    spec: dict[str, Any],
    inputs: dict[str, Artifact],
    target: dict[str, Any] | None = None,
) -> Any:
    """The properties of what the component made, or why it failed."""
    node = TypeAdapter(AnyNode).validate_python({"kind": component, **spec})
    piece = next(piece for piece in node.pieces() if piece.entrypoint == f"ctd.components.{component}")
    request = Request(
        execution_id=1,
        pipeline="test",
        node=component,
        kind=component,
        key="all",
        entrypoint=piece.entrypoint,
        staging=str(folder),
        spec=node.model_dump(mode="json"),
        outputs=piece.makes,
        piece=piece.name,
        inputs={key: (artifact,) for key, artifact in inputs.items()},
        target=target,
    )
    said = json.dumps(request.to_json())
    done = subprocess.run([sys.executable, "-c", RUNS], input=said, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_golden_requests_know_the_libraries_that_the_model_was_blessed_with(
    work: Perform, models: Path, examples: Artifact, tmp_path: Path
) -> None:
    library = str(models / "one_more.so")
    blessing = validated(work, models, "one_more", examples, library)
    base = tmp_path / "serving" / "test"
    base.mkdir(parents=True)
    flags = (f"--model_base_path={base}", "--model_name=test", f"--op_libraries={library}")
    with running_server(tmp_path / "server", *flags) as server:
        target = {"target": "serving", "kind": "tf_serving", "path": str(base), "server": {"grpc": server.grpc}}
        inputs = {"model": model(models, "one_more"), "infra_blessing": blessing, "examples": examples}
        spec = {"targets": ["serving"], "require": ["infra"]}
        pushed = run(tmp_path / "staging", "pusher", spec, inputs, target)
    assert pushed["verified"] == 1
    assert "5 golden requests, answers at most" in pushed["reason"]


def test_a_model_is_evaluated_with_the_libraries_that_the_evaluator_names(
    models: Path, examples: Artifact, tmp_path: Path
) -> None:
    inputs = {"model": model(models, "one_more"), "examples": examples}
    spec = {"label_key": "tips", "metrics": {"MeanSquaredError": {"at_most": 100.0}}}
    assert "'OneMore'" in run(tmp_path / "without", "evaluator", spec, inputs)
    named = {**spec, "op_libraries": [str(models / "one_more.so")]}
    assert run(tmp_path / "with", "evaluator", named, inputs)["current_model_id"] == 7
