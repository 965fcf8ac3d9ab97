"""The pipeline of the README in its first days: blank cells that come and go, and a second evaluator."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import tensorflow_data_validation as tfdv

from ctd.metadata.mlmd import MlmdStore
from tests.e2e.site import Site

pytestmark = pytest.mark.e2e

README = Path(__file__).parents[2] / "README.md"
MODULE = '''
import tensorflow as tf
import tensorflow_transform as tft


def filled(column):
    """A column with 0 where it is blank; where no cell is, it is dense already."""
    if not isinstance(column, tf.SparseTensor):
        return column
    return tf.sparse.to_dense(tf.SparseTensor(column.indices, column.values, [column.dense_shape[0], 1]))


def preprocessing_fn(inputs):
    return {
        "price_xf": tft.scale_to_z_score(filled(inputs["price"])),
        "device_xf": tft.compute_and_apply_vocabulary(inputs["device"], num_oov_buckets=1),
        "bought": inputs["bought"],
    }


def run_fn(fn_args):
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    served = tf.Module()
    served.transform = tf.saved_model.load(transform.transform_savedmodel_dir)
    raw = {name: kind for name, kind in transform.raw_feature_spec().items() if name != "bought"}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def serving_default(examples):
        columns = tf.io.parse_example(examples, raw)
        columns["bought"] = tf.zeros([tf.size(examples), 1], tf.int64)
        return {"probability": tf.sigmoid(-served.transform.transform_fn(columns)["price_xf"])}

    tf.saved_model.save(served, fn_args.serving_model_dir, {"serving_default": serving_default})
'''
STRICT = """\
  strict:
    kind: evaluator
    label_key: bought
    metrics: {BinaryAccuracy: {at_least: 0.99}}
  infra:"""


def arrive(site: Site, span: int, *, blank: bool = False) -> None:
    """A day of clicks; cheap things are bought. With `blank`, one price in ten is not known."""
    rng = random.Random(span)
    lines = ["price,device,bought"]
    for row in range(600):
        price = rng.uniform(1, 100)
        cell = "" if blank and row % 10 == 0 else f"{price:.2f}"
        lines.append(f"{cell},{rng.choice(['phone', 'desktop'])},{int(rng.random() < 1 - price / 100)}")
    folder = site.root / "data" / str(span)
    folder.mkdir(parents=True)
    (folder / "clicks.csv").write_text("\n".join(lines) + "\n")
    (folder / "_SUCCESS").touch()


def spans_of_schemas(site: Site) -> list[list[int]]:
    store = MlmdStore.open_read_only(site.state / "metadata.sqlite")
    try:
        done = [e for e in store.executions() if e.node == "schema"]
        return [[span for span, _ in e.ingredients["inputs"]["statistics"]] for e in done]
    finally:
        store.close()


def required(site: Site) -> set[str]:
    """The features that every example has, by the newest schema."""
    newest = max(site.state.glob("artifacts/clicks/schema/schema/*/schema.pbtxt"), key=lambda p: int(p.parent.name))
    return {f.name for f in tfdv.load_schema_text(str(newest)).feature if f.presence.min_fraction == 1}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    root = tmp_path_factory.mktemp("clicks")
    blocks = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    (spec,) = (text for text in blocks if "pipeline: clicks" in text)
    (target,) = (text for text in blocks if "target: serving" in text)
    for name, text in {"specs/clicks.yaml": spec, "deploy_targets/serving.yaml": target, "clicks.py": MODULE}.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return Site(root, pipeline="clicks")


def test_a_clean_day_stops_no_pipeline_whose_window_has_blank_cells(site: Site) -> None:
    arrive(site, 1, blank=True)
    arrive(site, 2)
    site.ctd("run", "--once")
    assert (spans_of_schemas(site), site.versions()) == ([[1, 2]], [1])
    assert required(site) == {"bought", "device"}
    arrive(site, 3)
    arrive(site, 4)  # now no day of the window has a blank cell
    site.ctd("run", "--once")
    assert (spans_of_schemas(site), site.versions()) == ([[1, 2], [2, 3, 4]], [1, 2])
    assert required(site) == {"bought", "device", "price"}
    site.ctd("run", "--once")
    assert (len(spans_of_schemas(site)), site.versions()) == (2, [1, 2])


def test_every_evaluator_that_judges_a_model_has_to_bless_it(site: Site) -> None:
    site.edit(site.spec, "  infra:", STRICT)
    arrive(site, 5)
    site.ctd("run", "--once", ok=(3,))
    (pusher,) = (d for d in json.loads(site.ctd("plan", "--json", ok=(0, 1, 3)))["decisions"] if d["node"] == "pusher")
    assert pusher["action"] == "blocked"
    assert "strict: not blessed: overall: BinaryAccuracy" in pusher["because"]
    assert site.versions() == [1, 2]
    site.edit(site.spec, "at_least: 0.99", "at_least: 0.6")
    site.ctd("run", "--once")
    assert site.versions() == [1, 2, 3]
    lineage = site.ctd("lineage", "clicks")
    assert "strict" in lineage
    assert "evaluator" in lineage
