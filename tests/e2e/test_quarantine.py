"""A day that the real validator refuses: left out with its reason, until somebody lets it in or mends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from examples.taxi.generate import write_day
from tests.e2e.site import DAY, Daemon, Site, eventually

pytestmark = pytest.mark.e2e

BAD, WORSE = DAY + timedelta(days=1), DAY + timedelta(days=2)

SPEC = """\
pipeline: taxi
module: ../taxi.py
nodes:
  examples: {kind: example_gen, input: "../data/{YYYY}-{MM}-{DD}/v{VERSION}", format: csv}
  statistics: {kind: statistics_gen}
  schema: {kind: importer, artifact: Schema, path: ../schema.pbtxt}
  validator:
    kind: example_validator
    on_anomaly: quarantine
    validations:
      - {feature: fare, expression: feature.num_stats.mean < 100, description: rides are affordable}
      - {feature: trip_miles, expression: feature.num_stats.mean < 0.5, severity: WARNING}
  transform: {kind: transform, window: 3}
  trainer: {kind: trainer, window: 3, train_steps: 20}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = Site.of_taxi(tmp_path_factory.mktemp("taxi"))
    made.spec.write_text(SPEC)
    return made


@pytest.fixture(scope="module")
def daemon(site: Site) -> Iterator[Daemon]:
    with site.daemon() as running:
        yield running


def trained_on(daemon: Daemon) -> list[str]:
    ended = [e for e in daemon.events if e["event"] == "execution ended" and e["node"] == "trainer"]
    return [e["key"] for e in ended if e["state"] == "succeeded"]


def verdicts(daemon: Daemon) -> list[dict[str, Any]]:
    return [e for e in daemon.events if e["event"] == "execution ended" and e["node"] == "validator"]


def test_a_refused_day_is_left_out_with_its_reason_and_the_rest_goes_on(site: Site, daemon: Daemon) -> None:
    write_day(site.root / "data", DAY, trips=600)
    eventually("the first day is trained on", lambda: trained_on(daemon) == [f"span-{DAY}"])
    write_day(site.root / "data", BAD, trips=600, bad="outliers")
    write_day(site.root / "data", WORSE, trips=600, bad="outliers")
    eventually("all three were judged", lambda: len(verdicts(daemon)) == 3)
    good, *bad = verdicts(daemon)
    assert good["result"].startswith("no anomalies; warning: split train: trip_miles: `feature.num_stats.mean < 0.5`")
    assert all("rides are affordable" in e["result"] or "fare: Out-of-range" in e["result"] for e in bad)
    waits = site.until("transform", "up to date", because=f"quarantined span {BAD}: validator: split")
    assert f"quarantined span {WORSE}" in waits["because"]
    assert trained_on(daemon) == [f"span-{DAY}"]


def test_an_accepted_day_is_trained_on_and_who_said_so_is_shown(site: Site, daemon: Daemon) -> None:
    site.ctd("accept", "taxi", str(BAD), ok=(2,))  # a reason must be given
    said = site.ctd("accept", "taxi", str(BAD), "--reason", "a marathon, fares were real")
    assert f"span-{BAD}.v1 is accepted although taxi validator refused it" in said
    eventually("the accepted day is in", lambda: trained_on(daemon)[1:] == [f"spans {DAY}..{BAD} (2)"])
    because = site.until("transform", "up to date")["because"]
    assert f"quarantined span {BAD}" not in because
    assert f"quarantined span {WORSE}" in because, "the other one was not accepted"
    explained = site.ctd("explain", "taxi")
    assert "accept" in explained
    assert "a marathon, fares were real" in explained
    site.ctd("accept", "taxi", str(BAD), "--reason", "again", ok=(1,))  # it is in already
    lineage = json.loads(site.ctd("lineage", "taxi", "--span", str(BAD), "--json"))
    assert any("trainer" in json.dumps(step) for step in lineage.values())


def test_a_corrected_day_gets_in_by_itself(site: Site, daemon: Daemon) -> None:
    write_day(site.root / "data", WORSE, trips=600, version=2)
    eventually("all three days are in", lambda: trained_on(daemon)[2:] == [f"spans {DAY}..{WORSE} (3)"])
    assert "quarantined" not in site.until("transform", "up to date")["because"]
    assert verdicts(daemon)[-1]["key"] == f"span-{WORSE}.v2"


def test_the_acceptance_outlives_the_daemon_and_is_of_what_was_found_only(site: Site, daemon: Daemon) -> None:
    assert daemon.stop() == 0
    with site.daemon() as again:
        site.until("trainer", "up to date")
        assert not [e for e in again.events if e["event"] == "execution started"]
        write_day(site.root / "data", BAD, trips=600, version=2, bad="outliers", missing=0.3)
        waits = site.until("transform", "up to date", "waiting", because=f"quarantined span {BAD}: validator")
        assert "split" in waits["because"]
