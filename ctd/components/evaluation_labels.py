"""Labels and weights of examples, as TFMA's extractors find them, and a count of the examples that have none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.utils import model_util

from ctd.components.evaluation_batches import Extracts, rows_of
from ctd.components.feature_values import as_array, not_finite, value_counts
from ctd.core.errors import BadInput

_KEYS = {
    constants.LABELS_KEY: ("label", "label_key"),
    constants.EXAMPLE_WEIGHTS_KEY: ("example weight", "example_weight_key"),
}
_HINT = (
    "Mend the data, leave such examples out, or have the model's preprocessing fill the feature in and name what it "
    "makes with `{key}:`."
)
_INPUT_HINT = (
    "The model's signature takes it as an input. Mend the data, or export a signature of serialized examples that "
    "fills it in."
)


def labelled(spec: tfma.ModelSpec, batch: Extracts, known: Iterable[str] = ()) -> Extracts:
    """The batch with the labels and weights that are among its features; none where no example of it has a value.

    Raises BadInput for a name that is neither in the batch nor among the `known` features of other ones.
    """
    wanted = [constants.LABELS_KEY, *([constants.EXAMPLE_WEIGHTS_KEY] if spec.example_weight_key else [])]
    return {**batch, **{extract: _values(spec, extract, batch, known) for extract in wanted}}


def _values(spec: tfma.ModelSpec, extract: str, batch: Extracts, known: Iterable[str]) -> Any:
    what, key = _KEYS[extract]
    values = model_util.get_feature_values_for_model_spec_field([spec], key, f"{key}s", batch)
    name = getattr(spec, key)
    if values is None and name not in known:
        made = batch.get(constants.TRANSFORMED_FEATURES_KEY) or {}
        raise no_feature(f"{what} {name!r}", key, batch[constants.FEATURES_KEY], made)
    if isinstance(values, Mapping):
        return {output: as_array(part) for output, part in values.items()}
    return as_array(values)


def no_feature(what: str, key: str, given: Iterable[str], made: Iterable[str]) -> BadInput:
    """The complaint that the spec's `key` names a feature that nobody has."""
    return BadInput(
        f"{what} is neither a feature of the examples nor made by the model",
        hint=f"The examples have {listed(given)}; the model's preprocessing makes {listed(made)}. Mend `{key}:`; or "
        "export a signature that makes it, and name it in `preprocessing:` unless it is called transform_features.",
    )


def listed(names: Iterable[str]) -> str:
    """At most so many names as fit into a message."""
    return ", ".join(sorted(map(str, names))[:30]) or "nothing"


class MissingValues:
    """Counts the examples without label, weight or input, and labels and weights that are no finite number.

    Over all batches, and with `inputs` those features of the examples that the model takes.
    """

    def __init__(self, spec: tfma.ModelSpec, inputs: Iterable[str] = ()) -> None:
        self._spec, self._inputs = spec, inputs
        self._examples = 0
        self._found: dict[tuple[str, str], _Counts] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, batch: Extracts) -> None:
        """Take in a batch with labels and weights."""
        for extract, (_, key) in _KEYS.items():
            values = batch.get(extract)
            several = dict(getattr(self._spec, f"{key}s"))
            for output, part in values.items() if isinstance(values, Mapping) else [("", values)]:
                if extract in batch:
                    self._add((extract, several.get(output) or getattr(self._spec, key)), part, rows_of(batch))
        features = batch[constants.FEATURES_KEY]
        for name in self._inputs:
            if name not in (batch.get(constants.TRANSFORMED_FEATURES_KEY) or {}):
                self._add((constants.FEATURES_KEY, name), features.get(name), rows_of(batch))
        self._examples += rows_of(batch)

    def _add(self, place: tuple[str, str], values: Any, rows: int) -> None:
        missing = np.ones(rows, dtype=bool) if values is None else value_counts(values) == 0
        finite = values is None or place[0] == constants.FEATURES_KEY  # a model may be asked about anything
        odd = np.zeros(rows, dtype=bool) if finite else not_finite(values)
        if not (missing | odd).any():
            return
        counts = self._found.setdefault(place, _Counts(self._examples + int((missing | odd).argmax()) + 1))
        counts.missing += int(missing.sum())
        counts.odd += int(odd.sum())

    def check(self) -> None:
        """Raises BadInput that says in how many examples which feature is missing or not a finite number."""
        for (extract, name), counts in self._found.items():
            what, key = _KEYS.get(extract, ("feature", ""))
            said = []
            if counts.missing:
                said.append(f"{counts.missing:,} of {self._examples:,} examples have no {what} {name!r}")
            if counts.odd:
                said.append(f"{what} {name!r} is NaN or infinite in {counts.odd:,} of {self._examples:,} examples")
            raise BadInput(
                f"{' and '.join(said)} (the first: example {counts.first:,})",
                hint=_HINT.format(key=key) if key else _INPUT_HINT,
            )


@dataclass
class _Counts:
    """Of one feature: the number of the first example where it is amiss, from 1, and how many are so."""

    first: int
    missing: int = 0
    odd: int = 0
