"""Conditions that a spec says in SQL, evaluated by TFDV one by one: a broken one is known by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tensorflow_data_validation.anomalies.proto.custom_validation_config_pb2 import CustomValidationConfig
from tensorflow_data_validation.api.validation_api import custom_validate_statistics
from tensorflow_metadata.proto.v0.anomalies_pb2 import AnomalyInfo
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList, FeatureNameStatistics

from ctd.components.findings import Findings
from ctd.components.plain_statistics import is_counted_number
from ctd.core.errors import ComponentFailed
from ctd.specs.validation import CustomValidation

_HINT = (
    "Mend the expression in the spec. `feature` is a FeatureNameStatistics of tensorflow_metadata, so that "
    "feature.num_stats.min and feature.string_stats.unique are its fields; where a field may be null or a divisor 0, "
    "write IFNULL(.., ..) and SAFE_DIVIDE(.., ..)."
)


@dataclass(frozen=True)
class Evaluated:
    """What came out, and the configuration with which TFDV finds the same."""

    findings: Findings
    config: CustomValidationConfig


def evaluate(
    validations: Iterable[CustomValidation],
    statistics: DatasetFeatureStatisticsList,
    previous: DatasetFeatureStatisticsList | None,
    where: str,
) -> Evaluated:
    """Evaluate the validations on a split. Raises ComponentFailed for one that TFDV does not understand."""
    errors: list[str] = []
    warnings: list[str] = []
    notes: list[str] = []
    config = CustomValidationConfig()
    for validation in validations:
        why_not = _not_there(validation, statistics, previous)
        if why_not:
            notes.append(f"{validation.feature}: `{validation.expression}` not evaluated: {why_not}")
            continue
        counted = _counted_otherwise(validation, statistics)
        if counted:
            (warnings if validation.severity == "WARNING" else errors).append(counted)
            continue
        alone = _config(validation)
        config.MergeFrom(alone)
        try:
            broken = custom_validate_statistics(statistics, alone, previous if validation.compares else None)
        except RuntimeError as error:
            said = str(error).rpartition("failed with error: ")[2]
            raise ComponentFailed(
                f"{where}: validation of {validation.feature}: `{validation.expression}`: {said}", hint=_HINT
            ) from error
        if broken.anomaly_info:
            (warnings if validation.severity == "WARNING" else errors).append(_line(validation))
    return Evaluated(Findings(tuple(errors), tuple(warnings), tuple(notes)), config)


def _line(validation: CustomValidation) -> str:
    said = f"`{validation.expression}` is false"
    return f"{validation.feature}: " + (f"{validation.description} ({said})" if validation.description else said)


def _counted_otherwise(validation: CustomValidation, statistics: DatasetFeatureStatisticsList) -> str:
    """What is wrong with a condition on numbers that were counted as categories: to TFDV all their fields are 0."""
    if "num_stats" not in validation.expression:
        return ""
    for feature in (f for dataset in statistics.datasets for f in dataset.features):
        if _name(feature) == validation.feature and is_counted_number(feature):
            return (
                f"{validation.feature}: `{validation.expression}` cannot be evaluated: the schema has the numbers "
                "counted as categories; `string_stats` has how many different ones there are, and the most frequent"
            )
    return ""


def _not_there(
    validation: CustomValidation,
    statistics: DatasetFeatureStatisticsList,
    previous: DatasetFeatureStatisticsList | None,
) -> str:
    if validation.feature not in _names(statistics):
        return "the span has no such column"
    if validation.compares and previous is None:
        return "no span before to compare with"
    if validation.compares and previous is not None and validation.feature not in _names(previous):
        return "the span before has no such column"
    return ""


def _names(statistics: DatasetFeatureStatisticsList) -> Iterator[str]:
    return map(_name, statistics.datasets[0].features)


def _name(feature: FeatureNameStatistics) -> str:
    return ".".join(feature.path.step) or feature.name


def _config(validation: CustomValidation) -> CustomValidationConfig:
    config = CustomValidationConfig()
    if validation.compares:
        pair = config.feature_pair_validations.add()
        pair.feature_test_path.step.append(validation.feature)
        pair.feature_base_path.step.append(validation.feature)
        said = pair.validations.add()
    else:
        single = config.feature_validations.add()
        single.feature_path.step.append(validation.feature)
        said = single.validations.add()
    said.sql_expression = validation.expression
    said.severity = AnomalyInfo.Severity.Value(validation.severity)
    said.description = validation.description or validation.expression
    return config
