"""Pipelines run in memory give what Beam's own runner gives."""

import json
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam import pvalue
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from ctd.components.beam_in_memory import InMemoryRunner, UnknownTransform, run_beam

pytestmark = pytest.mark.tf

Build = Callable[[beam.Pipeline], beam.PCollection]
WORDS = ["one", "two", "three", "one", "four", "two", "one"]


def words(pipeline: beam.Pipeline) -> beam.PCollection:
    return pipeline | "Words" >> beam.Create(WORDS)


def with_side_inputs(pipeline: beam.Pipeline) -> beam.PCollection:
    count = words(pipeline) | beam.combiners.Count.Globally()
    lengths = pipeline | "Lengths" >> beam.Create([("one", 3), ("two", 3)])
    return words_of(pipeline) | beam.Map(
        lambda word, n, several, by_word: [word, n, sorted(several), by_word.get(word)],
        pvalue.AsSingleton(count),
        several=pvalue.AsIter(words_of(pipeline, "again")),
        by_word=pvalue.AsDict(lengths),
    )


def words_of(pipeline: beam.Pipeline, name: str = "more") -> beam.PCollection:
    return pipeline | name >> beam.Create(WORDS[:3])


def with_tags(pipeline: beam.Pipeline) -> beam.PCollection:
    def split(word: str):
        yield word
        if len(word) > 3:
            yield pvalue.TaggedOutput("long", word.upper())

    parts = words(pipeline) | beam.FlatMap(split).with_outputs("long", main="every")
    return (parts.long, parts.every) | beam.Flatten()


def nothing_combined(pipeline: beam.Pipeline) -> beam.PCollection:
    return words(pipeline) | beam.Filter(lambda word: len(word) > 9) | beam.Map(len) | beam.CombineGlobally(sum)


class Bundled(beam.DoFn):
    """Says something at the end of a bundle only."""

    def setup(self) -> None:
        self.seen: list[str] = []

    def process(self, word: str, timestamp=beam.DoFn.TimestampParam, window=beam.DoFn.WindowParam):
        self.seen.append(f"{word} {type(window).__name__}")
        return ()

    def finish_bundle(self):
        for word in self.seen:
            yield beam.transforms.window.GlobalWindows.windowed_value(word)
        self.seen = []


BUILDS: list[tuple[str, Build]] = [
    ("map and reshuffle", lambda p: words(p) | beam.Reshuffle() | beam.Map(str.upper)),
    ("side inputs", with_side_inputs),
    ("tagged outputs", with_tags),
    ("group", lambda p: words(p) | beam.GroupBy(len) | beam.MapTuple(lambda k, v: [k, sorted(v)])),
    ("combine per key", lambda p: words(p) | beam.Map(lambda w: (w, len(w))) | beam.CombinePerKey(max)),
    ("means", lambda p: words(p) | beam.Map(lambda w: (len(w), 1.5)) | beam.combiners.Mean.PerKey()),
    ("combine nothing", nothing_combined),
    ("distinct", lambda p: words(p) | beam.Distinct()),
    ("top", lambda p: words(p) | beam.combiners.Top.Of(2)),
    ("fanout", lambda p: words(p) | beam.Map(len) | beam.CombineGlobally(sum).with_fanout(3)),
    ("batches", lambda p: words(p) | beam.BatchElements(2, 2) | beam.FlatMap(lambda batch: batch)),
    ("bundle", lambda p: words(p) | beam.ParDo(Bundled())),
    ("nested", lambda p: p | beam.Create([]) | beam.Map(str)),
]


def results(folder: Path, run: Callable[[Callable[[beam.Pipeline], None]], None], build: Build) -> list[str]:
    def written(pipeline: beam.Pipeline) -> None:
        # WriteToText is itself a test: a dozen transforms with side inputs and groups.
        _ = build(pipeline) | "Json" >> beam.Map(json.dumps) | beam.io.WriteToText(str(folder / "out"))

    folder.mkdir()
    run(written)
    return sorted(line for path in folder.glob("out*") for line in path.read_text().splitlines())


def with_beams_own(build: Callable[[beam.Pipeline], None]) -> None:
    with beam.Pipeline(FnApiRunner()) as pipeline:
        build(pipeline)


def in_memory_or_fail(build: Callable[[beam.Pipeline], None]) -> None:
    with beam.Pipeline(InMemoryRunner()) as pipeline:
        build(pipeline)


@pytest.mark.parametrize("build", [pytest.param(build, id=name) for name, build in BUILDS])
def test_results_are_those_of_beams_own_runner(tmp_path, build) -> None:
    ours = results(tmp_path / "ours", in_memory_or_fail, build)
    assert ours == results(tmp_path / "theirs", with_beams_own, build)


def in_windows(pipeline: beam.Pipeline) -> beam.PCollection:
    timed = words(pipeline) | beam.Map(lambda word: TimestampedValue((word, 1), len(word)))
    counted = timed | beam.WindowInto(FixedWindows(4)) | beam.CombinePerKey(sum)
    return counted | "All" >> beam.WindowInto(beam.transforms.window.GlobalWindows())


def test_what_it_does_not_know_is_left_to_beams_own_runner_before_anything_ran(tmp_path) -> None:
    with pytest.raises(UnknownTransform):
        results(tmp_path / "refused", in_memory_or_fail, in_windows)
    assert not list((tmp_path / "refused").iterdir())
    assert results(tmp_path / "ours", run_beam, in_windows) == results(tmp_path / "theirs", with_beams_own, in_windows)


def test_what_a_transform_raises_comes_out_with_the_line_that_raised_it(tmp_path) -> None:
    def fail(word: str) -> str:
        raise LookupError(word)

    with pytest.raises(LookupError, match="one") as error:
        results(tmp_path / "out", run_beam, lambda p: words(p) | beam.Map(fail))
    assert any(entry.name == "fail" for entry in error.traceback)
