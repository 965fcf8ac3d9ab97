"""Measures the candidate, and the latest blessed model beside it, on slices of the newest examples with TFMA.

The evaluation is in TFMA's own format, for its viewers, with `metrics.json` beside it for everyone else. It judges
nothing: limits are the verdict's.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_model_analysis as tfma
from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions
from google.protobuf import json_format, text_format
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.proto import config_pb2, metrics_for_slice_pb2
from tensorflow_model_analysis.utils import config_util
from tensorflow_model_analysis.writers import metrics_plots_and_validations_writer as writers
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig
from tfx_bsl.tfxio.tf_example_record import TFExampleRecord

from ctd.components import declared_ops
from ctd.components.api import Outputs, Work, check_payload, split_files, user_code
from ctd.components.beam_runner import on_beam
from ctd.components.evaluation_batches import MOST, Batching, Extracts, counted, in_step, rows_of
from ctd.components.evaluation_data import Inference, Subject, together
from ctd.components.evaluation_examples import Examples
from ctd.components.evaluation_labels import MissingValues, no_feature
from ctd.components.evaluation_metrics import Computations, measure, needed_features, spec_name, spec_names
from ctd.components.evaluation_mismatch import mismatch
from ctd.components.evaluation_records import Records
from ctd.components.kept_answers import Answers, KeptAnswers
from ctd.components.metadata_files import schema_of
from ctd.core.artifacts import Artifact, Value
from ctd.core.errors import BadInput, ComponentFailed, PermanentError
from ctd.core.fingerprints import digest_of
from ctd.specs.beam import BeamRunner
from ctd.specs.evaluator import EvaluatorSpec, Threshold
from ctd.specs.metric_names import ALWAYS_MEASURED
from ctd.specs.metric_values import COMPARISONS
from ctd.storage.evaluations import METRICS_FILE

log = logging.getLogger(__name__)

_CANDIDATE, _BASELINE = tfma.CANDIDATE_KEY, tfma.BASELINE_KEY
(_COUNT,) = ALWAYS_MEASURED
_UNWEIGHTED = ("ModelCosineSimilarity", "Bleu")  # TFMA refuses them beside weights
_FLIP_RATES = ("flip_rate", *(f"{old}_to_{new}_flip_rate" for old in ("neg", "pos") for new in ("neg", "pos")))
_AVERAGES = {"micro": "micro_average", "macro": "macro_average", "weighted": "weighted_macro_average"}
_METRICS_HINT = (
    "Do the metrics suit label and predictions, and are their `config:` as their classes take it? Metrics need numbers "
    "for labels, of one class or several as their names say. The whole traceback is in the execution's log."
)


@dataclass(frozen=True)
class Needs:
    """What metrics and slices need of a batch: features, none being all, and a label for each example."""

    features: frozenset[str] | None
    labels: bool


@dataclass(frozen=True)
class Measured:
    """A model with what it made of all batches of examples, as far as metrics and slices need it.

    `given` and `made` are the names of all features of the examples and of the model's preprocessing.
    """

    subject: Subject
    needs: Needs
    batches: Sequence[Extracts]
    given: frozenset[str]
    made: frozenset[str]


@dataclass(frozen=True)
class Evaluation:
    """On which examples models are measured, how, and where that is written.

    On a runner of Beam `examples` are only the first ones: to find out in time what models and spec cannot do.
    """

    work: Work
    files: Sequence[str]
    examples: Examples
    output: Path
    kept: KeptAnswers
    beam: BeamRunner | None

    @property
    def spec(self) -> EvaluatorSpec:
        return self.work.spec(EvaluatorSpec)


def run(work: Work) -> Outputs:
    """Evaluate on the given splits of all given spans."""
    spec = work.spec(EvaluatorSpec)
    declared_ops.register(spec.op_libraries)
    model, baseline = work.input("model"), work.optional("baseline_model")
    for artifact in work.inputs("examples"):
        check_payload(work, artifact)
    files = [file for artifact in work.inputs("examples") for s in spec.splits for file in split_files(artifact, s)]
    beam = spec.beam if spec.beam and spec.beam.takes(sum(Path(file).stat().st_size for file in files)) else None
    examples, output = _examples(work, files, MOST if beam else None), work.output("evaluation")
    kept = KeptAnswers.of(output, work.optional("measured_before"), examples)
    evaluation = Evaluation(work, files, examples, output, kept, beam)
    candidate = _inferred(evaluation, _CANDIDATE, model)
    _check_slices(evaluation, candidate)
    rows, skipped = (
        _measure_both(evaluation, candidate, baseline) if baseline else (_measure(evaluation, [candidate]), "")
    )
    (evaluation.output / METRICS_FILE).write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")
    compared = None if skipped else baseline
    digest = digest_of({"metrics": rows, "models": [model.digest, compared.digest if compared else None]})
    properties = _properties(model, compared, skipped)
    return {"evaluation": [work.made(evaluation.output, digest=digest, like=None, **properties)]}


def _examples(work: Work, files: Sequence[str], most: int | None) -> Examples:
    """All examples, or the first `most`."""
    records, schema = Records.of_files(files, most), work.optional("schema")
    if not records:
        raise BadInput(
            f"{work.where}: there are no examples in {', '.join(work.spec(EvaluatorSpec).splits)}",
            hint="Name other `splits:` of the evaluator, or a longer `window:`.",
        )
    return Examples.of(records, schema_of(schema) if schema else None)


def _inferred(evaluation: Evaluation, name: str, model: Artifact, needs: Needs | None = None) -> Measured:
    """What one model makes of the examples. Raises ComponentFailed where it fails, BadInput for missing labels."""
    evaluation.work.progress(f"{_said(evaluation)}: the {name}")
    examples = evaluation.examples
    subject = Subject.of(name, model, evaluation.spec, examples.features)
    collected = _Collected(subject, examples.features, needs or _needs(evaluation, subject))
    known = None if evaluation.beam else evaluation.kept.read(model, subject)
    if known:
        log.info("the %s, model #%d, was asked about these examples before: its answers are taken", name, model.id)
        for batch, said in in_step(examples.decoded(), known):
            collected.add({**batch, **said, constants.INPUT_KEY: batch[constants.INPUT_KEY]})
    else:
        with user_code(f"{evaluation.work.where}: the {name} model"):
            inference = Inference(subject, examples.features)
            for batch in Batching().each(collected.asking(inference), examples.decoded()):
                collected.add(batch)
    collected.missing.check()
    if not evaluation.beam:
        evaluation.kept.write(model, subject, collected.answers)
    return collected.measured


def _needs(evaluation: Evaluation, subject: Subject) -> Needs:
    config, computations = _computations(evaluation, [subject])
    return Needs(needed_features(config, computations), labels=not computations.needs_pipeline)


class _Collected:
    """What is kept of the batches of one model."""

    def __init__(self, subject: Subject, features: frozenset[str], needs: Needs) -> None:
        self._subject, self._needs = subject, needs
        self._given, self._made = set[str](), set[str]()
        self._batches: list[Extracts] = []
        self.answers, self.missing = Answers(), MissingValues(subject.spec, subject.taken_of(features))

    @property
    def measured(self) -> Measured:
        return Measured(self._subject, self._needs, self._batches, frozenset(self._given), frozenset(self._made))

    def asking(self, inference: Inference) -> Callable[[Extracts], Extracts]:
        """Labels and predictions of a batch; once a label is missing the others are only counted."""

        def asked(batch: Extracts) -> Extracts:
            batch = inference.labelled(batch)
            if self._needs.labels:
                self.missing.add(batch)
            return batch if self.missing else inference.predicted(batch)

        return asked

    def add(self, batch: Extracts) -> None:
        """Take in a batch, without the examples and the features that nobody needs."""
        given, made = batch[constants.FEATURES_KEY], batch.get(constants.TRANSFORMED_FEATURES_KEY) or {}
        self._given |= given.keys()
        self._made |= made.keys()
        if self.missing:
            return
        self.answers.add(batch)
        pruned = {constants.FEATURES_KEY: self._pruned(given), constants.TRANSFORMED_FEATURES_KEY: self._pruned(made)}
        self._batches.append({**batch, **pruned, constants.INPUT_KEY: counted(rows_of(batch))})

    def _pruned(self, features: Mapping[str, Any]) -> dict[str, Any]:
        wanted = self._needs.features
        return {name: value for name, value in features.items() if wanted is None or name in wanted}


def _said(evaluation: Evaluation) -> str:
    """Which examples, for people."""
    many = f"{len(evaluation.examples.records)} examples"
    return f"{evaluation.beam.runner}, after the first {many}" if evaluation.beam else many


def _check_slices(evaluation: Evaluation, candidate: Measured) -> None:
    """Raises BadInput for a slice by what no example has: its limits would hold on nothing."""
    known = evaluation.examples.features | candidate.given | candidate.made
    for feature in (feature for features in evaluation.spec.slices for feature in features):
        if feature not in known:
            what = f"{feature!r}, which examples are sliced by,"
            raise no_feature(what, "slices", candidate.given, candidate.made)


def _measure_both(evaluation: Evaluation, candidate: Measured, baseline: Artifact) -> tuple[list[dict[str, Any]], str]:
    """The rows with those of the baseline, or without and why: an old model that no longer fits keeps none out."""
    models = [candidate]
    try:
        models.append(_inferred(evaluation, _BASELINE, baseline, candidate.needs))
        return _measure(evaluation, models), ""
    except PermanentError as error:
        if _only_comparisons_fail(evaluation, models):
            raise
        skipped = f"baseline #{baseline.id} not compared: {error.message}"
    return _measure(evaluation, [candidate]), skipped


def _only_comparisons_fail(evaluation: Evaluation, models: Sequence[Measured]) -> bool:
    """Whether the baseline fits, and metrics that compare models do not suit either: they would never be judged."""
    asked = {limit.class_of(name) for name, limit in evaluation.spec.metrics.items()}
    if len(models) == 1 or not asked & COMPARISONS:
        return False
    try:
        _measure(evaluation, models, comparisons=False)
    except PermanentError:
        return False
    return True


def _measure(evaluation: Evaluation, models: Sequence[Measured], *, comparisons: bool = True) -> list[dict[str, Any]]:
    """The rows of metrics.json: slices of the candidate first, the whole before its parts."""
    subjects = [model.subject for model in models]
    evaluation.work.progress(f"{_said(evaluation)}: metrics of {len(models)} models")
    config, computations = _computations(evaluation, subjects, comparisons=comparisons and len(models) > 1)
    if computations.needs_pipeline or evaluation.beam:
        with user_code(f"{evaluation.work.where}: computing metrics", hint=_METRICS_HINT):
            found = _by_pipeline(evaluation, subjects, config)
    else:
        found = _here(evaluation, models, config, computations)
    names = spec_names(config)
    rows = [row for slice_metrics in found for row in _rows(slice_metrics, names)]
    return sorted(rows, key=lambda row: (row["model"] != _CANDIDATE, row["slice"] != [], str(row["slice"])))


def _computations(
    evaluation: Evaluation, subjects: Sequence[Subject], *, comparisons: bool = False
) -> tuple[tfma.EvalConfig, Computations]:
    config = _config(evaluation.spec, subjects, comparisons=comparisons)
    with user_code(f"{evaluation.work.where}: computing metrics", hint=_METRICS_HINT):
        return config, Computations.of(config, evaluation.examples.schema)


def _properties(model: Artifact, compared: Artifact | None, skipped: str) -> dict[str, Value]:
    properties: dict[str, Value] = {
        "current_model": model.uri,
        "current_model_id": model.id,
        "current_model_digest": model.digest,
    }
    if compared:
        properties |= {"baseline_model": compared.uri, "baseline_model_id": compared.id}
    if skipped:
        properties["baseline_skipped"] = skipped
    return properties


def _config(spec: EvaluatorSpec, subjects: Sequence[Subject], *, comparisons: bool) -> tfma.EvalConfig:
    """The spec in TFMA's words, without limits."""
    metrics = [
        _metric(name, limit)
        for name, limit in spec.metrics.items()
        if name != _COUNT and (comparisons or limit.class_of(name) not in COMPARISONS)
    ]
    of_classes = [name for name, limit in spec.metrics.items() if limit.binarize or limit.aggregate]
    alike = [metric for metric in metrics if spec_name(metric) not in of_classes]
    weighted = [metric for metric in alike if metric.class_name not in _UNWEIGHTED]
    unweighted = [metric for metric in alike if metric.class_name in _UNWEIGHTED]
    config = tfma.EvalConfig(
        model_specs=[subject.spec for subject in subjects],
        slicing_specs=[tfma.SlicingSpec(feature_keys=keys) for keys in spec.slices],
        metrics_specs=[
            # How many examples there are, whatever they weigh.
            tfma.MetricsSpec(
                metrics=[tfma.MetricConfig(class_name=_COUNT), *unweighted], example_weights={"unweighted": True}
            ),
            *([tfma.MetricsSpec(metrics=weighted)] if weighted else []),
            *(_of_classes(m, spec.metrics[spec_name(m)]) for m in metrics if spec_name(m) in of_classes),
        ],
    )
    # The metrics a Keras model was compiled with are not asked for, and only Keras 2 models bring theirs.
    config.options.include_default_metrics.value = False
    return config_util.update_eval_config_with_defaults(config, has_baseline=len(subjects) > 1)


def _metric(name: str, limit: Threshold) -> tfma.MetricConfig:
    """A metric of the spec, under a name that no other has."""
    config = dict(limit.config)
    if limit.class_of(name) == "BooleanFlipRates":
        # It has no name, but five results that are called as other metrics are.
        config |= {f"{rate}_name": f"{name} {rate}" for rate in _FLIP_RATES if f"{rate}_name" not in config}
    elif limit.metric:
        config["name"] = name
    return tfma.MetricConfig(class_name=limit.class_of(name), config=json.dumps(config) if config else "")


def _of_classes(metric: tfma.MetricConfig, limit: Threshold) -> tfma.MetricsSpec:
    """A metric of one class or rank, or averaged over classes."""
    said = tfma.MetricsSpec(metrics=[metric])
    if binarize := limit.binarize:
        if binarize.class_id is not None:
            said.binarize.class_ids.values.append(binarize.class_id)
        if binarize.top_k is not None:
            said.binarize.top_k_list.values.append(binarize.top_k)
    if aggregate := limit.aggregate:
        setattr(said.aggregate, _AVERAGES[aggregate.average], True)
        said.aggregate.class_weights.update(aggregate.class_weights)
    return said


def _here(
    evaluation: Evaluation, models: Sequence[Measured], config: tfma.EvalConfig, computations: Computations
) -> list[Any]:
    """The metrics of each slice, computed in this process and written as TFMA writes them."""
    parts = in_step(*(model.batches for model in models))
    batches = (together({m.subject.name: b for m, b in zip(models, part, strict=True)}) for part in parts)
    try:
        with user_code(f"{evaluation.work.where}: computing metrics", hint=_METRICS_HINT):
            found = measure(batches, config, computations).items()
    except ComponentFailed as error:
        raise _explained(evaluation, models, error) from error
    metrics = [writers.convert_slice_metrics_to_proto((key, _only(values, plots=False)), None) for key, values in found]
    plots = [writers.convert_slice_plots_to_proto((key, _only(values, plots=True)), None) for key, values in found]
    _write(evaluation.output / f"{constants.METRICS_KEY}-00000-of-00001.tfrecord", metrics)
    _write(evaluation.output / f"{constants.PLOTS_KEY}-00000-of-00001.tfrecord", plots)
    subjects = [model.subject for model in models]
    said = config_pb2.EvalRun(
        eval_config=config,
        version=tfma.version.VERSION,
        data_location=",".join(evaluation.files),
        file_format="tfrecords",
        model_locations={name: str(subject.path) for name, subject in _named(config, subjects)},
    )
    (evaluation.output / "eval_config.json").write_text(json_format.MessageToJson(said))
    return metrics


def _explained(evaluation: Evaluation, models: Sequence[Measured], error: ComponentFailed) -> ComponentFailed:
    """The error in terms of labels and predictions, if it can be told what is amiss with them."""
    found = next(filter(None, (mismatch(model.subject.spec, model.batches) for model in models)), None)
    if found is None:
        return error
    return ComponentFailed(f"{evaluation.work.where}: computing metrics: {found[0]}", hint=found[1])


def _by_pipeline(evaluation: Evaluation, subjects: Sequence[Subject], config: tfma.EvalConfig) -> list[Any]:
    """The same by TFMA's Beam pipeline: for metrics that look at more than labels and predictions, and large data."""
    schema = evaluation.examples.schema
    source = TFExampleRecord(
        list(evaluation.files),
        schema=schema,
        raw_record_column_name=tfma.ARROW_INPUT_COLUMN,
        telemetry_descriptors=["ctd", "Evaluator"],
    )
    adapter = TensorAdapterConfig(source.ArrowSchema(), source.TensorRepresentations()) if schema else None
    runner = evaluation.beam
    # Without flags of its own, Beam reads those of the process.
    with on_beam(evaluation.work.where, runner) if runner else Pipeline(options=PipelineOptions([])) as pipeline:
        _ = (
            pipeline
            | source.BeamSource()
            | tfma.ExtractEvaluateAndWriteResults(
                eval_config=config,
                eval_shared_model=[subject.shared_model(config, name) for name, subject in _named(config, subjects)],
                output_path=str(evaluation.output),
                display_only_data_location=",".join(evaluation.files),
                display_only_file_format="tfrecords",
                tensor_adapter_config=adapter,
                schema=schema,
            )
        )
    return list(writers.load_and_deserialize_metrics(str(evaluation.output)))


def _named(config: tfma.EvalConfig, subjects: Sequence[Subject]) -> Iterator[tuple[str, Subject]]:
    """Models by the names that TFMA gives them: a single one has none."""
    return zip((spec.name for spec in config.model_specs), subjects, strict=True)


def _only(values: dict[Any, Any], *, plots: bool) -> dict[Any, Any]:
    return {key: value for key, value in values.items() if isinstance(key, tfma.metrics.PlotKey) == plots}


def _write(path: Path, messages: Iterable[Any]) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for message in messages:
            writer.write(message.SerializeToString())


def _rows(found: metrics_for_slice_pb2.MetricsForSlice, names: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The plain numbers of one slice, one row for each model."""
    keys = [[part.column, _slice_value(part)] for part in found.slice_key.single_slice_keys]
    by_model: dict[str, dict[str, float | None]] = {}
    alone = {item.key.SerializeToString() for item in found.metric_keys_and_values if not item.key.is_diff}
    for item in found.metric_keys_and_values:
        if item.value.WhichOneof("type") != "double_value" or (item.key.is_diff and _of_one(item.key) in alone):
            continue
        metrics = by_model.setdefault(item.key.model_name or _CANDIDATE, {})
        name = names.get(item.key.name, item.key.name)
        # A metric asked for at several places, as precision in the top k, has a number for each.
        name = (
            name if name not in metrics else f"{name} {text_format.MessageToString(item.key.sub_key, as_one_line=True)}"
        )
        value = item.value.double_value.value
        metrics[name] = value if math.isfinite(value) else None
    for model, metrics in by_model.items():
        yield {"slice": keys, "model": model, "metrics": metrics, "examples": round(metrics[_COUNT] or 0)}


def _of_one(difference: Any) -> bytes:
    """The key of what a difference is of. Comparisons are differences of nothing else: they are values themselves."""
    key = type(difference)()
    key.CopyFrom(difference)
    key.is_diff = False
    return bytes(key.SerializeToString())


def _slice_value(part: Any) -> str | int | float:
    kind = part.WhichOneof("kind")
    if kind == "bytes_value":
        return str(part.bytes_value.decode(errors="backslashreplace"))
    value: int | float = getattr(part, kind)
    return value
