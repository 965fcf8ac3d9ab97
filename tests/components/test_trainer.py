"""The Trainer gives run_fn what TFX gives it, and takes nothing but a SavedModel for a model."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from ctd.core.artifacts import Artifact, Artifacts, ArtifactType
from ctd.core.errors import BadInput, ComponentFailed
from ctd.core.work import Request
from tests.components import evaluation_models as small
from tests.components.conftest import Perform

pytestmark = pytest.mark.tf

SAVE = """
    module = tf.Module()
    module.y = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    tf.saved_model.save(module, fn_args.serving_model_dir, {"serving_default": module.y})
"""
Train = Callable[..., Artifacts]


@pytest.fixture
def examples(tmp_path: Path) -> list[Artifact]:
    """Two spans with the splits train and eval."""
    spans = []
    for span in (1, 2):
        folder = tmp_path / f"span-{span}"
        small.write_examples(folder, small.rides(64, seed=span))
        (folder / "Split-train").symlink_to(folder / "Split-eval", target_is_directory=True)
        spans.append(Artifact(ArtifactType.EXAMPLES, str(folder), "", span, 0, {"split_names": '["train", "eval"]'}))
    return spans


@pytest.fixture
def train(work: Perform, tmp_path: Path, examples: list[Artifact]) -> Train:
    """`train(body of run_fn)` gives the outputs."""

    def perform(body: str, spec: dict[str, Any] | None = None, **inputs: Any) -> Artifacts:
        module = tmp_path / "my_module.py"
        module.write_text(f"import json, os, sys\nimport tensorflow as tf\n\ndef run_fn(fn_args):\n{body}")
        return work("trainer", spec=spec, inputs={"examples": examples, **inputs}, module=str(module))

    return perform


def body(text: str) -> str:
    return textwrap.indent(textwrap.dedent(text), "    ")


def artifact(kind: ArtifactType, folder: Path, **files: str) -> Artifact:
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return Artifact(kind, str(folder), id=9)


def test_run_fn_is_given_the_fn_args_of_tfx(train: Train, examples: list[Artifact], tmp_path: Path) -> None:
    made = train(
        body("""
            said = {name: value for name, value in vars(fn_args).items() if name != "data_accessor"}
            json.dump(said, open(os.path.join(fn_args.model_run_dir, "said.json"), "w"))
        """)
        + SAVE,
        {"train_steps": 7, "eval_steps": 3, "custom_config": {"units": 8}},
        transform_graph=artifact(ArtifactType.TRANSFORM_GRAPH, tmp_path / "graph"),
        schema=artifact(ArtifactType.SCHEMA, tmp_path / "schema", schema__pbtxt=""),
        base_model=small.model_artifact(tmp_path / "old", 3),
        hyperparameters=artifact(ArtifactType.HYPERPARAMETERS, tmp_path / "hyper", best__txt='{"values": {"a": 1}}'),
    )
    (model,), (model_run,) = made["model"], made["model_run"]
    assert json.loads(Path(model_run.uri, "said.json").read_text()) == {
        "train_files": [f"{span.uri}/Split-train/*" for span in examples],
        "eval_files": [f"{span.uri}/Split-eval/*" for span in examples],
        "train_steps": 7,
        "eval_steps": 3,
        "schema_path": str(tmp_path / "schema" / "schema.pbtxt"),
        "schema_file": str(tmp_path / "schema" / "schema.pbtxt"),
        "transform_graph_path": str(tmp_path / "graph"),
        "transform_output": str(tmp_path / "graph"),
        "serving_model_dir": f"{model.uri}/Format-Serving",
        "eval_model_dir": f"{model.uri}/Format-TFMA",
        "model_run_dir": model_run.uri,
        "base_model": str(tmp_path / "old" / "Format-Serving"),
        "hyperparameters": {"values": {"a": 1}},
        "custom_config": {"units": 8},
        "working_dir": None,
    }
    assert Path(model.uri, "Format-Serving", "saved_model.pb").is_file()


def test_what_is_not_wired_is_none(train: Train) -> None:
    names = ("train_steps", "eval_steps", "schema_path", "transform_graph_path", "base_model", "hyperparameters")
    train(
        "".join(f"    assert fn_args.{name} is None\n" for name in names)
        + "    assert not fn_args.custom_config\n"
        + SAVE
    )


def test_the_data_accessor_reads_the_examples(train: Train) -> None:
    made = train(
        body("""
            from google.protobuf import text_format
            from tensorflow_metadata.proto.v0 import schema_pb2
            from tfx_bsl.public import tfxio

            schema = text_format.Parse(
                'feature { name: "x" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 1 } } }'
                'feature { name: "hour" type: INT presence { min_fraction: 1 } shape { dim { size: 1 } } }',
                schema_pb2.Schema(),
            )
            access = fn_args.data_accessor
            options = tfxio.TensorFlowDatasetOptions(batch_size=16, num_epochs=1, shuffle=False, label_key="hour")
            dataset = access.tf_dataset_factory(fn_args.train_files, options, schema)
            batches = access.record_batch_factory(
                fn_args.train_files, tfxio.RecordBatchesOptions(batch_size=16, num_epochs=1), schema
            )
            said = {
                "rows": sum(int(label.shape[0]) for _, label in dataset),
                "features": sorted(next(iter(dataset))[0]),
                "records": sum(batch.num_rows for batch in batches),
                "view": access.data_view_decode_fn,
            }
            json.dump(said, open(os.path.join(fn_args.model_run_dir, "said.json"), "w"))
        """)
        + SAVE
    )
    said = json.loads(Path(made["model_run"][0].uri, "said.json").read_text())
    assert said == {"rows": 128, "features": ["x"], "records": 128, "view": None}


def test_a_keras_3_model_trains_and_is_exported(train: Train) -> None:
    made = train(
        body("""
            import keras
            model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
            model.compile("sgd", "mse")
            spec = {"x": tf.io.FixedLenFeature([1], tf.float32), "tips": tf.io.FixedLenFeature([1], tf.float32)}
            files = tf.io.gfile.glob(fn_args.train_files)
            rows = tf.data.TFRecordDataset(files, "GZIP").batch(16).map(lambda r: tf.io.parse_example(r, spec))
            rows = rows.map(lambda f: (f["x"], f["tips"])).repeat()
            model.fit(rows, steps_per_epoch=fn_args.train_steps, shuffle=False, verbose=0)
            model.export(fn_args.serving_model_dir, verbose=False)
        """),
        {"train_steps": 10},
    )
    loaded = tf.saved_model.load(f"{made['model'][0].uri}/Format-Serving")
    assert "serving_default" in loaded.signatures


def test_keras_2_is_traced_as_it_is_and_what_users_write_in_it_is_converted(train: Train) -> None:
    made = train(
        body("""
            import tf_keras
            from tensorflow.python.autograph.impl import conversion

            class Halves(tf_keras.layers.Layer):
                def call(self, x):
                    if tf.reduce_any(x > 0.5):
                        x = x / 2.0
                    return x

            class Model(tf_keras.Model):
                def train_step(self, data):
                    found = super().train_step(data)
                    if found["loss"] >= 0.0:
                        self.steps.assign_add(1)
                    return found

            x = tf_keras.Input((1,))
            model = Model(x, tf_keras.layers.Dense(1)(Halves()(x)))
            model.steps = tf.Variable(0)
            model.compile("adam", "mse")
            data = tf.data.Dataset.from_tensor_slices(([[-0.25], [0.25]], [[1.0], [0.0]])).batch(1).repeat()
            model.fit(data, steps_per_epoch=3, verbose=0)
            said = {
                "steps": int(model.steps),
                "spared": conversion.is_allowlisted(model) or conversion.is_allowlisted(tf_keras.metrics.AUC.result),
            }
            json.dump(said, open(os.path.join(fn_args.model_run_dir, "said.json"), "w"))
        """)
        + SAVE
    )
    said = json.loads(Path(made["model_run"][0].uri, "said.json").read_text())
    assert said == {"steps": 3, "spared": True}


def test_schedules_constraints_and_activations_of_users_are_converted_in_keras_2(train: Train) -> None:
    made = train(
        body("""
            import tf_keras

            class Schedule(tf_keras.optimizers.schedules.LearningRateSchedule):
                def __call__(self, step):
                    if step > 1:
                        return tf.constant(0.1)
                    return tf.constant(0.0)

            class NotNegative(tf_keras.constraints.Constraint):
                def __call__(self, weights):
                    if tf.reduce_sum(weights) < 0.0:
                        weights = tf.zeros_like(weights)
                    return weights

            def positive(x):
                if tf.reduce_mean(x) > 0.0:
                    return x
                return -x

            class Model(tf_keras.Model):
                def __init__(self):
                    super().__init__()
                    self.dense = tf_keras.layers.Dense(1, positive, kernel_constraint=NotNegative())
                    self.last = tf_keras.layers.Lambda(positive)

                def call(self, x):
                    return self.last(self.dense(x))

            model = Model()
            model.compile(tf_keras.optimizers.SGD(Schedule()), "mse")
            data = tf.data.Dataset.from_tensor_slices(([[-3.0], [2.0]], [[-3.0], [-1000.0]])).batch(1).repeat()
            model.fit(data, steps_per_epoch=4, verbose=0)
            json.dump(model.dense.kernel.numpy().tolist(), open(os.path.join(fn_args.model_run_dir, "said.json"), "w"))
        """)
        + SAVE
    )
    assert json.loads(Path(made["model_run"][0].uri, "said.json").read_text()) == [[0.0]]


def test_a_fresh_process_has_the_keras_of_a_warm_one(tmp_path: Path, examples: list[Artifact]) -> None:
    (tmp_path / "my_module.py").write_text(
        "import keras, tensorflow as tf\n\n"
        "def run_fn(fn_args):\n"
        "    assert keras.__version__.startswith('3.'), keras.__version__\n"
        "    assert tf.keras.Model.__module__.startswith('tf_keras.'), tf.keras.Model.__module__\n" + SAVE
    )
    outputs = {"model": ArtifactType.MODEL, "model_run": ArtifactType.MODEL_RUN}
    request = Request(
        1, "p", "trainer", "trainer", "all", "ctd.components.trainer", str(tmp_path / "staging"), {"kind": "trainer"},
        outputs, inputs={"examples": tuple(examples)}, module=str(tmp_path / "my_module.py"),
    )  # fmt: skip
    code = (
        "import json, sys; from ctd.components import trainer; from ctd.components.api import Work; "
        "from ctd.core.work import Request; trainer.run(Work(Request.from_json(json.loads(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(request.to_json())], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_run_fn_that_saves_nothing_is_told_what_to_write_where(train: Train) -> None:
    with pytest.raises(ComponentFailed, match=r"no saved_model\.pb in fn_args\.serving_model_dir") as failed:
        train("    pass\n")
    assert "tf.saved_model.save(model, fn_args.serving_model_dir" in failed.value.hint


def test_a_model_in_another_format_is_named(train: Train) -> None:
    with pytest.raises(ComponentFailed, match=r"but model\.keras"):
        train(
            body("""
                os.makedirs(fn_args.serving_model_dir)
                open(fn_args.serving_model_dir + "/model.keras", "w").close()
            """)
        )


def test_an_error_in_run_fn_names_its_line(train: Train) -> None:
    with pytest.raises(ComponentFailed, match=r"run_fn raised ZeroDivisionError: .* at .*my_module\.py:5"):
        train("    1 / 0\n")


def test_a_run_fn_that_exits_fails(train: Train) -> None:
    with pytest.raises(ComponentFailed, match=r"run_fn called sys\.exit\(0\)"):
        train(SAVE + "    sys.exit(0)\n")


def test_a_module_without_run_fn_is_named(work: Perform, tmp_path: Path, examples: list[Artifact]) -> None:
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ComponentFailed, match=r"empty\.py has no function run_fn"):
        work("trainer", inputs={"examples": examples}, module=str(tmp_path / "empty.py"))


def test_a_split_that_is_not_there_is_named(train: Train) -> None:
    with pytest.raises(BadInput, match="no split 'validation', only train, eval"):
        train(SAVE, {"eval_splits": ["validation"]})


def test_hyperparameters_that_are_not_an_object_are_refused(train: Train, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a JSON object"):
        train(SAVE, hyperparameters=artifact(ArtifactType.HYPERPARAMETERS, tmp_path / "hyper", best__txt="[1, 2"))


def test_what_cannot_be_published_in_model_run_dir_is_skipped_with_a_note(
    train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    made = train(
        body("""
            import socket
            run = fn_args.model_run_dir
            os.makedirs(run + "/wandb/run-1")
            open(run + "/wandb/run-1/loss.txt", "w").write("0.5")
            os.symlink("run-1", run + "/wandb/latest-run")
            os.symlink("/no/such/file", run + "/broken")
            os.mkfifo(run + "/wandb/feed")
            here = os.getcwd()
            os.chdir(run)  # a socket's path may not be long
            socket.socket(socket.AF_UNIX).bind("debug")
            os.makedirs(b"caf\\xe9/plots")
            open(b"caf\\xe9/plots/1.txt", "w").close()
            open(b"n\\xff.txt", "w").close()
            os.chdir(here)
        """)
        + SAVE
    )
    (model_run,) = made["model_run"]
    there = sorted(str(path.relative_to(model_run.uri)) for path in Path(model_run.uri).rglob("*"))
    assert there == ["wandb", "wandb/run-1", "wandb/run-1/loss.txt"]
    assert model_run.properties["skipped"] == (
        "skipped in model_run_dir, which keeps files and folders only: broken (link), caf\\xe9 (a name that is not "
        "UTF-8), debug (socket), n\\xff.txt (a name that is not UTF-8), wandb/feed (FIFO) and 1 more"
    )
    assert model_run.properties["skipped"] in caplog.text


def test_a_model_run_without_such_has_no_note(train: Train) -> None:
    (model_run,) = train(SAVE)["model_run"]
    assert "skipped" not in model_run.properties
