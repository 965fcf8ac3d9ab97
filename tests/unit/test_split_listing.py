"""Spans of data that is split already: complete when every split has them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from ctd.core.completeness import CompleteRule, Manifest, Marker, Quiet
from ctd.core.spans import ObservedSpan, Span
from ctd.core.timing import ManualClock
from ctd.specs.inputs import patterns_of
from ctd.storage.digests import FileDigests, span_digest
from ctd.storage.listing import SpanLister
from ctd.storage.split_listing import SplitLister, lister_of

MARKER = Marker("_SUCCESS")
QUIET = Quiet(timedelta(seconds=30))


def lister(
    root: Path, rule: CompleteRule = MARKER, clock: ManualClock | None = None, **patterns: str
) -> SpanLister | SplitLister:
    said = {split: str(root / pattern) for split, pattern in patterns.items()}
    return lister_of(patterns_of(said), rule, clock or ManualClock())


def put(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def only(found: tuple[ObservedSpan, ...]) -> ObservedSpan:
    (span,) = found
    return span


def test_a_span_is_complete_when_it_is_in_every_split_and_says_which_lacks(tmp_path: Path) -> None:
    look = lister(tmp_path, train="train/{SPAN}", eval="eval/{SPAN}")
    put(tmp_path / "train/7/a.csv", tmp_path / "train/7/_SUCCESS")
    (tmp_path / "eval").mkdir()
    lacking = only(look.scan().spans)
    assert (lacking.complete, lacking.because) == (False, f"eval: no {tmp_path}/eval/7 yet")
    put(tmp_path / "eval/7/b.csv")
    assert only(look.scan().spans).because.startswith("eval: no _SUCCESS yet; 1 file, 1 B")
    put(tmp_path / "eval/7/_SUCCESS")
    done = only(look.scan().spans)
    assert (done.span, done.complete) == (Span(7), True)
    assert done.because == "train: marker _SUCCESS; 1 file, 1 B; eval: marker _SUCCESS; 1 file, 1 B"
    assert [(Path(file.path).name, file.split) for file in done.files] == [("a.csv", "train"), ("b.csv", "eval")]
    assert only(look.scan().spans) == done


def test_one_manifest_lists_the_files_of_all_splits(tmp_path: Path) -> None:
    look = lister(tmp_path, Manifest("M.json"), train="{SPAN}/train/*", eval="{SPAN}/eval/*")
    put(tmp_path / "1/train/_a.csv", tmp_path / "1/eval/a.csv")
    (tmp_path / "1/M.json").write_text('[{"name": "train/_a.csv", "size": 1}, {"name": "eval/a.csv", "size": 1}]')
    done = only(look.scan().spans)
    assert done.because == "train: manifest M.json; 1 file, 1 B; eval: manifest M.json; 1 file, 1 B"
    assert [(Path(file.path).name, file.split) for file in done.files] == [("_a.csv", "train"), ("a.csv", "eval")]


def test_splits_may_be_folders_of_one_span_with_one_marker(tmp_path: Path) -> None:
    look = lister(tmp_path, train="{SPAN}/train/*", eval="{SPAN}/eval/*")
    put(tmp_path / "1/train/a.csv", tmp_path / "1/eval/a.csv")
    assert not only(look.scan().spans).complete
    put(tmp_path / "1/_SUCCESS")
    done = only(look.scan().spans)
    assert done.complete
    assert {file.path: file.split for file in done.files} == {
        f"{tmp_path}/1/train/a.csv": "train",
        f"{tmp_path}/1/eval/a.csv": "eval",
    }


def test_versions_are_joined_by_span_and_version(tmp_path: Path) -> None:
    look = lister(tmp_path, train="t/{SPAN}/v{VERSION}", eval="e/{SPAN}/v{VERSION}")
    for name in ("t/1/v1", "t/1/v2", "e/1/v1"):
        put(tmp_path / name / "a", tmp_path / name / "_SUCCESS")
    found = {span.span: span.complete for span in look.scan().spans}
    assert found == {Span(1, 1): True, Span(1, 2): False}


def test_the_quiet_period_is_that_of_the_last_split(tmp_path: Path) -> None:
    clock = ManualClock()
    look = lister(tmp_path, QUIET, clock, train="t/{SPAN}", eval="e/{SPAN}")
    put(tmp_path / "t/1/a")
    (tmp_path / "e").mkdir()
    assert only(look.scan().spans).ready_at is None
    clock.forward(seconds=20)
    put(tmp_path / "e/1/a")
    waiting = only(look.scan().spans)
    assert (waiting.ready_at, waiting.passing) == (clock.now() + timedelta(seconds=30), True)
    clock.forward(seconds=15)
    assert only(look.scan().spans).because.startswith("eval: unchanged for 15s of 30s")
    clock.forward(seconds=15)
    assert only(look.scan().spans).complete


def test_a_file_in_two_splits_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "1/a.csv", tmp_path / "1/_SUCCESS")
    span = only(lister(tmp_path, train="{SPAN}/*.csv", eval="{SPAN}/a*").scan().spans)
    assert not span.complete
    assert span.because == f"{tmp_path}/1/a.csv is in train and in eval: let `input` choose different files"


def test_the_same_file_in_another_split_is_another_span(tmp_path: Path) -> None:
    put(tmp_path / "1/a.csv", tmp_path / "1/b.csv", tmp_path / "1/_SUCCESS")
    (tmp_path / "1/b.csv").write_text("other")
    digests = FileDigests(ManualClock())
    one, other = (
        only(lister(tmp_path, train=f"{{SPAN}}/{a}.csv", eval=f"{{SPAN}}/{b}.csv").scan().spans)
        for a, b in ("ab", "ba")
    )
    assert {file.path for file in one.files} == {file.path for file in other.files}
    assert span_digest(one.files, digests) != span_digest(other.files, digests)


def test_a_split_whose_base_cannot_be_listed_is_named(tmp_path: Path) -> None:
    put(tmp_path / "t/1/a", tmp_path / "t/1/_SUCCESS", tmp_path / "t/x")
    listing = lister(tmp_path, train="t/{SPAN}", eval="e/{SPAN}").scan()
    assert listing.problem == f"eval: {tmp_path}/e does not exist"
    assert listing.spans == ()


def test_strays_of_all_splits_are_told_once(tmp_path: Path) -> None:
    put(tmp_path / "t/1x/a", tmp_path / "t/1/train/a", tmp_path / "t/1/_SUCCESS")
    strays = lister(tmp_path, train="t/{SPAN}/train/*", eval="t/{SPAN}/eval/*").scan().strays
    assert strays == (f"{tmp_path}/t/1x does not fit {{SPAN}}",)


def test_one_pattern_for_all_needs_no_joining(tmp_path: Path) -> None:
    put(tmp_path / "1/a.csv", tmp_path / "1/_SUCCESS")
    look = lister_of(patterns_of(f"{tmp_path}/{{SPAN}}"), MARKER, ManualClock())
    assert isinstance(look, SpanLister)
    assert [file.split for file in only(look.scan().spans).files] == [""]
