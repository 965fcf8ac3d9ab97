"""The rules by which a span is complete, and what they say of one that is not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctd.core.completeness import (
    CompleteRule,
    Manifest,
    Marker,
    Quiet,
    Renamed,
    Sighting,
    format_bytes,
    judge,
    shard_troubles,
)
from ctd.core.work import SourceFile

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


def files(*sizes: int, age: float = 12) -> tuple[SourceFile, ...]:
    mtime = int((NOW.timestamp() - age) * 1e9)
    return tuple(SourceFile(f"/d/1/{i}.csv", size, mtime) for i, size in enumerate(sizes))


def seen(*sizes: int, age: float = 12, unchanged: float = 0, scans: int = 1, markers: int = 0, of: int = 1) -> Sighting:
    return Sighting(files(*sizes, age=age), timedelta(seconds=unchanged), scans, markers, of)


@pytest.mark.parametrize(
    ("sighting", "complete", "because"),
    [
        pytest.param(seen(1, markers=1), True, "marker _SUCCESS; 1 file, 1 B", id="marked"),
        pytest.param(seen(markers=1), True, "marker _SUCCESS; no files", id="marked and empty"),
        pytest.param(
            seen(10**6, 2 * 10**5, 0),
            False,
            "no _SUCCESS yet; 3 files, 1.2 MB, last change 12s ago",
            id="still copying",
        ),
        pytest.param(seen(5, age=-60), False, "no _SUCCESS yet; 1 file, 5 B, changed just now", id="from the future"),
        pytest.param(seen(), False, "no _SUCCESS yet; no files", id="an empty folder"),
        pytest.param(
            seen(1, 1, 1, markers=2, of=3),
            False,
            "2 of 3 files have their _SUCCESS; 3 files, 3 B, last change 12s ago",
            id="two of three shards",
        ),
    ],
)
def test_a_marker_completes_a_span(sighting: Sighting, complete: bool, because: str) -> None:
    judged = judge(Marker("_SUCCESS"), sighting, NOW)
    assert (judged.complete, judged.because, judged.ready_at) == (complete, because, None)


@pytest.mark.parametrize(
    ("sighting", "complete", "because", "left"),
    [
        pytest.param(seen(), False, "no files yet", None, id="empty is never complete"),
        pytest.param(seen(1), False, "unchanged for 0s of 30s; 1 file, 1 B", 30, id="seen once"),
        pytest.param(seen(1, age=9e9), False, "unchanged for 0s of 30s; 1 file, 1 B", 30, id="old times prove nothing"),
        pytest.param(seen(1, unchanged=21, scans=3), False, "unchanged for 21s of 30s; 1 file, 1 B", 9, id="waiting"),
        pytest.param(seen(1, unchanged=40, scans=1), False, "unchanged for 40s of 30s; 1 file, 1 B", 0, id="one scan"),
        pytest.param(seen(1, unchanged=30, scans=2), True, "nothing changed for 30s; 1 file, 1 B", None, id="settled"),
    ],
)
def test_quiet_completes_a_span(sighting: Sighting, complete: bool, because: str, left: int | None) -> None:
    judged = judge(Quiet(timedelta(seconds=30)), sighting, NOW)
    ready = None if left is None else NOW + timedelta(seconds=left)
    assert (judged.complete, judged.because, judged.ready_at) == (complete, because, ready)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (3 * 10**15, "3.0 PB")],
)
def test_sizes_are_said_in_decimal_units(count: int, text: str) -> None:
    assert format_bytes(count) == text


def manifest(*sizes: int, **facts: object) -> Sighting:
    return replace(seen(*sizes, markers=1), **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sighting", "complete", "because"),
    [
        pytest.param(seen(5), False, "no M.json yet; 1 file, 5 B, last change 12s ago", id="before the manifest"),
        pytest.param(manifest(5), True, "manifest M.json; 1 file, 5 B", id="all there"),
        pytest.param(manifest(), True, "manifest M.json; no files", id="a manifest of nothing"),
        pytest.param(
            manifest(5, lacking=("b.csv is missing", "c.csv has 1 of 2 bytes")),
            False,
            "not as M.json says; b.csv is missing, c.csv has 1 of 2 bytes",
            id="before the files",
        ),
        pytest.param(
            manifest(lacking=tuple("abcde")), False, "not as M.json says; a, b, c and 2 more", id="many are missing"
        ),
        pytest.param(
            manifest(5, beside=("x.csv",)),
            True,
            "manifest M.json; 1 file, 5 B; ignored, as it is not listed: x.csv",
            id="a file that is not listed",
        ),
    ],
)
def test_a_manifest_completes_a_span(sighting: Sighting, complete: bool, because: str) -> None:
    judged = judge(Manifest("M.json"), sighting, NOW)
    assert (judged.complete, judged.because, judged.ready_at) == (complete, because, None)


@pytest.mark.parametrize(
    ("sighting", "complete", "because"),
    [
        pytest.param(seen(5), True, "has its name; 1 file, 5 B", id="renamed"),
        pytest.param(seen(), False, "no files yet", id="an empty folder was not renamed"),
        pytest.param(
            replace(seen(5), unfinished=("b.csv.tmp",)), False, "still being written; b.csv.tmp", id="a file on its way"
        ),
    ],
)
def test_a_name_completes_a_span(sighting: Sighting, complete: bool, because: str) -> None:
    judged = judge(Renamed(), sighting, NOW)
    assert (judged.complete, judged.because) == (complete, because)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        pytest.param(["a.csv", "b-of-c.csv", "x-1-of-2.csv"], [], id="no shards"),
        pytest.param(["a-00000-of-00002.csv", "a-00001-of-00002.csv"], [], id="all, from 0"),
        pytest.param(["a-00002-of-00002", "a-00001-of-00002"], [], id="all, from 1"),
        pytest.param(
            [f"a-0000{n}-of-00005" for n in (0, 2, 3)], ["3 of 5 shards; missing 00001, 00004"], id="two are missing"
        ),
        pytest.param(["a-00000-of-99999.gz"], ["1 of 99999 shards; missing 00001, 00002, 00003 and 99995 more"]),
        pytest.param(["a-00002-of-00002", "a-00000-of-00002"], ["shard 00002 cannot be of 2"], id="beyond the end"),
        pytest.param(["a-00000-of-00000"], ["shard 00000 cannot be of 0"], id="of none"),
        pytest.param(
            ["/d/a-00000-of-00001.gz", "/d/a-00000-of-00002.gz"],
            ["sets of 1 and of 2 shards lie side by side (a-*.gz): keep one"],
            id="two sets of the same",
        ),
        pytest.param(
            ["t/a-00000-of-00001", "e/a-00001-of-00002"], ["1 of 2 shards; missing 00000"], id="folders by themselves"
        ),
    ],
)
def test_all_shards_of_a_set_are_needed(names: list[str], said: list[str]) -> None:
    assert list(shard_troubles(names)) == said


@pytest.mark.parametrize(
    "rule",
    [Marker("_SUCCESS"), Manifest("M.json"), Renamed(), Quiet(timedelta(seconds=30))],
    ids=lambda r: type(r).__name__,
)
def test_shards_are_needed_whatever_the_rule(rule: CompleteRule) -> None:
    shard = SourceFile("/d/1/a-00000-of-00002.gz", 5, 0)
    there = Sighting((shard,), timedelta(seconds=40), scans=3, markers=1)
    judged = judge(rule, there, NOW)
    assert (judged.complete, judged.passing, judged.ready_at) == (False, True, None)
    assert judged.because.startswith("1 of 2 shards; missing 00001; ")
    both = replace(there, files=(shard, replace(shard, path="/d/1/a-00001-of-00002.gz")))
    assert judge(rule, both, NOW).complete


@given(st.integers(1, 40), st.integers(0, 1), st.data())
def test_a_set_is_whole_exactly_when_no_shard_is_taken_out(total: int, first: int, data: st.DataObject) -> None:
    names = [f"a-{n:05}-of-{total:05}" for n in range(first, first + total)]
    assert list(shard_troubles(names)) == []
    kept = data.draw(st.sets(st.sampled_from(names), max_size=total - 1))
    assert len(list(shard_troubles(kept))) == bool(kept)
