"""A model in another form on its way to a target: made, asked, compared with the SavedModel, then handed over."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctd.components.api import SERVING_DIR, Work, user_code
from ctd.components.parity import Refused, Report, compare, compare_metrics
from ctd.components.serving_requests import (
    DEFAULT_SIGNATURE,
    Feeds,
    Request,
    Signature,
    last_split_records,
    load_signatures,
    missing_inputs,
    requests,
)
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput
from ctd.deploy.conversion import Form
from ctd.specs.targets import DEFAULT_LIMITS, DEFAULT_SHARES, TfjsTarget, TfliteTarget

if TYPE_CHECKING:
    from ctd.components.evaluation_batches import Extracts
    from ctd.components.parity_metrics import Yardstick

_BATCH = 32
_MOST_RECORDS = 1000
PARITY_FILE = "parity.json"


def converted(work: Work, target: TfliteTarget | TfjsTarget, form: Form, notes: Path) -> Path:
    """A folder with the files of a version, whose answers were compared; the report goes to `notes`.

    Raises Refused if they are others than the model's own.
    """
    model, metrics = work.input("model"), target.parity.metrics
    signature = _signature(target, load_signatures(str(Path(model.uri, SERVING_DIR))))
    where = f"target {target.target}"
    yardstick = _yardstick(where, tuple(metrics), work.optional("evaluation")) if metrics else None
    asked = _questions(work, signature, target.parity.examples, yardstick)
    made = Path(tempfile.mkdtemp(prefix="version-"))
    work.progress(f"converting {signature.name} of model #{model.id} for {target.kind}")
    with user_code(f"signature {signature.name!r}: the SavedModel in process"):
        expected = [signature.answer(batch) for batch in asked.batches]
    form.convert(Path(model.uri, SERVING_DIR), signature.name, made, asked.batches)
    count = sum(map(len, asked.numbers))
    work.progress(f"asking the converted model about {count} examples")
    most = _most(target, expected[0])
    report = Report(target.target, model.id, signature.name, count, _limits(target), most)
    served = form.answers(made, asked.batches)
    compare(report, expected, served, asked.numbers)
    if yardstick and report.outputs.keys() == expected[0].keys():
        own, other = (yardstick.measure(asked.labelled, answers) for answers in (expected, served))
        compare_metrics(report, own, other, metrics, yardstick.classes)
    (notes / PARITY_FILE).write_text(json.dumps(asdict(report), indent=1) + "\n")
    if not report.accepted:
        raise Refused(report)
    return made


def _yardstick(where: str, metrics: Sequence[str], evaluation: Artifact | None) -> Yardstick:
    from ctd.components.parity_metrics import Yardstick  # noqa: PLC0415  TFMA, which costs as much as TensorFlow

    return Yardstick.of(where, metrics, evaluation)


def _signature(target: TfliteTarget | TfjsTarget, there: Mapping[str, Signature]) -> Signature:
    """The one to convert. Raises BadInput that names those there are."""
    numeric = sorted(name for name, signature in there.items() if signature.numeric)
    said = f"signatures of plain numbers: {', '.join(numeric) or 'none'}"
    # Keras exports the default one by a name of its own too.
    obvious = numeric if len(numeric) == 1 else [name for name in numeric if name == DEFAULT_SIGNATURE]
    name = target.signature or next(iter(obvious), "")
    if not name:
        raise BadInput(
            f"target {target.target}: it cannot be told which signature to convert; {said}",
            hint="Name one with `signature:` in the target's file."
            if numeric
            else "Export a signature of plain numbers in run_fn: strings and examples do not convert.",
        )
    if name not in there:
        raise BadInput(
            f"target {target.target}: the model has no signature {name!r}, only {', '.join(sorted(there)) or 'none'}",
            hint=f"Mend `signature:` of the target, or export it in run_fn; {said}.",
        )
    if name not in numeric:
        raise BadInput(
            f"target {target.target}: signature {name!r} takes or gives strings, which a {target.kind} cannot",
            hint=f"Name another with `signature:` of the target, or export one; {said}.",
        )
    return there[name]


@dataclass(frozen=True)
class _Asked:
    """Real examples as batches for a signature, and the same ones with their labels if metrics are to be compared.

    `numbers` are those of the examples in each batch, from 1.
    """

    batches: Sequence[Feeds]
    numbers: Sequence[Sequence[int]]
    labelled: Sequence[Extracts] = ()


def _questions(work: Work, signature: Signature, most: int, yardstick: Yardstick | None) -> _Asked:
    """Examples that have all that the signature takes: one alone, then full batches; with labels if there are metrics.

    Raises BadInput if none fits.
    """
    unlabelled: BadInput | None = None
    for key in ("transformed_examples", "examples"):
        records = last_split_records(work, key, max(most, _MOST_RECORDS))
        found = list(requests(signature.takes, records, most))
        if not found:
            continue
        parts = list(_batched(found, signature))
        batches = [_together([request.feeds for request in part]) for part in parts]
        numbers = [[request.number for request in part] for part in parts]
        if yardstick is None:
            return _Asked(batches, numbers)
        chosen = [records[number - 1] for number in itertools.chain.from_iterable(numbers)]
        try:
            # The model's preprocessing is for raw examples: of transformed ones it would make any label.
            raw = key == "examples"
            labelled = yardstick.labels_by(work.input("model"), chosen) if raw else yardstick.labels_in(chosen)
            return _Asked(batches, numbers, labelled)
        except BadInput as error:
            unlabelled = unlabelled or error
    if yardstick and unlabelled:
        raise BadInput(
            f"{yardstick.where}: parity.metrics: {unlabelled.message}",
            hint=f"{unlabelled.hint} Or return it from preprocessing_fn beside the features.",
        ) from unlabelled
    missing = missing_inputs(signature.inputs, records) or tuple(signature.inputs)
    raise BadInput(
        f"{work.where}: no example has {', '.join(missing)} in the type and shape that {signature.name!r} takes, so "
        "nothing can be compared",
        hint="Convert a signature of the features that Transform makes or that the data has.",
    )


def _batched(found: Sequence[Request], signature: Signature) -> Iterator[Sequence[Request]]:
    """One example alone, then batches of those that have the same shapes, if the signature takes batches at all."""
    most = _BATCH if all(spec.shape.rank != 0 and spec.shape[:1] != [1] for spec in signature.inputs.values()) else 1
    yield found[:1]
    alike = defaultdict[Any, list[Request]](list)
    for request in found[1:]:
        alike[tuple(value.shape for value in request.feeds.values())].append(request)
    for of_shape in alike.values():
        yield from (of_shape[start : start + most] for start in range(0, len(of_shape), most))


def _together(rows: Sequence[Feeds]) -> Feeds:
    return rows[0] if len(rows) == 1 else {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _limits(target: TfliteTarget | TfjsTarget) -> dict[str, float]:
    parity, usual = target.parity, DEFAULT_LIMITS[target.quantization]
    most = parity.max_difference if isinstance(parity.max_difference, float) else usual
    share = DEFAULT_SHARES[target.quantization] if parity.max_differing is None else parity.max_differing
    said = {"max_difference": most, "mean_difference": parity.mean_difference, "max_differing": share}
    return {name: value for name, value in said.items() if value is not None}


def _most(target: TfliteTarget | TfjsTarget, answer: Feeds) -> dict[str, float]:
    """The limits of single outputs. Raises BadInput for an output that the signature does not have."""
    said = target.parity.max_difference
    if not isinstance(said, Mapping):
        return {}
    unknown = ", ".join(sorted(said.keys() - answer.keys()))
    if unknown:
        raise BadInput(
            f"target {target.target}: parity.max_difference: the signature has no output {unknown}, only "
            f"{', '.join(sorted(answer))}",
            hint="Mend `max_difference:` in the target's file.",
        )
    return dict(said)
