"""The Chicago taxi data, cut into spans by quarter, goes through the pipeline with its curated schema."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ctd.core.executions import State
from examples.taxi.split_by_quarter import main as split_by_quarter
from tests.e2e.clients import answers_in_process, answers_over_grpc, answers_over_rest, records_of
from tests.e2e.site import Site, serving

pytestmark = [pytest.mark.e2e, pytest.mark.realdata]


@pytest.fixture(scope="module")
def taxi_data() -> Path:
    """The folder with data.csv and schema.pbtxt."""
    said = os.environ.get("CTD_REAL_DATA")
    if not said:
        pytest.skip("CTD_REAL_DATA is not set: the real taxi data was not run")
    return Path(said, "taxi")


@pytest.fixture(scope="module")
def site(taxi_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site.of_taxi(tmp_path_factory.mktemp("quarters"))
    shutil.rmtree(site.root / "specs")
    (site.root / "specs_realdata").rename(site.root / "specs")
    split_by_quarter([str(taxi_data / "data.csv"), str(site.root / "realdata")])
    return Site(site.root, pipeline="quarters")


def test_every_quarter_is_ingested_and_one_model_is_trained_blessed_and_pushed(site: Site) -> None:
    with site.daemon("--once") as daemon:
        assert daemon.process.wait(600) == 0, daemon.log.read_text()[-4000:]
    executions = site.executions()
    assert {e.state for e in executions} == {State.SUCCEEDED}
    quarters = sorted(int(p.name) for p in (site.root / "realdata/spans").iterdir())
    assert sorted(a.span or 0 for e in executions for a in e.output("examples") if e.node == "examples") == quarters
    assert len([e for e in executions if e.node == "trainer"]) == 1
    assert site.versions() == [1]


def test_predictions_over_rest_and_grpc_equal_the_saved_model(site: Site) -> None:
    records = records_of(site, "Split-eval", 200)
    with serving(site.serving, "quarters") as server:
        expected = answers_in_process(site, records)
        assert answers_over_rest(server, "quarters", records) == pytest.approx(expected, abs=1e-6)
        assert answers_over_grpc(server, "quarters", records) == pytest.approx(expected, abs=1e-6)
    assert len(set(expected)) > 50, "the model tells trips apart"


def test_a_second_run_finds_nothing_to_do(site: Site) -> None:
    before = len(site.executions())
    with site.daemon("--once") as daemon:
        assert daemon.process.wait(120) == 0
    assert len(site.executions()) == before
