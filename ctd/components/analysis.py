"""TFT's analysis of examples span by span: what its analyzers accumulated of a span is kept, and not made again.

The pipeline is that of TFT's AnalyzeDatasetWithCache, built once for one data set, however long the window. Up to the
accumulators it is run for each span that nothing is known of, from there on once, for those of all spans. So its
result is the same whether they were known or not.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import tensorflow_transform.beam as tft_beam
from apache_beam import pvalue
from tensorflow_transform.analyzer_nodes import CacheCoder
from tensorflow_transform.beam import analyzer_impls
from tensorflow_transform.beam.analyzer_cache import DatasetKey
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from ctd.components.analyzer_cache import Accumulated
from ctd.components.beam_in_memory import Graph, UnknownTransform, run_beam
from ctd.components.first_phase import FirstPhase, first_phase

Preprocess = Callable[[dict[str, Any]], dict[str, Any]]

log = logging.getLogger(__name__)

_WINDOW = DatasetKey("window")
_EncodeCache = analyzer_impls._EncodeCacheImpl  # noqa: SLF001 - to know an accumulator from any other collection


@dataclass(frozen=True)
class SpanData:
    """A span to analyse: its examples, for whoever needs them, and what is known of it."""

    examples: Callable[[], Sequence[pa.RecordBatch]]
    known: Accumulated


def analyse(
    preprocess: Preprocess, spans: Sequence[SpanData], config: TensorAdapterConfig, directory: Path
) -> list[Accumulated]:
    """Write `transform_fn` and `transformed_metadata` of all spans below `directory`; what to keep of each span."""
    with _scratch(directory):
        analysis = _Analysis(preprocess, config, directory)
        try:
            kept = [analysis.accumulated(span) for span in spans]
            analysis.write(spans, kept)
        except UnknownTransform as error:
            log.warning("nothing is kept for the next time: %s takes Beam's own runner", error)
        else:
            return kept
    with _scratch(directory):
        _analyse_in_one(preprocess, spans, config, directory)
    return [{} for _ in spans]


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[None]:
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch, tft_beam.Context(temp_dir=scratch):
        yield


@dataclass(frozen=True)
class _Analyzer:
    """The accumulators of one analyzer, and what makes bytes of them."""

    accumulators: pvalue.PCollection
    coder: CacheCoder


class _Analysis:
    def __init__(self, preprocess: Preprocess, config: TensorAdapterConfig, directory: Path) -> None:
        self._graph = Graph(ends=[_EncodeCache])
        self._data = self._graph.pipeline | "Examples" >> beam.Create([], reshuffle=False)
        given: tuple[Any, ...] = ({_WINDOW: self._data}, {}, config)
        made, caches = given | "Analyse" >> tft_beam.AnalyzeDatasetWithCache(preprocess)
        self._written = made | "Write" >> tft_beam.WriteTransformFn(str(directory))
        encoded = caches[_WINDOW].items() if _WINDOW in caches else ()
        self._analyzers = {key.hex(): _analyzer(collection) for key, collection in encoded}
        self._config = config

    def accumulated(self, span: SpanData) -> Accumulated:
        """What each analyzer accumulates of a span, encoded."""
        new = [key for key in self._analyzers if key not in span.known]
        found = {key: span.known[key] for key in self._analyzers if key in span.known}
        if new:
            wanted = [self._analyzers[key].accumulators for key in new]
            made = self._graph.run(wanted, self._given(span.examples()))
            for key, values in zip(new, made, strict=True):
                found[key] = [self._analyzers[key].coder.encode_cache(value) for value in values]
        return found

    def _given(self, examples: Sequence[pa.RecordBatch]) -> Mapping[pvalue.PCollection, Sequence[Any]]:
        first = self._first
        if first is None:
            return {self._data: examples}
        values = [first(batch) for batch in examples]
        return {self._data: examples, **dict.fromkeys(first.applied, values)}

    @cached_property
    def _first(self) -> FirstPhase | None:
        return first_phase(self._graph, self._config)

    def write(self, spans: Sequence[SpanData], accumulated: Sequence[Accumulated]) -> None:
        """Combine the accumulators of all spans and write what comes of them."""
        given: dict[pvalue.PCollection, Sequence[Any]] = {
            analyzer.accumulators: [analyzer.coder.decode_cache(e) for kept in accumulated for e in kept[key]]
            for key, analyzer in self._analyzers.items()
        }
        if self._data in self._graph.sources([self._written], given):
            # Some analyzers cannot be kept: those that see results of others, for one.
            given |= self._given([batch for span in spans for batch in span.examples()])
        self._graph.run([self._written], given)


def _analyzer(encoded: pvalue.PCollection) -> _Analyzer:
    (accumulators,) = encoded.producer.inputs
    return _Analyzer(accumulators, encoded.producer.transform._coder)  # noqa: SLF001


def _analyse_in_one(
    preprocess: Preprocess, spans: Sequence[SpanData], config: TensorAdapterConfig, directory: Path
) -> None:
    def build(pipeline: beam.Pipeline) -> None:
        batches = [batch for span in spans for batch in span.examples()]
        data = pipeline | "Examples" >> beam.Create(batches, reshuffle=False)
        made = (data, config) | "Analyse" >> tft_beam.AnalyzeDataset(preprocess)
        _ = made | "Write" >> tft_beam.WriteTransformFn(str(directory))

    run_beam(build)
