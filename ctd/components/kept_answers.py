"""What models said of examples, kept beside an evaluation: on the same examples no model is asked twice.

A candidate that is trained anew on old data is compared with a baseline that was measured on it before, and another
metric or slice is another computation on the same answers. A help, and no part of any identity: a file is named by all
that its content depends on, and without it the models are asked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
from numpy.typing import NDArray
from tensorflow_model_analysis import constants

from ctd.components.evaluation_batches import Extracts, counted
from ctd.components.evaluation_data import Subject
from ctd.components.evaluation_examples import Examples
from ctd.core.artifacts import Artifact
from ctd.core.fingerprints import digest_of

log = logging.getLogger(__name__)

FOLDER = "answers"
_MOST = 64 << 20  # bytes: what takes more is sooner computed than copied and summed
_FORM = 4096  # of the files: once how many examples a batch had, which is free since
_KEPT = (
    constants.PREDICTIONS_KEY,
    constants.LABELS_KEY,
    constants.EXAMPLE_WEIGHTS_KEY,
    constants.TRANSFORMED_FEATURES_KEY,
)
_Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class KeptAnswers:
    """Reads what the evaluation before this one kept, and keeps what the next may need."""

    folder: Path
    before: Path | None
    common: str  # the digest of everything but the model

    @classmethod
    def of(cls, output: Path, before: Artifact | None, examples: Examples) -> KeptAnswers:
        schema = examples.schema.SerializeToString(deterministic=True).hex() if examples.schema else ""
        common = digest_of([examples.records.digest, _FORM, schema, tf.__version__, tfma.__version__])
        return cls(output / FOLDER, Path(before.uri, FOLDER) if before else None, common)

    def read(self, model: Artifact, subject: Subject) -> Sequence[Extracts] | None:
        """What the model made of each batch of the examples, if that is known."""
        path = self.before / self._name(model, subject) if self.before and model.digest else None
        if path is None or not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return _nested({key: arrays[key] for key in arrays.files})
        except (OSError, ValueError, BadZipFile) as error:
            log.warning("model #%d is asked again: what it said before is damaged: %s", model.id, error)
            return None

    def write(self, model: Artifact, subject: Subject, answers: Answers) -> None:
        """Keep what the model made of each batch, where that is arrays of a reasonable size."""
        arrays = _storable(dict(_flat(answers.batches)))
        if model.digest and arrays:
            self.folder.mkdir(exist_ok=True)
            np.savez(self.folder / self._name(model, subject), **arrays)

    def _name(self, model: Artifact, subject: Subject) -> str:
        spec = tfma.ModelSpec()
        spec.CopyFrom(subject.spec)
        spec.name, spec.is_baseline = "", False  # who it is compared with changes no answer
        return f"{digest_of([self.common, model.digest, spec.SerializeToString(deterministic=True).hex()])}.npz"


class Answers:
    """What a model made of each batch, as long as all of it has a reasonable size."""

    def __init__(self) -> None:
        self.batches: list[Extracts] = []
        self._room = _MOST

    def add(self, batch: Extracts) -> None:
        """Take in what the model made of one more batch."""
        if self._room < 0:
            return
        self.batches.append({key: batch[key] for key in _KEPT if key in batch})
        self._room -= sum(_bytes_of(value) for _, value in _flat(self.batches[-1:]))
        if self._room < 0:
            self.batches.clear()


def _bytes_of(value: Any) -> int:
    if not isinstance(value, np.ndarray):
        return _MOST + 1  # nothing that a file could hold
    texts = value.ravel() if value.dtype.hasobject else ()
    return value.nbytes + sum(len(text) for text in texts if isinstance(text, (bytes, str)))


def _flat(batches: Sequence[Extracts]) -> Iterator[tuple[str, Any]]:
    """Every array by its path: number of the batch, extract, and names of outputs or features."""

    def leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping):
            for name, part in value.items():
                yield from leaves((*path, name.replace("%", "%25").replace("/", "%2F")), part)
        elif value is not None:
            yield "/".join(path), value

    for number, batch in enumerate(batches):
        for key in _KEPT:
            yield from leaves((str(number), key), batch.get(key))


def _nested(arrays: _Arrays) -> list[Extracts]:
    """What `_flat` took apart."""
    batches: dict[int, Extracts] = {}
    for key, array in arrays.items():
        number, *path = (part.replace("%2F", "/").replace("%25", "%") for part in key.split("/"))
        place: dict[str, Any] = batches.setdefault(int(number), {})
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = array.astype(object) if array.dtype.kind == "S" else array
        batches[int(number)][constants.INPUT_KEY] = counted(len(array))
    return [batches[number] for number in sorted(batches)]


def _storable(values: Mapping[str, Any]) -> _Arrays:
    """The values in a form that a file holds; none if one is no array, would not come back as it was, or all are much.

    Ragged and sparse tensors are no arrays.
    """
    if not all(isinstance(value, np.ndarray) for value in values.values()):
        return {}
    plain = {key: _plain(array) for key, array in values.items()}
    whole = (
        not array.dtype.hasobject or bool(np.array_equal(plain[key].astype(object), array))
        for key, array in values.items()
    )
    return plain if sum(array.nbytes for array in plain.values()) <= _MOST and all(whole) else {}


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """TFMA has texts as objects, which only a pickle holds."""
    return array.astype("S") if array.dtype.hasobject else array
