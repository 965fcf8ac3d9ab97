"""Analyzers, and kinds of inputs and outputs, each beside what TFT makes of it when it is left to Beam alone."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0.schema_pb2 import Schema

from ctd.components.examples_io import canonical, write_split
from ctd.core.artifacts import Artifact, ArtifactType
from tests.components.conftest import Perform
from tests.components.transform_data import schema, with_beam, written

pytestmark = pytest.mark.tf

ONE = "presence { min_fraction: 1 } shape { dim { size: 1 } }"
DENSE = {"id": "INT", "label": "INT", "n": "INT", "fare": "FLOAT", "city": "BYTES"}
SCHEMA = (
    "".join(f'feature {{ name: "{name}" type: {kind} {ONE} }}' for name, kind in DENSE.items())
    + """
    feature { name: "vector" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 3 } } }
    feature { name: "words" type: BYTES }
    feature { name: "maybe" type: FLOAT value_count { min: 0 max: 1 } }
    feature { name: "ragged" type: FLOAT }
    feature { name: "place" type: INT }
    feature { name: "value" type: FLOAT }
    tensor_representation_group { key: "" value {
    """
    + "".join(
        f'tensor_representation {{ key: "{name}" value {{ dense_tensor {{ column_name: "{name}" '
        f"shape {{ dim {{ size: {3 if name == 'vector' else 1} }} }} }} }} }}"
        for name in (*DENSE, "vector")
    )
    + """
    tensor_representation { key: "words" value { varlen_sparse_tensor { column_name: "words" } } }
    tensor_representation { key: "maybe" value { varlen_sparse_tensor { column_name: "maybe" } } }
    tensor_representation { key: "ragged" value {
      ragged_tensor { feature_path { step: "ragged" } row_partition_dtype: INT64 } } }
    tensor_representation { key: "sparse" value { sparse_tensor {
      index_column_names: "place" value_column_name: "value" dense_shape { dim { size: 10 } } } } }
    } }
    """
)

VOCABULARIES = """
    "informative": tft.compute_and_apply_vocabulary(i["words"], labels=i["label"], top_k=3),
    "weighted": tft.compute_and_apply_vocabulary(i["city"], weights=i["fare"], frequency_threshold=2),
    "covering": tft.compute_and_apply_vocabulary(
        i["words"], key_fn=lambda word: word[:1], coverage_top_k=1, top_k=2, num_oov_buckets=2),
    "numbers": tft.compute_and_apply_vocabulary(i["n"], fingerprint_shuffle=True, file_format="tfrecord_gzip"),
"""
PER_KEY = """
    "z": tft.scale_to_z_score_per_key(flat["fare"], flat["city"]),
    "bucket": tft.bucketize_per_key(flat["fare"], flat["city"], 3),
    "whole": tft.scale_to_0_1_per_key(flat["n"], flat["city"]),
"""
NUMBERS = """
    "covariance": tf.matmul(i["vector"], tft.covariance(i["vector"], tf.float32)),
    "components": tf.abs(tf.matmul(i["vector"], tft.pca(i["vector"], 2, tf.float32))),
    "interpolated": tft.apply_buckets_with_interpolation(i["fare"], quantiles),
    "bucket": tft.apply_buckets(i["fare"], quantiles),
    "maybe": tft.bucketize(i["maybe"], 3),
    "variance": tft.var(i["vector"], reduce_instance_dims=False) + i["vector"],
    "twice": tft.scale_to_0_1(tft.scale_to_z_score(i["fare"]) ** 2),
    "python": tft.scale_to_z_score(doubled),
"""
TEXTS = """
    "tfidf_index": tfidf[0],
    "tfidf": tfidf[1],
    "count": tft.word_count(i["words"]),
    "ngrams": tft.ngrams(i["words"], (1, 2), " "),
    "bag": tft.bag_of_words(i["words"], (1, 1), " "),
    "hash": tft.hash_strings(i["city"], 11),
    "upper": tf.strings.upper(i["city"]),
    "split": tf.strings.split(flat["city"], " "),
    "split_index": tft.compute_and_apply_vocabulary(tf.strings.split(flat["city"], " ")),
    "ragged": i["ragged"],
    "ragged_z": tft.scale_to_z_score(i["ragged"]),
    "sparse": i["sparse"],
    "sparse_part": tft.scale_to_0_1(i["sparse"]),
    "matrix": tf.reshape(tf.tile(i["vector"], [1, 2]), [-1, 2, 3]),
"""
MODULE = """
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

def double(x):
    return np.asarray(x) * 2

def preprocessing_fn(i):
    flat = {name: tf.squeeze(i[name], 1) for name in ("fare", "city", "n")}
    BEFORE
    return {"id": i["id"], OUTPUTS}
"""
NUMBERS_BEFORE = """
    quantiles = tft.quantiles(i["fare"], 5, 0.01, weights=i["fare"])
    doubled = tft.apply_pyfunc(double, tf.float32, True, "double", i["fare"])
    doubled.set_shape([None, 1])
"""
TEXTS_BEFORE = """
    tfidf = tft.tfidf(tft.compute_and_apply_vocabulary(i["words"], default_value=7), 10)
"""


def rows(first: int, number: int) -> list[bytes]:
    chance = np.random.default_rng(first)
    made = []
    for n in range(first, first + number):
        places = np.sort(chance.choice(10, chance.integers(0, 4), replace=False))
        held: dict[str, Sequence[Any]] = {
            "id": [n],
            "label": [int(chance.integers(0, 2))],
            "n": [int(chance.integers(-5, 20))],
            "fare": [float(chance.gamma(2, 5))],
            "city": [str(chance.choice(["Rome", "Oslo", "São Paulo", "X y"])).encode()],
            "vector": chance.normal(size=3) @ np.array([[1, 0.5, 0], [0, 1, 0.3], [0, 0, 2]]),
            "words": [
                str(word).encode() for word in chance.choice(["a", "bb", "ccc", "bd", "e f"], chance.integers(4))
            ],
            "maybe": [float(chance.normal())] * int(chance.integers(0, 2)),
            "ragged": chance.normal(size=chance.integers(0, 4)),
            "place": places.tolist(),
            "value": chance.normal(size=len(places)),
        }
        example = tf.train.Example()
        for name, values in held.items():
            feature = example.features.feature[name]
            kind = {"words": "bytes", "city": "bytes"}.get(name, "int64" if name in {*DENSE, "place"} else "float")
            kind = "float" if name == "fare" else kind
            getattr(feature, f"{kind}_list").SetInParent()
            getattr(feature, f"{kind}_list").value.extend(values)
        made.append(canonical(example.SerializeToString()))
    return made


def by_id(records: Sequence[bytes]) -> dict[int, dict[str, list[Any]]]:
    found = {}
    for record in records:
        features = tf.train.Example.FromString(record).features.feature
        values = {
            name: list(getattr(feature, feature.WhichOneof("kind")).value) if feature.WhichOneof("kind") else []
            for name, feature in features.items()
        }
        found[values.pop("id")[0]] = values
    return found


@pytest.mark.parametrize(
    ("outputs", "before", "spans"),
    [
        pytest.param(VOCABULARIES, "", 1, id="vocabularies"),
        pytest.param(PER_KEY, "", 2, id="per key, over two spans"),
        pytest.param(NUMBERS, NUMBERS_BEFORE, 1, id="numbers"),
        pytest.param(TEXTS, TEXTS_BEFORE, 1, id="texts, ragged and sparse"),
    ],
)
def test_every_analyzer_gives_what_tft_through_beam_gives(
    work: Perform, tmp_path: Path, outputs: str, before: str, spans: int
) -> None:
    module = tmp_path / "my_module.py"
    module.write_text(
        textwrap.dedent(MODULE).replace("BEFORE", before.strip()).replace("OUTPUTS", textwrap.dedent(outputs))
    )
    given, trains, every = [], [], []
    for span in range(1, spans + 1):
        folder = tmp_path / f"span-{span}"
        folder.mkdir()
        train, evaluation = rows(1000 * span, 60), rows(1000 * span + 500, 20)
        write_split(folder, "train", train)
        write_split(folder, "eval", evaluation)
        said = {"split_names": '["train", "eval"]'}
        given.append(Artifact(ArtifactType.EXAMPLES, str(folder), f"d{span}", span, 1, said, id=span))
        trains.append(train)
        every += train + evaluation
    inputs = {"examples": given, "schema": schema(tmp_path / "schema", SCHEMA)}
    made = work("transform", spec={"window": spans}, inputs=inputs, module=str(module))["transformed_examples"]
    found = by_id([record for one in made for split in ("train", "eval") for record in written(one, split)])
    theirs = with_beam(tmp_path / "beam", module, text_format.Parse(SCHEMA, Schema()), trains, every)
    expected = by_id(theirs)
    assert found.keys() == expected.keys()
    assert len(found) == 80 * spans
    for number, values in expected.items():
        assert found[number].keys() == values.keys()
        for name, value in values.items():
            ours = found[number][name]
            if value and isinstance(value[0], float):
                np.testing.assert_allclose(ours, value, rtol=1e-3, atol=1e-5, err_msg=f"{name} of {number}")
            else:
                assert ours == value, f"{name} of {number}"
