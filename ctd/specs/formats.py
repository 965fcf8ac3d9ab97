"""How the files of a span are to be read: their format, and what CSV files do not say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ctd.specs.base import Complaint, Complaints
from ctd.specs.beam import BeamNode

_CSV_ONLY = ("columns", "delimiter", "quote", "escape", "encoding", "nulls")

_Character = Annotated[str, Field(json_schema_extra={"maxLength": 1})]


class FormatSpec(BeamNode):
    """The part of an ExampleGen's spec that is about the files themselves."""

    format: Literal["csv", "tfrecord", "parquet", "avro"] = "csv"
    payload: Literal["example", "sequence_example"] = Field(
        default="example", description="what the records of TFRecord files are: tf.Examples or tf.SequenceExamples"
    )
    types: dict[str, Literal["int", "float", "string"]] = Field(
        default={},
        description="columns of CSV, Parquet and Avro files whose type is not to be what the cells or the files say",
    )
    columns: tuple[str, ...] = Field(default=(), description="names of the columns, for CSV files without a header")
    delimiter: _Character = Field(default=",", description="what stands between the cells of a CSV file")
    quote: _Character = Field(default='"', description="what CSV cells are quoted with; '' if nothing is")
    escape: _Character = Field(default="", description="what takes the meaning of the next character in a CSV file")
    encoding: Literal["utf-8", "latin-1", "cp1252", "utf-16"] = Field(
        default="utf-8", description="of CSV files; features are always UTF-8"
    )
    nulls: tuple[str, ...] = Field(default=(), description="CSV cells without a value, such as NA, beside blank ones")
    split_by: str | None = Field(
        default=None, description="feature whose value decides the split, instead of the whole example"
    )

    @model_validator(mode="after")
    def _readable(self) -> FormatSpec:
        complaints = tuple(self._complaints())
        if complaints:
            raise Complaints(complaints)
        return self

    def _complaints(self) -> Iterator[Complaint]:
        if self.split_by == "":
            yield Complaint("`split_by` names no feature", "Write the name of one, or take it out.", ("split_by",))
        if self.payload != "example" and self.format != "tfrecord":
            hint = f"Take `payload` out: what `format: {self.format}` holds become tf.Examples."
            yield Complaint(f"`payload: {self.payload}` with `format: {self.format}`", hint, ("payload",))
        if self.format != "csv":
            for name in _CSV_ONLY:
                if getattr(self, name) != type(self).model_fields[name].default:
                    hint = f"Take `{name}` out: it is about the cells of CSV files."
                    yield Complaint(f"`{name}` with `format: {self.format}`", hint, (name,))
            if self.types and self.format == "tfrecord":
                hint = "Take `types` out: the features of tf.Examples have their types."
                yield Complaint("`types` with `format: tfrecord`", hint, ("types",))
            return
        yield from self._about_characters()
        twice = next((name for i, name in enumerate(self.columns) if name in self.columns[:i]), None)
        if twice is not None:
            yield Complaint(f"the column {twice!r} is there twice", "Give every column its own name.", ("columns",))
        for name in self.types:
            if self.columns and name not in self.columns:
                hint = "Write it as in `columns`, or take it out."
                yield Complaint(f"`types` names {name!r}, which is none of the `columns`", hint, ("types", name))

    def _about_characters(self) -> Iterator[Complaint]:
        for name, empty in (("delimiter", False), ("quote", True), ("escape", True)):
            said = getattr(self, name)
            if (not said and empty) or (len(said) == 1 and said not in "\r\n\0"):
                continue
            hint = 'Write it in quotes, such as ";" or "\\t" for a tab.'
            if name == "quote":
                hint = "Write \"'\" for cells in single quotes, '' for cells that are not quoted."
            yield Complaint(f"`{name}` must be one character, not {said!r}", hint, (name,))
        used = [said for said in (self.delimiter, self.quote, self.escape) if said]
        if len(set(used)) < len(used):
            hint = "Each of them needs a character of its own. A quote within quotes is doubled without any `escape`."
            name = "quote" if self.quote == self.delimiter else "escape"
            yield Complaint("`delimiter`, `quote` and `escape` are not three different characters", hint, (name,))
