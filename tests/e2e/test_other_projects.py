"""Projects that people bring with them, other than the example: their modules, data and readers work as they are."""

from __future__ import annotations

import csv
import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tensorflow_model_analysis as tfma
import tensorflow_transform as tft
from tensorflow_data_validation.utils.anomalies_util import load_anomalies_binary

from ctd.core.artifacts import Artifact
from ctd.metadata.mlmd import MlmdStore
from tests.e2e import other_projects
from tests.e2e.site import PATIENCE, Site, serving

pytestmark = pytest.mark.e2e


def site_of(root: Path, pipeline: str, files: Mapping[str, str]) -> Site:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Site(root, pipeline)


def artifacts(site: Site) -> dict[str, Artifact]:
    """The newest artifact of each node and output."""
    store = MlmdStore.open_read_only(site.state / "metadata.sqlite")
    try:
        done = sorted(store.executions(), key=lambda e: e.id)
    finally:
        store.close()
    return {f"{e.node}.{key}": made[-1] for e in done for key, made in e.outputs.items()}


def actions(site: Site) -> dict[str, str]:
    """What would be done, by node and key."""
    plan = json.loads(site.ctd("plan", "--json", ok=(0, 1, 3)))
    return {d["node"]: d["action"] for d in plan["decisions"]}


def flowers(folder: Path, rows: int, seed: int) -> None:
    """Three species of flowers, apart enough to be told by two numbers."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    with (folder / "flowers.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(["species", "length", "depth", "note"])
        for kind in random.integers(0, 3, rows):
            length, depth = random.normal([(2, 1), (5, 2), (8, 5)][kind], 0.4)
            writer.writerow([["rosé", "ivy, true", 'the "fern"'][kind], f"{length:.2f}", f"{depth:.2f}", "a\nnote"])
    (folder / "_SUCCESS").touch()


def houses(folder: Path, rows: int, seed: int) -> None:
    """Houses with their price, in two files, one of them compressed; some without a part of the city."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for part in range(2):
        compression = ("GZIP", "")[part]
        path = folder / f"part-{part:05}.tfrecord{'.gz' if compression else ''}"
        with tf.io.TFRecordWriter(str(path), compression) as writer:
            for _ in range(rows):
                example, area, rooms = tf.train.Example(), random.uniform(0.3, 2), int(random.integers(1, 6))
                feature = example.features.feature
                feature["area"].float_list.value.append(area)
                feature["rooms"].int64_list.value.append(rooms)
                feature["price in k€"].float_list.value.append(5 * area + 2 * rooms)
                if random.random() < 0.7:
                    feature["city/part"].bytes_list.value.append(str(random.choice(["öst", "vest"])).encode())
                feature["tags"].bytes_list.value.extend([b"new", b"\xff"][: int(random.integers(0, 3))])
                writer.write(example.SerializeToString())


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A project as TFX's templates lay it out, after its first span."""
    site = site_of(tmp_path_factory.mktemp("flowers"), "flowers", other_projects.TEMPLATE)
    flowers(site.root / "data/span-001", 300, seed=1)
    site.ctd("run", "--once")
    return site


def test_a_project_written_for_tfx_is_trained_and_pushed(template: Site) -> None:
    made = artifacts(template)
    assert template.versions() == [1]
    assert made["evaluator.blessing"].blessed
    assert made["infra_validator.blessing"].blessed
    assert list(Path(made["trainer.model_run"].uri).rglob("events.out.tfevents.*"))
    rows = json.loads(Path(made["evaluator.evaluation"].uri, "metrics.json").read_text())
    assert [r["slice"] for r in rows] == [[], *([["species", s]] for s in ("ivy, true", "rosé", 'the "fern"'))]


def test_what_it_makes_is_read_by_the_loaders_of_its_libraries(template: Site) -> None:
    made = artifacts(template)
    statistics = tfdv.load_stats_binary(f"{made['statistics_gen.statistics'].uri}/Split-train/FeatureStats.pb")
    anomalies = load_anomalies_binary(f"{made['example_validator.anomalies'].uri}/Split-eval/SchemaDiff.pb")
    schema = tfdv.load_schema_text(f"{made['schema_gen.schema'].uri}/schema.pbtxt")
    graph = tft.TFTransformOutput(made["transform.transform_graph"].uri)
    result = tfma.load_eval_result(made["evaluator.evaluation"].uri)
    assert [f.path.step[0] for f in statistics.datasets[0].features] == ["depth", "length", "note", "species"]
    assert not anomalies.anomaly_info
    assert {f.name for f in schema.feature} == {"depth", "length", "note", "species"}
    assert sorted(graph.vocabulary_by_name("species")) == sorted([b'the "fern"', b"ivy, true", "rosé".encode()])
    assert {key for key, _ in result.slicing_metrics} >= {(), (("species", "rosé"),)}


@pytest.mark.parametrize(
    ("file", "text", "runs"),
    [
        pytest.param("models/unrelated.py", "NOTHING = 2\n", False, id="not imported"),
        pytest.param("models/features.py", "", True, id="two packages up"),
        pytest.param("models/keras_model/layers.txt", "8 9\n", True, id="a file that the module reads"),
    ],
)
def test_only_an_edit_of_what_the_module_uses_counts(template: Site, file: str, text: str, runs: bool) -> None:
    path = template.root / file
    before = path.read_text()
    path.write_text(text)
    try:
        assert (actions(template)["transform"] == "run") is runs
    finally:
        path.write_text(before)


def test_keras_3_on_raw_tfrecords_with_two_sources_is_compared_and_served(tmp_path: Path) -> None:
    site = site_of(tmp_path, "houses", other_projects.REGRESSION)
    (tmp_path / "offers/07").mkdir(parents=True)
    (tmp_path / "offers/07/offers.csv").write_text("area,rooms\n" + "0.5,2\n1.5,3\n" * 20)
    (tmp_path / "offers/07/_SUCCESS").touch()
    for version, day in enumerate(("20240229", "20240301"), 1):
        houses(tmp_path / f"data/day={day}", 200, seed=version)
        site.ctd("run", "--once")
        assert site.versions() == list(range(1, version + 1))

    made = artifacts(site)
    examples, blessing = made["sold.examples"], made["evaluator.blessing"]
    assert (examples.span, examples.properties["split_names"]) == (19783, '["train", "eval", "test"]')
    assert "of the baseline, not_worse_than_baseline_by 1" in str(blessing.properties["reason"])
    assert "raw answered 5 requests" in str(made["infra.blessing"].properties["reason"])
    with serving(site.serving, "houses") as server:
        url = f"{server.rest}/v1/models/houses:predict"
        rows = asked(url, instances=[{"area": [0.5], "rooms": [2]}, {"area": [1.5], "rooms": [3]}])["predictions"]
        columns = asked(url, inputs={"area": [[0.5], [1.5]], "rooms": [[2], [3]]})["outputs"]
    assert np.shape(rows) == (2, 1)
    assert rows == columns


def asked(url: str, **said: Any) -> Any:
    body = json.dumps({"signature_name": "raw", **said}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=PATIENCE) as answer:  # noqa: S310  our own server
        return json.load(answer)
