"""ExampleValidator: does a span look as the schema says, much like the span before, and like serving data?

Anomalies are its result and not its failure: what they mean for the span is the planner's to say.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensorflow_data_validation import validate_statistics
from tensorflow_metadata.proto.v0.schema_pb2 import FeatureType, Schema
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from ctd.components.api import Outputs, Work, split_names
from ctd.components.category_ranges import add_ranges
from ctd.components.custom_validations import evaluate
from ctd.components.findings import Findings, digest_of_findings, findings_of, in_words, measurements
from ctd.components.measurable import Compared, limited, measurable, unmeasured
from ctd.components.metadata_files import ANOMALIES_FILE, blanks_as_missing, schema_of, statistics_of, write_message
from ctd.components.plain_statistics import is_counted_number, known_to
from ctd.components.schema_paths import by_path
from ctd.components.unchecked import never_checked, unchecked
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput
from ctd.specs.hints import listed
from ctd.specs.validation import ExampleValidatorSpec

_NOTHING = "no examples"
_MEASURED = {"previous_statistics": "drift", "serving_statistics": "skew"}  # inputs are called as TFDV's arguments


def run(work: Work) -> Outputs:
    """Make `anomalies` of `statistics`, split by split, and say in its properties whether the span is good."""
    statistics, spec = work.input("statistics"), work.spec(ExampleValidatorSpec)
    schema = with_limits(schema_of(work.input("schema")), spec, work.where, _counted_as_categories(statistics))
    _check_environment(schema, spec.environment, work.where)
    validator = _Validator(work, spec, schema)
    directory = work.output("anomalies")
    anomalies, found = {}, {}
    for split in split_names(statistics):
        work.progress(f"validating split {split}")
        anomalies[split], found[split] = validator.judge(split)
    for split in _refused_as_empty(anomalies, schema):
        found[split] = Findings(errors=(_NOTHING,))
    for split, said in anomalies.items():
        write_message(directory, split, ANOMALIES_FILE, said)
    made = work.made(
        directory,
        digest=digest_of_findings(anomalies),
        like=statistics,
        split_names=json.dumps(list(found)),
        blessed=int(not any(f.errors for f in found.values())),
        blessed_splits=json.dumps({split: int(not f.errors) for split, f in found.items()}),
        anomalies=sum(len(f.errors) for f in found.values()),
        warnings=sum(len(f.warnings) for f in found.values()),
        reason=in_words(found, validator.measured(anomalies), validator.not_measured()),
    )
    return {"anomalies": [made]}


def _refused_as_empty(anomalies: Mapping[str, Any], schema: Schema) -> Sequence[str]:
    """Splits whose having no examples refuses the span: none if others have some, as few may all fall to one split."""
    empty = [split for split, said in anomalies.items() if said.data_missing]
    return empty if len(empty) == len(anomalies) or schema.dataset_constraints.min_examples_count > 0 else []


def _counted_as_categories(statistics: Artifact) -> set[str]:
    """The features of numbers that were counted as categories, since a schema says that they are some."""
    splits = (by_path(statistics_of(statistics, split)) for split in split_names(statistics))
    return {".".join(path) for split in splits for path, feature in split.items() if is_counted_number(feature)}


def with_limits(schema: Schema, spec: ExampleValidatorSpec, where: str, categories: Collection[str]) -> Schema:
    """A copy of the schema with the spec's limits on drift and skew. Raises BadInput for a feature that it lacks.

    Limits are on frequencies for texts, and for the numbers that are `categories`.
    """
    schema = Schema.FromString(schema.SerializeToString())
    features = {feature.name: feature for feature in schema.feature}
    said = {"drift": spec.drift, "skew": spec.skew, "validations": [v.feature for v in spec.validations]}
    for key, names in said.items():
        for name in names:
            if name not in features:
                raise BadInput(
                    f"{where}: {key} of {name}, which the schema does not have",
                    hint=f"`{key}:` may name {', '.join(sorted(features))}.",
                )
    for name, limit in spec.drift.items():
        _set_limit(features[name], features[name].drift_comparator, limit, name in categories)
    for name, limit in spec.skew.items():
        _set_limit(features[name], features[name].skew_comparator, limit, name in categories)
    return schema


def _set_limit(feature: Any, comparator: Any, limit: float, counted: bool) -> None:
    # Categories have a distance between two values' frequencies, numbers one between two distributions.
    categorical = counted or feature.type == FeatureType.BYTES or feature.int_domain.is_categorical
    (comparator.infinity_norm if categorical else comparator.jensen_shannon_divergence).threshold = limit


def _check_environment(schema: Schema, environment: str | None, where: str) -> None:
    known = list(schema.default_environment)
    if environment is not None and environment not in known:
        hint = f"Its `default_environment` says {listed(known)}." if known else "It has none at all."
        raise BadInput(
            f"{where}: environment {environment}, which the schema does not have",
            hint=f'{hint} An environment is a line `default_environment: "{environment}"` of the schema; features that '
            f'lack there say `not_in_environment: "{environment}"`.',
        )


@dataclass(frozen=True)
class _Validator:
    """Judges the splits of one span."""

    work: Work
    spec: ExampleValidatorSpec
    schema: Schema

    def judge(self, split: str) -> tuple[Any, Findings]:
        """TFDV's anomalies of a split, and what they say."""
        statistics = self._statistics(self.work.input("statistics"), split)
        others, notes = self._others(split)
        schema, why_not = measurable(self.schema, statistics, others)
        anomalies = self._anomalies(statistics, schema, others)
        found = findings_of(anomalies, {word: other.whose for word, other in others.items()})
        if anomalies.data_missing:
            return anomalies, found + Findings(notes=(_NOTHING,))
        notes += [*why_not, *(note for word in others for note in unmeasured(anomalies, schema, word))]
        where = f"{self.work.where}, split {split}"
        before = others["drift"].statistics if "drift" in others else None
        asked = evaluate(self.spec.validations, statistics, before, where)
        anomalies = self._anomalies(statistics, schema, others, custom_validation_config=asked.config)
        return anomalies, found + asked.findings + Findings(notes=(*notes, *unchecked(self.schema, statistics)))

    def _anomalies(
        self,
        statistics: DatasetFeatureStatisticsList,
        schema: Schema,
        others: Mapping[str, Compared],
        **custom: Any,
    ) -> Any:
        beside = {key: others[word].statistics for key, word in _MEASURED.items() if word in others}
        found = validate_statistics(statistics, schema, self.spec.environment, **beside, **custom)
        add_ranges(found, statistics, schema, self.spec.environment)
        found.baseline.CopyFrom(self.schema)
        return found

    def measured(self, anomalies: Mapping[str, Any]) -> list[str]:
        """What the span was compared with, where something could be measured."""
        some = {word for said in anomalies.values() for _, word, _ in measurements(said)}
        if self._of_all("drift") and any(self._other("previous_statistics", split)[0] for split in anomalies):
            some.add("drift")
        return [f"{word} measured against {self._whose(key)}" for key, word in _MEASURED.items() if word in some]

    def not_measured(self) -> list[str]:
        """What there was nothing to compare with for, though there are limits; and what nothing is compared with."""
        span = self.work.input("statistics").span_name
        (piece,) = self.spec.pieces()
        nobody = {"drift": f"no span before {span}", "skew": f"no serving span up to {span} yet"}
        without = [
            f"{what} not measured: {nobody[word] if key in piece.takes else f'`inputs` names no {key}'}"
            for key, word in _MEASURED.items()
            for what in self._limited(word)
            if not self.work.optional(key)
        ]
        return [*without, *never_checked(self.schema)]

    def _limited(self, word: str) -> list[str]:
        """What there are limits on, by spec or schema: the drift or skew of features, or the number of examples."""
        return [*([word] if any(limited(self.schema, word)) else []), *self._of_all(word)]

    def _of_all(self, word: str) -> list[str]:
        limits = self.schema.dataset_constraints.num_examples_drift_comparator
        return ["num_examples_drift_comparator"] if word == "drift" and limits.ByteSize() else []

    def _others(self, split: str) -> tuple[dict[str, Compared], list[str]]:
        """What a split is compared with, as drift and as skew, and why not."""
        found: dict[str, Compared] = {}
        notes: list[str] = []
        for key, word in _MEASURED.items():
            statistics, why_not = self._other(key, split)
            if statistics is not None:
                found[word] = Compared(statistics, self._whose(key))
            elif why_not:
                notes += [f"{what} not measured: {why_not}" for what in self._limited(word)]
        return found, notes

    def _whose(self, key: str) -> str:
        other = self.work.input(key)
        return f"serving span {other.span_name}" if key == "serving_statistics" else f"span {other.span_name}"

    def _other(self, key: str, split: str) -> tuple[DatasetFeatureStatisticsList | None, str]:
        """What to compare a split with: the split of that name, or the only one; else why there is none."""
        other = self.work.optional(key)
        if other is None:
            return None, ""
        names = split_names(other)
        if split not in names and len(names) != 1:
            return None, f"{self._whose(key)} has no such split, only {listed(names)}"
        statistics = self._statistics(other, split if split in names else names[0])
        # TFDV would measure the distance of categories to nothing, and leave out that of numbers without a word.
        if not any(dataset.num_examples for dataset in statistics.datasets):
            return None, f"{self._whose(key)} has no examples"
        return statistics, ""

    def _statistics(self, artifact: Artifact, split: str) -> DatasetFeatureStatisticsList:
        return blanks_as_missing(known_to(self.schema, statistics_of(artifact, split)))
