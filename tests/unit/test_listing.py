"""What a scan finds in real folders."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ctd.core.completeness import CompleteRule, Manifest, Marker, Quiet, Renamed
from ctd.core.spans import ObservedSpan, Span, SpanPattern
from ctd.core.timing import ManualClock
from ctd.storage.listing import SpanLister

MARKER = Marker("_SUCCESS")
QUIET = Quiet(timedelta(seconds=30))


def lister(pattern: Path | str, rule: CompleteRule = MARKER, clock: ManualClock | None = None) -> SpanLister:
    return SpanLister(SpanPattern.parse(str(pattern)), rule, clock or ManualClock())


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def only(found: tuple[ObservedSpan, ...]) -> ObservedSpan:
    (span,) = found
    return span


def names(span: ObservedSpan) -> list[str]:
    return [Path(file.path).name for file in span.files]


def test_a_folder_is_complete_when_its_marker_arrives(tmp_path: Path) -> None:
    put(tmp_path / "7/a.csv")
    look = lister(tmp_path / "{SPAN}")
    waiting = only(look.scan().spans)
    assert (waiting.span, waiting.complete) == (Span(7), False)
    assert waiting.because.startswith("no _SUCCESS yet; 1 file, 1 B")
    put(tmp_path / "7/_SUCCESS", "")
    done = only(look.scan().spans)
    assert (done.complete, done.because, done.path) == (True, "marker _SUCCESS; 1 file, 1 B", str(tmp_path / "7"))
    assert names(done) == ["a.csv"]


def test_data_files_are_visible_regular_files_directly_inside_in_order(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", ".hidden", "_log", "c.csv.part", "d.csv~", "_SUCCESS", "inner/e.csv"):
        put(tmp_path / "1" / name, name)
    span = only(lister(tmp_path / "{SPAN}").scan().spans)
    assert names(span) == ["a.csv", "b.csv"]
    assert [f.size for f in span.files] == [5, 5]
    assert span.files[0].mtime_ns == (tmp_path / "1/a.csv").stat().st_mtime_ns


def test_folders_that_name_a_column_are_looked_into_and_others_are_not(tmp_path: Path) -> None:
    read = ("country=US/a", "country=US/day=3/b", "_rank=1/c", "d")
    for name in (*read, "inner/e", "country=US/inner/f", ".x=1/g", "day=3.tmp/h", "_temporary/x=1/i", "country=US/_j"):
        put(tmp_path / "1" / name)
    put(tmp_path / "1/_SUCCESS")
    span = only(lister(tmp_path / "{SPAN}").scan().spans)
    assert {file.path.removeprefix(f"{tmp_path}/1/"): file.partition for file in span.files} == {
        "country=US/a": ("country=US",),
        "country=US/day=3/b": ("country=US", "day=3"),
        "_rank=1/c": ("_rank=1",),
        "d": (),
    }


@pytest.mark.parametrize("pattern", ["{SPAN}", "{SPAN}/*"])
def test_what_comes_and_changes_in_a_partition_is_noticed(tmp_path: Path, pattern: str) -> None:
    put(tmp_path / "1/country=US/a")
    put(tmp_path / "1/_SUCCESS")
    look = lister(tmp_path / pattern)
    seen = [only(look.scan().spans)]
    put(tmp_path / "1/country=US/a", "changed")
    seen.append(only(look.scan().spans))
    put(tmp_path / "1/country=DE/b")
    seen.append(only(look.scan().spans))
    (tmp_path / "1/country=DE").rename(tmp_path / "1/country=FR")
    seen.append(only(look.scan().spans))
    assert only(look.scan().spans) is seen[-1]
    assert len({span.files for span in seen}) == 4
    assert [file.partition for file in seen[-1].files] == [("country=FR",), ("country=US",)]


@pytest.mark.parametrize("rule", [MARKER, QUIET, Renamed()])
def test_a_span_without_files_says_in_which_folders_it_was_not_looked_for_them(tmp_path: Path, rule) -> None:
    for country in ("US", "DE", "FR", "IT"):
        put(tmp_path / f"1/country={country}/a.csv")
    put(tmp_path / "1/_SUCCESS")
    said = only(lister(tmp_path / "{SPAN}/*.csv", rule).scan().spans).because
    assert said.endswith("; `input` chooses nothing in country=DE, country=FR, country=IT and 1 more")
    put(tmp_path / "1/a.csv")
    assert "country" not in only(lister(tmp_path / "{SPAN}/*.csv", rule).scan().spans).because


def test_a_partition_that_leads_back_to_its_span_is_a_reason(tmp_path: Path) -> None:
    put(tmp_path / "1/country=US/a")
    put(tmp_path / "1/_SUCCESS")
    (tmp_path / "1/country=DE").symlink_to(tmp_path / "1")
    span = only(lister(tmp_path / "{SPAN}").scan().spans)
    assert (span.complete, span.because) == (False, f"{tmp_path}/1/country=DE leads back to a folder above it")


def test_files_of_partitions_that_a_manifest_lists_have_their_columns(tmp_path: Path) -> None:
    put(tmp_path / "1/country=US/a.csv", "12")
    put(tmp_path / "1/country=DE/b.csv")
    manifest(tmp_path / "1", **{"country=US/a": 2})
    span = only(lister(tmp_path / "{SPAN}", Manifest("MANIFEST.json")).scan().spans)
    assert [file.partition for file in span.files] == [("country=US",)]
    assert span.because == "manifest MANIFEST.json; 1 file, 2 B; ignored, as it is not listed: b.csv"


def test_folders_of_bookkeeping_are_not_what_a_star_means(tmp_path: Path) -> None:
    for name in ("x/a", "_delta_log/b", ".git/c", "_temporary/d"):
        put(tmp_path / "1" / name)
    put(tmp_path / "1/_SUCCESS")
    assert names(only(lister(tmp_path / "{SPAN}/*/*").scan().spans)) == ["a"]
    put(tmp_path / "1/_x/a")
    assert names(only(lister(tmp_path / "{SPAN}/_x/*").scan().spans)) == ["a"]


def test_all_versions_are_given_in_order(tmp_path: Path) -> None:
    for path in ("2/v1", "2/v10", "2/v2", "10/v1"):
        put(tmp_path / path / "_SUCCESS")
    found = lister(tmp_path / "{SPAN}/v{VERSION}").scan().spans
    assert [s.span.label for s in found] == ["2.v1", "2.v2", "2.v10", "10.v1"]


def test_a_span_may_be_one_file_with_its_own_marker(tmp_path: Path) -> None:
    put(tmp_path / "trips-41.csv")
    put(tmp_path / "trips-42.csv")
    put(tmp_path / "trips-42.csv_SUCCESS")
    listing = lister(tmp_path / "trips-{SPAN}.csv").scan()
    assert [(s.span.number, s.complete, names(s)) for s in listing.spans] == [
        (41, False, ["trips-41.csv"]),
        (42, True, ["trips-42.csv"]),
    ]
    assert listing.spans[1].path == str(tmp_path / "trips-42.csv")
    assert listing.strays == ()


def test_a_marker_beside_files_without_an_ending_is_no_stray(tmp_path: Path) -> None:
    put(tmp_path / "trips-42")
    put(tmp_path / "trips-42_SUCCESS")
    listing = lister(tmp_path / "trips-{SPAN}").scan()
    assert (only(listing.spans).complete, listing.strays) == (True, ())


def test_files_of_one_name_pattern_are_one_span(tmp_path: Path) -> None:
    for shard in ("7-00000", "7-00001", "8-00000"):
        put(tmp_path / f"{shard}.csv")
    put(tmp_path / "7-00000.csv_SUCCESS")
    seven, eight = lister(tmp_path / "{SPAN}-*.csv").scan().spans
    assert names(seven) == ["7-00000.csv", "7-00001.csv"]
    assert seven.because.startswith("1 of 2 files have their _SUCCESS")
    assert seven.path == str(tmp_path / "7-*.csv")
    assert names(eight) == ["8-00000.csv"]


def test_the_rest_of_the_pattern_chooses_files_inside_the_span(tmp_path: Path) -> None:
    for name in ("train/a.csv", "train/b.txt", "eval/c.csv", "_SUCCESS"):
        put(tmp_path / "5" / name)
    assert names(only(lister(tmp_path / "{SPAN}/train/*.csv").scan().spans)) == ["a.csv"]
    assert names(only(lister(tmp_path / "{SPAN}/*/*.csv").scan().spans)) == ["c.csv", "a.csv"]
    assert names(only(lister(tmp_path / "{SPAN}/train").scan().spans)) == ["a.csv", "b.txt"]
    assert only(lister(tmp_path / "{SPAN}/train/*.csv").scan().spans).complete


def test_a_pattern_without_a_token_is_span_0(tmp_path: Path) -> None:
    put(tmp_path / "trips/a.csv")
    put(tmp_path / "trips/b.txt")
    put(tmp_path / "trips/_SUCCESS")
    folder = only(lister(tmp_path / "trips").scan().spans)
    assert (folder.span, folder.complete, names(folder)) == (Span(0), True, ["a.csv", "b.txt"])
    assert names(only(lister(tmp_path / "trips/*.csv").scan().spans)) == ["a.csv"]
    assert names(only(lister(tmp_path / "trips/b.txt").scan().spans)) == ["b.txt"]
    assert lister(tmp_path / "other").scan().spans == ()


def test_two_folders_that_claim_one_span_are_not_complete(tmp_path: Path) -> None:
    put(tmp_path / "2/_SUCCESS")
    put(tmp_path / "02/_SUCCESS")
    span = only(lister(tmp_path / "{SPAN}").scan().spans)
    assert (span.complete, span.files) == (False, ())
    assert span.because == f"{tmp_path}/02 and {tmp_path}/2 all claim to be span 2: keep one"


def test_a_file_and_a_folder_cannot_be_the_same_span(tmp_path: Path) -> None:
    put(tmp_path / "2/_SUCCESS")
    put(tmp_path / "002")
    assert not only(lister(tmp_path / "{SPAN}").scan().spans).complete


def test_strays_are_reported_with_a_reason(tmp_path: Path) -> None:
    for name in ("2024-01-05", "2024-02-30", "2024-1-5", "other", "2024-01-05.tmp", ".2024-01-06"):
        (tmp_path / name).mkdir()
    listing = lister(tmp_path / "{YYYY}-{MM}-{DD}").scan()
    assert [s.span.number for s in listing.spans] == [19727]
    assert sorted(listing.strays) == [
        f"{tmp_path}/2024-02-30: there is no day 2024-02-30",
        f"{tmp_path}/2024-1-5 does not fit {{YYYY}}-{{MM}}-{{DD}}",
    ]


def test_a_thousand_strays_are_summed_up(tmp_path: Path) -> None:
    for i in range(200):
        (tmp_path / f"x{i}").touch()
    strays = lister(tmp_path / "{SPAN}").scan().strays
    assert len(strays) == 51
    assert strays[-1] == "and 150 more"


def test_a_file_where_a_folder_belongs_is_a_stray(tmp_path: Path) -> None:
    put(tmp_path / "1")
    put(tmp_path / "2/v1/_SUCCESS")
    listing = lister(tmp_path / "{SPAN}/v{VERSION}").scan()
    assert [s.span for s in listing.spans] == [Span(2, 1)]
    assert listing.strays == (f"{tmp_path}/1 is a file, not a folder",)


def test_a_base_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    listing = lister(tmp_path / "gone/{SPAN}").scan()
    assert (listing.spans, listing.problem) == ((), f"{tmp_path}/gone does not exist")
    put(tmp_path / "file")
    assert lister(tmp_path / "file/{SPAN}").scan().problem == f"{tmp_path}/file is not a folder"


def test_odd_names_of_a_base_are_a_problem_and_nothing_worse(tmp_path: Path) -> None:
    assert "null" in lister(f"{tmp_path}/a\0b/{{SPAN}}").scan().problem
    assert lister(tmp_path / ("x" * 300) / "{SPAN}").scan().problem


def test_spans_may_be_links_to_folders_and_files_links_to_files(tmp_path: Path) -> None:
    put(tmp_path / "real/_SUCCESS")
    put(tmp_path / "real/a.csv", "abc")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/4").symlink_to(tmp_path / "real")
    (tmp_path / "in/5").mkdir()
    (tmp_path / "in/5/b.csv").symlink_to(tmp_path / "real/a.csv")
    four, five = lister(tmp_path / "in/{SPAN}").scan().spans
    assert (four.complete, four.files[0].path, four.files[0].size) == (True, f"{tmp_path}/in/4/a.csv", 3)
    assert (names(five), five.files[0].size) == (["b.csv"], 3)


def test_links_to_nothing_and_circles_become_reasons(tmp_path: Path) -> None:
    (tmp_path / "1").symlink_to(tmp_path / "nowhere")
    (tmp_path / "2").symlink_to(tmp_path / "2")
    put(tmp_path / "3/_SUCCESS")
    (tmp_path / "3/a.csv").symlink_to(tmp_path / "nowhere")
    listing = lister(tmp_path / "{SPAN}").scan()
    two, three = listing.spans
    assert two.passing
    assert (three.complete, three.because) == (False, f"{tmp_path}/3/a.csv is a link to nothing")
    assert f"{tmp_path}/1 is a link to nothing" in listing.strays
    assert any(s.startswith(f"{tmp_path}/2: ") for s in listing.strays)


def test_fifos_and_sockets_are_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1")
    put(tmp_path / "2/_SUCCESS")
    os.mkfifo(tmp_path / "2/a.csv")
    put(tmp_path / "3/_SUCCESS")
    here = Path.cwd()
    os.chdir(tmp_path / "3")  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("s.csv")
            listing = lister(tmp_path / "{SPAN}").scan()
    finally:
        os.chdir(here)
    assert listing.strays == (f"{tmp_path}/1 is a FIFO, neither a file nor a folder",)
    assert [(s.complete, s.because) for s in listing.spans] == [
        (False, f"{tmp_path}/2/a.csv is a FIFO, not a file"),
        (False, f"{tmp_path}/3/s.csv is a socket, not a file"),
    ]


def test_an_unreadable_span_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "1/_SUCCESS")
    scandir = os.scandir

    def denied(path: str) -> Any:
        # Root may read everything, so rights alone cannot show this in every environment.
        if path == str(tmp_path / "1"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    span = only(lister(tmp_path / "{SPAN}").scan().spans)
    assert (span.complete, span.because) == (False, f"{tmp_path}/1: Permission denied")


def test_a_marker_must_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "1/_SUCCESS").mkdir(parents=True)
    assert not only(lister(tmp_path / "{SPAN}").scan().spans).complete


def test_quiet_counts_from_the_first_look_and_needs_two(tmp_path: Path) -> None:
    clock = ManualClock()
    data = put(tmp_path / "1/a.csv")
    os.utime(data, (0, 0))  # an old file proves nothing
    look = lister(tmp_path / "{SPAN}", QUIET, clock)
    first = only(look.scan().spans)
    assert (first.complete, first.ready_at) == (False, clock.now() + timedelta(seconds=30))
    clock.forward(seconds=29)
    assert only(look.scan().spans).because == "unchanged for 29s of 30s; 1 file, 1 B"
    clock.forward(seconds=1)
    done = only(look.scan().spans)
    assert (done.complete, done.ready_at) == (True, None)


@pytest.mark.parametrize("change", ["rewrite", "grow", "add", "remove", "temporary", "replace"])
def test_any_change_starts_the_quiet_period_again(tmp_path: Path, change: str) -> None:
    clock = ManualClock()
    data, other = put(tmp_path / "1/a.csv"), put(tmp_path / "1/b.csv")
    look = lister(tmp_path / "{SPAN}", QUIET, clock)
    look.scan()
    clock.forward(seconds=31)
    assert only(look.scan().spans).complete
    facts = data.stat()
    match change:
        case "rewrite":
            os.utime(data, ns=(0, facts.st_mtime_ns + 1))
        case "grow":
            put(data, "xy")
        case "add":
            put(tmp_path / "1/c.csv")
        case "remove":
            other.unlink()
        case "temporary":
            put(tmp_path / "1/.c.csv.part")
        case "replace":  # same name, size and time: another file
            os.utime(put(tmp_path / "new"), ns=(facts.st_atime_ns, facts.st_mtime_ns))
            (tmp_path / "new").rename(data)
    assert not only(look.scan().spans).complete
    clock.forward(seconds=31)
    assert only(look.scan().spans).complete


def test_a_span_that_goes_and_comes_back_starts_anew(tmp_path: Path) -> None:
    clock = ManualClock()
    put(tmp_path / "1/a.csv")
    look = lister(tmp_path / "{SPAN}", QUIET, clock)
    look.scan()
    (tmp_path / "1").rename(tmp_path / "away")
    assert look.scan().spans == ()
    clock.forward(seconds=31)
    (tmp_path / "away").rename(tmp_path / "1")
    assert not only(look.scan().spans).complete


def test_changes_inside_a_complete_span_are_seen_though_its_folder_looks_the_same(tmp_path: Path) -> None:
    clock = ManualClock()
    data = put(tmp_path / "1/a.csv")
    put(tmp_path / "1/_SUCCESS")
    look = lister(tmp_path / "{SPAN}", clock=clock)
    for _ in range(3):
        look.scan()
        clock.forward(seconds=3)
    put(data, "longer")  # the folder's own time stays
    assert only(look.scan().spans).files[0].size == 6
    put(tmp_path / "1/b.csv")
    assert names(only(look.scan().spans)) == ["a.csv", "b.csv"]
    look.scan()
    (tmp_path / "1/_SUCCESS").unlink()
    assert not only(look.scan().spans).complete


MANIFEST = Manifest("MANIFEST.json")
SUMS = Manifest("MANIFEST.sha256")


def manifest(folder: Path, **sizes: int) -> Path:
    """A manifest of files `name.csv`, with the sizes given."""
    files = [{"name": f"{name}.csv", "size": size} for name, size in sizes.items()]
    return put(folder / "MANIFEST.json", json.dumps({"files": files}))


def test_a_manifest_may_come_before_or_after_its_files(tmp_path: Path) -> None:
    look = lister(tmp_path / "{SPAN}", MANIFEST)
    put(tmp_path / "1/a.csv", "abc")
    before = only(look.scan().spans)
    assert (before.complete, before.passing) == (False, False)
    assert before.because.startswith("no MANIFEST.json yet; 1 file, 3 B")
    manifest(tmp_path / "1", a=3, b=5)
    for so_far, said in (("", "b.csv is missing"), ("12", "b.csv has 2 of 5 bytes")):
        if so_far:
            put(tmp_path / "1/b.csv", so_far)
        waiting = only(look.scan().spans)
        assert (waiting.complete, waiting.passing) == (False, True)
        assert waiting.because == f"not as MANIFEST.json says; {said}"
        assert waiting.ready_at is None, "only another file can change this"
    put(tmp_path / "1/b.csv", "12345")
    done = only(look.scan().spans)
    assert (done.complete, done.because) == (True, "manifest MANIFEST.json; 2 files, 8 B")
    assert names(done) == ["a.csv", "b.csv"]


def test_files_that_a_manifest_does_not_list_are_ignored_and_named(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "_SUCCESS"):
        put(tmp_path / "1" / name)
    manifest(tmp_path / "1", a=1)
    span = only(lister(tmp_path / "{SPAN}", MANIFEST).scan().spans)
    assert names(span) == ["a.csv"]
    assert span.because == "manifest MANIFEST.json; 1 file, 1 B; ignored, as it is not listed: b.csv"


def test_all_that_a_manifest_lists_is_read_where_input_is_the_folder(tmp_path: Path) -> None:
    for name in ("a.csv", "sub/b.csv", "_c.csv", ".d.csv", "sub/e.csv", "_f.csv", "sub/_SUCCESS"):
        put(tmp_path / "1" / name, "" if name.endswith("_SUCCESS") else "x")
    listed = ["a.csv", "sub/b.csv", "_c.csv", ".d.csv", "sub/_SUCCESS"]
    sums = [f"{hashlib.sha256((tmp_path / '1' / name).read_bytes()).hexdigest()}  {name}\n" for name in listed]
    put(tmp_path / "1/MANIFEST.sha256", "".join(sums))
    look = lister(tmp_path / "{SPAN}", SUMS)
    span = only(look.scan().spans)
    assert [str(Path(file.path).relative_to(tmp_path / "1")) for file in span.files] == [
        ".d.csv", "_c.csv", "a.csv", "sub/b.csv",
    ]  # fmt: skip
    assert all(file.sha256 == sums[0][:64] for file in span.files)
    assert span.because == "manifest MANIFEST.sha256; 4 files, 4 B"
    assert only(look.scan().spans) is span
    for name in ("sub/b.csv", "_c.csv"):
        put(tmp_path / "1" / name, "changed")
        before, span = span, only(look.scan().spans)
        assert span.files != before.files, name


@pytest.mark.parametrize(
    ("pattern", "chosen", "said"),
    [
        ("{SPAN}/*.csv", ["_c.csv", "a.csv"], "; listed, but not chosen by `input`: notes.txt, sub/b.csv"),
        ("{SPAN}/sub/*", ["b.csv"], "; listed, but not chosen by `input`: _c.csv, a.csv, notes.txt"),
    ],
)
def test_what_a_manifest_lists_and_a_pattern_does_not_choose_is_named(
    tmp_path: Path, pattern: str, chosen: list[str], said: str
) -> None:
    listed = ["a.csv", "sub/b.csv", "_c.csv", "notes.txt"]
    for name in listed:
        put(tmp_path / "1" / name)
    put(tmp_path / "1/MANIFEST.json", json.dumps([{"name": name, "size": 1} for name in listed]))
    span = only(lister(tmp_path / pattern, MANIFEST).scan().spans)
    assert names(span) == chosen
    assert span.because.endswith(said)


def test_files_carry_the_checksums_of_their_manifest(tmp_path: Path) -> None:
    put(tmp_path / "1/train/a.csv", "abc")
    put(tmp_path / "1/eval/b.csv", "de")
    sums = {
        name: hashlib.sha256((tmp_path / "1" / name).read_bytes()).hexdigest() for name in ("train/a.csv", "eval/b.csv")
    }
    put(tmp_path / "1/MANIFEST.sha256", "".join(f"{sha}  {name}\n" for name, sha in sums.items()))
    span = only(lister(tmp_path / "{SPAN}/train/*.csv", SUMS).scan().spans)
    assert span.complete
    assert [(Path(file.path).name, file.sha256) for file in span.files] == [("a.csv", sums["train/a.csv"])]
    (tmp_path / "1/eval/b.csv").unlink()
    span = only(lister(tmp_path / "{SPAN}/train/*.csv", SUMS).scan().spans)
    assert span.because == "not as MANIFEST.sha256 says; eval/b.csv is missing"


def test_a_span_of_files_has_a_manifest_beside_each(tmp_path: Path) -> None:
    sha = hashlib.sha256(b"x").hexdigest()
    for shard in ("7-a", "7-b"):
        put(tmp_path / shard)
    put(tmp_path / "7-a.sha256", f"{sha}  7-a\n")
    look = lister(tmp_path / "{SPAN}-*", Manifest(".sha256"))
    half = look.scan()
    assert only(half.spans).because.startswith("1 of 2 files have their .sha256; 1 file")
    put(tmp_path / "7-b.sha256", f"{sha}  7-b\n")
    done = look.scan()
    assert (only(done.spans).complete, names(only(done.spans)), done.strays) == (True, ["7-a", "7-b"], ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is not JSON"),
        ('{"files": [{"name": "../2/a.csv", "size": 1}]}', "it lists ../2/a.csv, which is outside of the span"),
        ('[{"name": "a.csv", "size": 1}, {"name": "a.csv", "size": 1}]', "it lists a.csv twice"),
        ('[{"name": "inner", "size": 1}]', "/1/inner is a folder, not a file"),
        ('[{"name": "a.csv/b", "size": 1}]', "a.csv/b is missing"),
    ],
)
def test_a_bad_manifest_is_a_reason_until_it_is_mended(tmp_path: Path, text: str, said: str) -> None:
    put(tmp_path / "1/a.csv")
    (tmp_path / "1/inner").mkdir()
    put(tmp_path / "1/MANIFEST.json", text)
    look = lister(tmp_path / "{SPAN}", MANIFEST)
    for _ in range(3):
        span = only(look.scan().spans)
        assert (span.complete, span.ready_at) == (False, None)
        assert said in span.because
    manifest(tmp_path / "1", a=1)
    assert only(look.scan().spans).complete


def test_a_manifest_that_is_no_file_or_leads_nowhere_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "1/MANIFEST.json").mkdir(parents=True)
    put(tmp_path / "2/a.csv")
    os.mkfifo(tmp_path / "2/MANIFEST.json")
    (tmp_path / "3").mkdir()
    (tmp_path / "3/MANIFEST.json").symlink_to(tmp_path / "nowhere")
    one, two, three = lister(tmp_path / "{SPAN}", MANIFEST).scan().spans
    assert one.because == "not as MANIFEST.json says; it is a folder, not a file"
    assert two.because == "not as MANIFEST.json says; it is a FIFO, not a file"
    assert three.because.startswith("no MANIFEST.json yet")


def test_an_empty_span_with_a_manifest_of_nothing_is_complete(tmp_path: Path) -> None:
    manifest(tmp_path / "1")
    span = only(lister(tmp_path / "{SPAN}", MANIFEST).scan().spans)
    assert (span.complete, span.because) == (True, "manifest MANIFEST.json; no files")


def test_what_changes_in_a_complete_span_with_a_manifest_is_noticed(tmp_path: Path) -> None:
    clock = ManualClock()
    put(tmp_path / "1/a.csv")
    put(tmp_path / "1/more/b.csv")
    put(tmp_path / "1/MANIFEST.json", '[{"name": "a.csv", "size": 1}, {"name": "more/b.csv", "size": 1}]')
    look = lister(tmp_path / "{SPAN}", MANIFEST, clock)
    for _ in range(3):
        assert only(look.scan().spans).complete
        clock.forward(seconds=3)
    put(tmp_path / "1/more/b.csv", "longer")  # which the folder's own time does not tell
    assert only(look.scan().spans).because == "not as MANIFEST.json says; more/b.csv has 6 of 1 bytes"
    put(tmp_path / "1/MANIFEST.json", '[{"name": "a.csv", "size": 1}]')
    for _ in range(3):
        assert only(look.scan().spans).complete
        clock.forward(seconds=3)
    put(tmp_path / "1/MANIFEST.json", '[{"name": "a.csv", "size": 2}]')
    assert only(look.scan().spans).because == "not as MANIFEST.json says; a.csv has 1 of 2 bytes"


def test_a_name_is_enough_where_spans_are_renamed_into_place(tmp_path: Path) -> None:
    for name in (".3", "_tmp4", ".tmp-5", "6.tmp"):
        put(tmp_path / name / "a.csv")
    look = lister(tmp_path / "{SPAN}", Renamed())
    assert (look.scan().spans, look.scan().strays) == ((), ())
    (tmp_path / ".3").rename(tmp_path / "3")
    (tmp_path / "6.tmp").rename(tmp_path / "6")
    assert [(s.span.number, s.complete) for s in look.scan().spans] == [(3, True), (6, True)]
    assert look.scan().spans[0].because == "has its name; 1 file, 1 B"


@pytest.mark.parametrize("pattern", ["{SPAN}", "{SPAN}/*.csv"])
@pytest.mark.parametrize("name", ["_tmp-b.csv", ".tmpb", "_temporary/0", "b.csv.part"])
def test_files_that_are_still_written_hold_a_renamed_span(tmp_path: Path, name: str, pattern: str) -> None:
    put(tmp_path / "1/a.csv")
    put(tmp_path / "1/.a.csv.crc")
    look = lister(tmp_path / pattern, Renamed())
    assert only(look.scan().spans).complete
    put(tmp_path / "1" / name)
    held = only(look.scan().spans)
    assert (held.complete, held.because) == (False, f"still being written; {name.partition('/')[0]}")


@pytest.mark.parametrize("rule", [MARKER, Renamed()], ids=["marker", "rename"])
def test_a_span_waits_for_all_its_shards(tmp_path: Path, rule: CompleteRule) -> None:
    put(tmp_path / "1/_SUCCESS")
    for number in (0, 2, 3):
        put(tmp_path / f"1/data-{number:05}-of-00005.gz")
    look = lister(tmp_path / "{SPAN}", rule)
    waiting = only(look.scan().spans)
    assert (waiting.complete, waiting.passing) == (False, True)
    assert waiting.because.startswith("3 of 5 shards; missing 00001, 00004; ")
    for number in (1, 4):
        put(tmp_path / f"1/data-{number:05}-of-00005.gz")
    assert only(look.scan().spans).complete


def test_a_manifest_behind_links_speaks_of_the_folder_it_is_seen_in(tmp_path: Path) -> None:
    put(tmp_path / "real/a.csv")
    manifest(tmp_path / "real", a=1)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/4").symlink_to(tmp_path / "real")
    (tmp_path / "linked").symlink_to(tmp_path / "in")
    span = only(lister(tmp_path / "linked/{SPAN}", MANIFEST).scan().spans)
    assert (span.complete, span.files[0].path) == (True, f"{tmp_path}/linked/4/a.csv")
    put(tmp_path / "other/a.csv", "22")
    manifest(tmp_path / "other", a=2)
    (tmp_path / "in/4").unlink()
    (tmp_path / "in/4").symlink_to(tmp_path / "other")
    span = only(lister(tmp_path / "linked/{SPAN}", MANIFEST).scan().spans)
    assert (span.complete, span.files[0].size) == (True, 2)
