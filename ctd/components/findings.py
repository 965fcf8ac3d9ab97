"""What TFDV's anomalies say, in a line each: feature, what was found, limit, and what it was compared with."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensorflow_metadata.proto.v0.anomalies_pb2 import Anomalies, AnomalyInfo, DriftSkewInfo

from ctd.components.metadata_files import digest_of_messages

_SAID = 5  # findings told in the reason; all are in the files

_Measurement = DriftSkewInfo.Measurement
_DISTANCES = {
    AnomalyInfo.COMPARATOR_L_INFTY_HIGH: (_Measurement.L_INFTY, "L-infinity"),
    AnomalyInfo.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH: (_Measurement.JENSEN_SHANNON_DIVERGENCE, "Jensen-Shannon"),
    AnomalyInfo.COMPARATOR_NORMALIZED_ABSOLUTE_DIFFERENCE_HIGH: (
        _Measurement.NORMALIZED_ABSOLUTE_DIFFERENCE, "normalized difference",
    ),
}  # fmt: skip
Measured = tuple[tuple[str, ...], str, int]
_MOST = re.compile(r"maximum difference is: (.+)", re.DOTALL)


@dataclass(frozen=True)
class Findings:
    """What was found in a split: errors refuse it, warnings do not, notes say what could not be looked at."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: Findings) -> Findings:
        return Findings(self.errors + other.errors, self.warnings + other.warnings, self.notes + other.notes)


def findings_of(anomalies: Any, whose: Mapping[str, str]) -> Findings:
    """The findings, by feature. `whose` says what drift and skew were measured against."""
    errors: list[str] = []
    warnings: list[str] = []
    measured = dict(_measured(anomalies))
    for name, info in sorted(anomalies.anomaly_info.items()):
        said = warnings if info.severity == AnomalyInfo.WARNING else errors
        path = tuple(info.path.step) or (name,)  # in a name with a dot, `name` has quotes
        said += [_line(path, reason, measured, whose) for reason in info.reason]
    about_all = anomalies.dataset_anomaly_info
    said = warnings if about_all.severity == AnomalyInfo.WARNING else errors
    said += [f"{reason.short_description}: {reason.description}" for reason in about_all.reason]
    return Findings(tuple(errors), tuple(warnings))


def in_words(found: Mapping[str, Findings], measured: Sequence[str], not_measured: Sequence[str]) -> str:
    """The reason of a verdict: what refuses the span, or that nothing does; and what else is to be said."""
    errors = [f"split {split}: {text}" for split, f in found.items() for text in f.errors]
    warnings = [f"warning: split {split}: {text}" for split, f in found.items() for text in f.warnings]
    notes = [f"split {split}: {text}" for split, f in found.items() for text in f.notes]
    said = _first(errors) if errors else ["no anomalies", *measured]
    return "; ".join([*said, *_first(warnings), *_first(notes), *not_measured])


def digest_of_findings(anomalies: Mapping[str, Any]) -> str:
    """The identity of what was found. Distances within their limits are no finding, nor is the schema a part of it."""
    found = {}
    for split, message in anomalies.items():
        found[split] = Anomalies.FromString(message.SerializeToString())
        for field in ("baseline", "drift_skew_info"):
            found[split].ClearField(field)
    return digest_of_messages(found)


def _first(texts: Sequence[str]) -> list[str]:
    more = [f"and {len(texts) - _SAID} more"] if len(texts) > _SAID else []
    return [*texts[:_SAID], *more]


def measurements(anomalies: Any) -> Iterator[Measured]:
    """What was measured, by the path of the feature, `drift` or `skew`, and TFDV's number for the kind of distance."""
    return (key for key, _ in _measured(anomalies))


def _measured(anomalies: Any) -> Iterator[tuple[Measured, Any]]:
    for info in anomalies.drift_skew_info:
        for word, found in (("drift", info.drift_measurements), ("skew", info.skew_measurements)):
            for measurement in found:
                yield (tuple(info.path.step), word, measurement.type), measurement


def _line(path: tuple[str, ...], reason: Any, measured: Mapping[Measured, Any], whose: Mapping[str, str]) -> str:
    name = ".".join(path)
    # TFDV has no other sign of which of both it is about.
    word = "skew" if "serving" in reason.short_description else "drift"
    if reason.type in _DISTANCES:
        kind, distance = _DISTANCES[reason.type]
        found, most = measured.get((path, word, kind)), _MOST.search(reason.description)
        if found is not None and word in whose:
            at = f", most in {most[1].strip()}" if most else ""
            return f"{name}: {word} {found.value:.6g} > {found.threshold:g} ({distance} against {whose[word]}{at})"
    if reason.type == AnomalyInfo.COMPARATOR_CONTROL_DATA_MISSING and word in whose:
        return f"{name}: no {word} can be measured, as {whose[word]} does not have it"
    return f"{name}: {reason.short_description}: {reason.description}"
