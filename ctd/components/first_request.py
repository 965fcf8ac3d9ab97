"""A request that a SavedModel answers, made of a real example and of what somebody says instead of its values.

A program of its own, for `ctd request`: a question as JSON on standard input, the answer as JSON on standard output.
Only TensorFlow's protos are imported, in a tenth of a second.
"""

from __future__ import annotations

import base64
import importlib
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, prod
from pathlib import Path
from typing import Any

from ctd.components.saved_model_inputs import Feature, Inputs, inputs_of
from ctd.components.signature_inputs import STRING, Input, feature_of, takes_examples
from ctd.components.tfrecords import read_batches
from ctd.core import partial_import
from ctd.core.errors import BadInput, CtdError, NotFound
from ctd.specs.hints import did_you_mean, listed

_NEEDED = ("tensorflow.core.protobuf.saved_model_pb2", "tensorflow.core.example.example_pb2")
_RECORDS = 500  # that are looked through for one with all that the model needs

_NAMES: Mapping[int, str] = {
    1: "float", 2: "double", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", STRING: "string", 9: "int64", 10: "bool",
    14: "bfloat16", 17: "uint16", 19: "half", 22: "uint32", 23: "uint64",
}  # fmt: skip
_WORDS = {"float_list": "a number", "int64_list": "a whole number", "bytes_list": "text"}
_OF_SCHEMA = {1: "bytes_list", 2: "int64_list", 3: "float_list"}  # TFMD's FeatureType
_NOTHING: Mapping[str, Any] = {"float_list": 0.0, "int64_list": 0, "bytes_list": ""}

Values = list[Any]


@dataclass(frozen=True)
class Question:
    """Which model is to be asked, with what: the row counts before the example, and that before nothing at all."""

    models: Sequence[str]  # folders of the same SavedModel, the best first
    examples: Sequence[str]  # folders of Examples, the best first
    schema: str = ""
    signature: str = ""
    labels: Sequence[str] = ()  # what is to be predicted: not sent, unless the model insists
    row: Mapping[str, Any] | None = None


def main() -> None:
    """Answer the question on standard input."""
    try:
        answer = answered(Question(**json.load(sys.stdin)))
    except CtdError as error:
        answer = {"error": error.message, "hint": error.hint, "exit": error.exit_code}
    json.dump(answer, sys.stdout)


def answered(question: Question) -> dict[str, Any]:
    """The request, and how it came about. Raises NotFound and BadInput."""
    inputs, folder = inputs_of(question.models, question.signature)
    records = Records(question.examples)
    said: dict[str, Any] = {"signature": inputs.signature, "saved_model": folder}
    if not _takes_examples(inputs, records, question.schema):
        return said | _Tensors(question, inputs.tensors, records).request()
    (name,) = inputs.tensors
    if inputs.sequences:
        return said | _sequences(name, records, question.row)
    return said | _in_shape(inputs.tensors[name], name, _Row(question, inputs.parsed, records).request(name))


class Records:
    """The first examples of the newest span that has any."""

    def __init__(self, folders: Sequence[str]) -> None:
        self.all: list[bytes] = next(filter(None, map(_records, folders)), [])

    def examples(self) -> Iterator[Mapping[str, tuple[str, Values]]]:
        """Features by name: their kind and values; what has no value is not there."""
        example = importlib.import_module("tensorflow.core.example.example_pb2").Example
        for record in self.all:
            found = {}
            for name, feature in example.FromString(record).features.feature.items():
                kind = feature.WhichOneof("kind")
                values = list(getattr(feature, kind).value) if kind else []
                if values:
                    found[name] = (kind, values)
            yield found


def _records(folder: str) -> list[bytes]:
    """Of the last split that has any, where evaluation data is."""
    for split in sorted(Path(folder).glob("Split-*")):
        files = sorted(str(path) for path in split.glob("data_tfrecord-*.gz"))
        batches = (record for file in files for batch in read_batches(file) for record in batch)
        found = list(itertools.islice(batches, _RECORDS))
        if found:
            return found
    return []


@dataclass(frozen=True)
class _Row:
    """A request of one tf.Example."""

    question: Question
    parsed: Mapping[str, Feature] | None  # None: nobody knows what the model looks for
    records: Records

    def request(self, name: str) -> dict[str, Any]:
        example = self._example()
        row = self.question.row
        kinds = self._kinds(example)
        wanted = list(self.parsed) if self.parsed is not None else list(kinds)
        notes = [
            f"{column}: the model does not read it, so it is left out"
            for column in self._unread(row or {}, wanted, kinds)
        ]
        features: dict[str, tuple[str, Values]] = {}
        filled: list[str] = []
        for column in wanted:
            kind, values, by_us = self._values(column, kinds[column], example)
            if by_us == "nothing":
                notes.append(f"{column}: no example has a value, and the model needs one: {_NOTHING[kind]!r} stands in")
            if by_us and values and row is not None:
                filled.append(column)
            if values:
                features[column] = (kind, values)
        return {
            "kind": "examples",
            "input": name,
            "b64": base64.b64encode(_serialized(features)).decode(),
            "row": {column: _shown(*of) for column, of in features.items()},
            "filled": filled,
            "notes": notes,
        }

    def _example(self) -> Mapping[str, tuple[str, Values]]:
        """The first example that has all that the model needs; the first at all if none has."""
        needed = [name for name, feature in (self.parsed or {}).items() if feature.required]
        examples = list(self.records.examples())
        return next((e for e in examples if all(name in e for name in needed)), examples[0] if examples else {})

    def _kinds(self, example: Mapping[str, tuple[str, Values]]) -> Mapping[str, str]:
        """All columns that are known, with what they hold: as the graph, the data or the schema says."""
        of_data = {name: kind for e in self.records.examples() for name, (kind, _) in e.items()}
        of_graph = {name: feature.kind for name, feature in (self.parsed or {}).items()}
        return {**_schema_kinds(self.question.schema), **of_data, **{n: k for n, (k, _) in example.items()}, **of_graph}

    def _unread(self, row: Mapping[str, Any], wanted: Sequence[str], kinds: Mapping[str, str]) -> list[str]:
        """Columns of the row that there are and the model does not take. Raises BadInput for what there is not."""
        for column in row:
            if column not in kinds and self.parsed is None and not kinds:
                continue
            if column not in kinds:
                hint = f"{did_you_mean(column, kinds)}The model reads {listed(wanted)}."
                raise BadInput(f"--row: there is no column {column!r}", hint=hint)
        return [column for column in row if column not in wanted]

    def _values(self, column: str, kind: str, example: Mapping[str, tuple[str, Values]]) -> tuple[str, Values, str]:
        """Kind and values of a column, and where they are from if not of the row."""
        feature = (self.parsed or {}).get(column)
        row = self.question.row or {}
        if column in row:
            values = _converted(column, row[column], kind)
            if feature is not None and feature.size is not None and len(values) != feature.size:
                raise BadInput(
                    f"--row: {column} has {len(values)} values, and the model needs exactly {feature.size}",
                    hint="null and [] are no value; a column that is left out is filled from a real example.",
                )
            return kind, values, ""
        if column in self.question.labels and not (feature and feature.required):
            return kind, [], ""
        if column in example and example[column][0] == kind:
            return kind, example[column][1], "example"
        if feature is not None and feature.size is not None:
            return kind, [_converted(column, _NOTHING[kind], kind)[0]] * feature.size, "nothing"
        return kind, [], ""


@dataclass(frozen=True)
class _Tensors:
    """A request of one tensor for each input of a signature that takes no tf.Examples."""

    question: Question
    inputs: Mapping[str, Input]
    records: Records

    def request(self) -> dict[str, Any]:
        row = dict(self.question.row or {})
        for column in row:
            if column not in self.inputs:
                hint = f"{did_you_mean(column, self.inputs)}The signature takes {listed(self.inputs)}."
                raise BadInput(f"--row: the signature has no input {column!r}", hint=hint)
        example = self._example()
        tensors, shown, filled, notes = {}, {}, [], []
        for name, (dtype, shape) in self.inputs.items():
            value = row.get(name)
            if value is None:
                value = self._of_example(name, example)
                filled += [name] if row else []
            if value is None:
                stand_in = "" if dtype == STRING else False if _NAMES.get(dtype) == "bool" else 0
                value = [stand_in] * max(1, prod(size for size in (shape or ())[1:] if size > 0))
                notes.append(f"{name}: no column has this name: {stand_in!r} stands in; say it with --row")
            tensors[name] = _tensor(name, value, dtype, shape)
            shown[name] = _said(value)
        return {
            "kind": "tensors",
            "tensors": tensors,
            "dtypes": {name: _NAMES.get(dtype, str(dtype)) for name, (dtype, _) in self.inputs.items()},
            "batched": all(shape is None or len(shape) > 0 for _, shape in self.inputs.values()),
            "row": shown,
            "filled": filled,
            "notes": notes,
        }

    def _example(self) -> Mapping[str, tuple[str, Values]]:
        examples = list(self.records.examples())
        whole = (example for example in examples if all(feature_of(name, example) for name in self.inputs))
        return next(whole, examples[0] if examples else {})

    def _of_example(self, name: str, example: Mapping[str, tuple[str, Values]]) -> Values | None:
        column = feature_of(name, example)
        kind, values = example.get(column, ("", []))
        if not column or (kind == "bytes_list") != (self.inputs[name][0] == STRING):
            return None
        return [_plain(kind, value) for value in values]


def _in_shape(taken: Input, name: str, made: dict[str, Any]) -> dict[str, Any]:
    """The request of one tf.Example, as a tensor where the input is no list of them."""
    dtype, shape = taken
    if shape is None or len(shape) == 1:
        return made
    tensors = {name: _tensor(name, {"b64": made["b64"]}, dtype, shape)}
    return {**made, "kind": "tensors", "tensors": tensors, "dtypes": {name: _NAMES[dtype]}, "batched": len(shape) > 0}


def _sequences(name: str, records: Records, row: Mapping[str, Any] | None) -> dict[str, Any]:
    """A whole record as it is: rows cannot say what is a sequence."""
    if row:
        hint = "Leave --row out: a real example is taken."
        raise BadInput("the model takes tf.SequenceExamples, which --row cannot say", hint=hint)
    if not records.all:
        raise NotFound("no span of the model has its examples any more", hint="`keep` has them removed.")
    said = base64.b64encode(records.all[0]).decode()
    return {"kind": "examples", "input": name, "b64": said, "row": {}, "filled": [], "notes": []}


def _takes_examples(inputs: Inputs, records: Records, schema: str) -> bool:
    """Whether the signature is asked with a serialized tf.Example, and not with a tensor for each input."""
    features = {name for example in records.examples() for name in example} or _schema_kinds(schema).keys()
    return takes_examples(inputs.tensors, features, lambda: inputs.parsed or ()) or inputs.sequences


def _schema_kinds(path: str) -> Mapping[str, str]:
    if not path or not Path(path).is_file():
        return {}
    proto = importlib.import_module("tensorflow_metadata.proto.v0.schema_pb2")
    text = importlib.import_module("google.protobuf.text_format")
    features = text.Parse(Path(path).read_text(), proto.Schema()).feature
    return {f.name: _OF_SCHEMA[f.type] for f in features if f.type in _OF_SCHEMA}


def _converted(column: str, said: Any, kind: str) -> Values:
    """What somebody wrote as the values of a feature. Raises BadInput for another type."""
    values = said if isinstance(said, list) else [] if said is None else [said]
    return [_value(column, value, kind) for value in values]


def _value(column: str, value: Any, kind: str) -> Any:
    number = isinstance(value, int | float)
    if kind == "bytes_list" and isinstance(value, str):
        return value.encode()
    if kind == "bytes_list" and isinstance(value, dict) and isinstance(value.get("b64"), str):
        return base64.b64decode(value["b64"])
    if kind == "float_list" and number:
        return float(value)
    if kind == "int64_list" and number and isfinite(value) and value == int(value):
        return int(value)
    quotes = " Put it in quotes." if kind == "bytes_list" and number else ""
    raise BadInput(f"--row: {column} holds {_WORDS[kind]}, not {json.dumps(value)}", hint=f"Mend --row.{quotes}")


def _serialized(features: Mapping[str, tuple[str, Values]]) -> bytes:
    example = importlib.import_module("tensorflow.core.example.example_pb2").Example()
    for name, (kind, values) in features.items():
        getattr(example.features.feature[name], kind).value.extend(values)
    return bytes(example.SerializeToString(deterministic=True))


def _shown(kind: str, values: Values) -> Any:
    plain = [_plain(kind, value) for value in values]
    return plain[0] if len(plain) == 1 else plain


def _plain(kind: str, value: Any) -> Any:
    """A value as JSON has it: floats as short as float32 tells them apart, bytes as text where they are."""
    if kind == "float_list":
        return float(f"{value:.7g}")
    if kind != "bytes_list":
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _said(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _tensor(name: str, value: Any, dtype: int, shape: Sequence[int] | None) -> Any:
    """The value in the shape of the input, with as many examples as it takes at once. Raises BadInput."""
    flat = list(_flat(value))
    for one in flat:
        if (dtype == STRING) != isinstance(one, str | dict):
            wanted = "text" if dtype == STRING else "numbers"
            raise BadInput(f"--row: input {name!r} takes {wanted}, not {json.dumps(one)}", hint="Mend --row.")
    if shape is not None and not shape:
        return flat[0]
    sizes = list(shape[1:]) if shape is not None else [len(flat)]
    free = [i for i, size in enumerate(sizes) if size < 0]
    known = prod(size for size in sizes if size >= 0)
    if free:
        for place in free[1:]:
            sizes[place] = 1
        sizes[free[0]] = len(flat) // known if known else 0
    if prod(sizes) != len(flat):
        wanted = " x ".join("any" if size < 0 else str(size) for size in (shape or ())[1:]) or "1"
        hint = "Write a number, a text, or a list of them."
        raise BadInput(f"--row: input {name!r} takes {wanted} values for an example, not {len(flat)}", hint=hint)
    at_once = shape[0] if shape and shape[0] > 0 else 1
    return [_nested(flat, sizes)] * at_once


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for one in value:
            yield from _flat(one)
    else:
        yield value


def _nested(flat: Sequence[Any], sizes: Sequence[int]) -> Any:
    if not sizes:
        return flat[0]
    step = len(flat) // sizes[0] if sizes[0] else 0
    return [_nested(flat[i * step : (i + 1) * step], sizes[1:]) for i in range(sizes[0])]


if __name__ == "__main__":
    partial_import.install(_NEEDED)
    main()
