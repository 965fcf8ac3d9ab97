"""`ctd request`: what it prints is answered, whatever a model takes, over REST and gRPC."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import tensorflow as tf
from first_request_models import MODELS, write_all
from google.protobuf import text_format
from serving_process import Running, running_server
from tensorflow_serving.apis import predict_pb2

from ctd.api.models import LiveView
from ctd.api.samples import RequestView
from ctd.cli.render_request import request_view
from ctd.cli.render_request import text as shown
from ctd.components.examples_io import write_split
from ctd.components.first_request import Question, answered
from ctd.core.errors import BadInput, NotFound

pytestmark = pytest.mark.tf

COLUMNS = {"price": [20.5], "count": [3], "device": ["phone"], "weight": [1.0], "tags": ["a", "b"], "bought": [1]}


def example(columns: Mapping[str, list[Any]]) -> bytes:
    made = tf.train.Example()
    for name, values in columns.items():
        feature = made.features.feature[name]
        if isinstance(values[0], str):
            feature.bytes_list.value.extend(value.encode() for value in values)
        else:
            (feature.int64_list if isinstance(values[0], int) else feature.float_list).value.extend(values)
    return bytes(made.SerializeToString())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_all(folder)
    return folder


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A span whose first example lacks a value that models need."""
    folder = tmp_path_factory.mktemp("examples")
    blank = {name: values for name, values in COLUMNS.items() if name != "device"}
    write_split(folder, "eval", [example(blank), example(COLUMNS)])
    return folder


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("server")
    configs = "".join(
        f'config {{ name: "{n}" base_path: "{models / n}" model_platform: "tensorflow" }}\n' for n in MODELS
    )
    (folder / "models.config").write_text(f"model_config_list {{\n{configs}}}\n")
    with running_server(folder, f"--model_config_file={folder / 'models.config'}") as running:
        for name in MODELS:
            running.until_states({1: "AVAILABLE"}, name)
        yield running


def made(models: Path, examples: Path | None, name: str, row: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return answered(Question([str(models / name / "1")], [str(examples)] if examples else [], row=row))


def view(server: Running, name: str, said: Mapping[str, Any]) -> RequestView:
    live = LiveView(target="serving", path="/nowhere", kind="tf_serving", version=1, model=1)
    return request_view(
        name, live, said, None, {"rest": str(server.rest.base_url).removeprefix("http://"), "grpc": server.grpc}
    )


def over_rest(printed: RequestView) -> Any:
    """What curl prints; where there is none, what a client gets that reads the command as the shell does."""
    if shutil.which("curl"):
        done = subprocess.run(["sh", "-c", printed.curl], capture_output=True, text=True, check=True)
        said = json.loads(done.stdout)
    else:
        _, _, body, url = shlex.split(printed.curl)
        said = httpx.post(url, content=body, trust_env=False).json()
    return said["predictions"][0] if "predictions" in said else said["outputs"]


def over_grpc(printed: RequestView) -> Any:
    """What the program prints, parsed as the message that it is."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(printed.python, "request.py", "exec"), {})  # noqa: S102 - our own text
    response = text_format.Parse(out.getvalue(), predict_pb2.PredictResponse())
    return tf.make_ndarray(response.outputs["y"]).ravel().tolist()


def number(value: Any) -> float:
    while isinstance(value, list | dict):
        (value,) = value.values() if isinstance(value, dict) else value
    return float(value)


@pytest.mark.parametrize(
    ("name", "row", "answer"),
    [
        pytest.param("parser", None, 20.5 + 10 + 300 + 5000 + 20000, id="a real example"),
        pytest.param("parser", {"price": 1}, 1 + 10 + 300 + 5000 + 20000, id="one value, the others are filled"),
        pytest.param("parser", {"weight": None, "tags": []}, 20.5 + 70 + 300 + 5000, id="what may lack lacks"),
        pytest.param("parser", {"device": "it's", "tags": "x"}, 20.5 + 10 + 300 + 4000 + 10000, id="quotes"),
        pytest.param("one_by_one", {"price": 2.5}, 2.5, id="a parser in a loop"),
        pytest.param("old_parser", {"price": 3}, 3.0, id="the parser of TensorFlow 1"),
        pytest.param("columns", None, 20.5 + 300 + 5000, id="a tensor for each column"),
        pytest.param("columns", {"device": "pc"}, 20.5 + 300 + 2000, id="one of several tensors"),
        pytest.param("vector", {"x": [1, 2, 3]}, 6.0, id="a vector"),
        pytest.param("vector", None, 0.0, id="a vector that nothing is known of"),
        pytest.param("scalar", {"price": 4}, 8.0, id="no batch"),
        pytest.param("texts", {"device": "tablet"}, 6.0, id="texts that are data"),
    ],
)  # fmt: skip
def test_what_is_printed_is_answered_over_rest_and_grpc(
    server: Running, models: Path, examples: Path, name: str, row: Mapping[str, Any] | None, answer: float
) -> None:
    printed = view(server, name, made(models, examples, name, row))
    assert number(over_rest(printed)) == pytest.approx(answer)
    assert number(over_grpc(printed)) == pytest.approx(answer)


def test_of_a_model_that_hides_what_it_reads_the_whole_example_is_sent(
    server: Running, models: Path, examples: Path
) -> None:
    said = made(models, examples, "opaque")
    assert number(over_rest(view(server, "opaque", said))) > len(example({"price": [20.5]}))
    assert said["row"].keys() == COLUMNS.keys() - {"device"}


def test_the_program_runs_by_itself(server: Running, models: Path, examples: Path, tmp_path: Path) -> None:
    printed = view(server, "vector", made(models, examples, "vector", {"x": [1, 2, 3]}))
    (tmp_path / "request.py").write_text(printed.python)
    done = subprocess.run([sys.executable, "request.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "float_val: 6" in done.stdout


def test_what_was_filled_or_left_out_is_told(models: Path, examples: Path) -> None:
    said = made(models, examples, "parser", {"price": 20, "bought": 1})
    assert said["row"] == {"price": 20.0, "count": 3, "device": "phone", "weight": 1.0, "tags": ["a", "b"]}
    assert sorted(said["filled"]) == ["count", "device", "tags", "weight"]
    assert said["notes"] == ["bought: the model does not read it, so it is left out"]
    assert made(models, examples, "parser")["filled"] == [], "without a row nothing was to be filled"


def test_without_any_example_what_must_be_there_is_made_up_and_told(server: Running, models: Path) -> None:
    said = made(models, None, "parser", {"price": 20})
    assert said["row"] == {"price": 20.0, "count": 0, "device": ""}
    assert any(note.startswith("device: no example has a value, and the model needs one") for note in said["notes"])
    assert number(over_rest(view(server, "parser", said))) == 20 + 70


def test_what_is_to_be_predicted_is_not_sent_unless_the_model_insists_or_somebody_says_it(
    models: Path, examples: Path
) -> None:
    def row(label: str, said: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        asked = Question([str(models / "parser/1")], [str(examples)], labels=[label], row=said)
        found: Mapping[str, Any] = answered(asked)["row"]
        return found

    assert "weight" not in row("weight")
    assert row("weight", {"weight": 2})["weight"] == 2.0
    assert row("price")["price"] == 20.5, "the model insists"


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("parser", {"prise": 20}, "there is no column 'prise'"),
        ("parser", {"price": "dear"}, 'price holds a number, not "dear"'),
        ("parser", {"count": 2.5}, "count holds a whole number, not 2.5"),
        ("parser", {"device": 7}, "device holds text, not 7"),
        ("parser", {"price": [1, 2]}, "price has 2 values, and the model needs exactly 1"),
        ("parser", {"device": None}, "device has 0 values, and the model needs exactly 1"),
        ("columns", {"prise": 20}, "the signature has no input 'prise'"),
        ("columns", {"price": "dear"}, "input 'price' takes numbers, not \"dear\""),
        ("vector", {"x": [1, 2]}, "input 'x' takes 3 values for an example, not 2"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(
    models: Path, examples: Path, name: str, row: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(BadInput) as refused:
        made(models, examples, name, row)
    assert message in refused.value.message
    assert refused.value.hint


def test_signatures_and_models_that_are_not_there_are_told_with_those_that_are(models: Path, tmp_path: Path) -> None:
    folder = str(models / "parser/1")
    with pytest.raises(NotFound, match="no signature 'servng_default'") as refused:
        answered(Question([folder], [], signature="servng_default"))
    assert "serving_default" in refused.value.hint
    with pytest.raises(NotFound, match="there is no SavedModel at"):
        answered(Question([str(tmp_path)], []))
    (tmp_path / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(BadInput, match="is no SavedModel"):
        answered(Question([str(tmp_path)], []))
    (tmp_path / "saved_model.pb").unlink()
    assert answered(Question([str(tmp_path), folder], [], row={"price": 1}))["saved_model"] == folder


def test_the_maker_of_requests_is_a_program_that_loads_no_tensorflow(models: Path, examples: Path) -> None:
    code = (
        "import sys, json, runpy\n"
        "runpy.run_module('ctd.components.first_request', run_name='__main__')\n"
        "sys.stderr.write(json.dumps(sorted(m for m in sys.modules if m.startswith('tensorflow.'))))\n"
    )
    question = json.dumps({"models": [str(models / "parser/1")], "examples": [str(examples)], "row": {"price": 1}})
    done = subprocess.run([sys.executable, "-c", code], input=question, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["row"]["price"] == 1.0
    assert {name.split(".")[1] for name in json.loads(done.stderr)} == {"core"}


def test_what_people_see_can_be_pasted(server: Running, models: Path, examples: Path) -> None:
    lines = shown(view(server, "parser", made(models, examples, "parser", {"price": 20}))).splitlines()
    assert lines[0] == "# parser, version 1 on serving, signature serving_default; the values sent:"
    assert json.loads(lines[1].removeprefix("#"))["price"] == 20.0
    filled = made(models, examples, "parser", {"price": 20})["filled"]
    assert lines[2] == f"# 4 columns not in --row, from a real example: {', '.join(filled)}"

    curl = next(line for line in lines if line.startswith("curl "))
    assert shlex.split(curl)[1] == "-d"
    compile("\n".join(lines[lines.index("import base64") :]), "request.py", "exec")
