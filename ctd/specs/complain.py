"""pydantic's errors in the words of someone who wrote a spec: what is wrong in which line, and what to write."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from ctd.specs.base import Complaints
from ctd.specs.document import Document, Place
from ctd.specs.hints import did_you_mean, listed
from ctd.specs.problems import Problem

_NAME_RULE = "has lower-case letters, digits, - and _, begins with a letter or digit, and is no longer than 63"

_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "string": "text",
    "bool": "true or false",
    "dict": "a mapping, `key: value`",
    "mapping": "a mapping, `key: value`",
    "model": "a mapping, `key: value`",
    "tuple": "a list",
    "list": "a list",
}
_LIMITS = {
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
}


@dataclass(frozen=True)
class Placed:
    """A problem, and the place in the file that is at fault.

    `missing` is the key that is to be there, `instead` what was probably meant. `of_all` says that it is about the file
    as a whole, such as how nodes fit together; `among`, that it is about how the keys of this place fit together.
    """

    place: Place
    problem: Problem
    missing: str = ""
    instead: str = ""
    of_all: bool = False
    among: Place | None = None
    needless: bool = False  # the key that is at fault means nothing to others


def problems_of(error: ValidationError, document: Document, model: Any) -> list[Placed]:
    """Every error of a validation as a problem at its line."""
    return [p for details in error.errors(include_url=False) for p in _problems(details, document, model)]


def _problems(details: ErrorDetails, document: Document, model: Any) -> Iterator[Placed]:
    location: Place = tuple(step for step in details["loc"] if step != "[key]")
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, Complaints):
        for complaint in cause.complaints:
            placed = _placed(document, (*location, *complaint.at), str(complaint), complaint.hint)
            yield replace(placed, of_all=not location, among=document.place(location))
        return
    where = _where(document, location)
    if cause is not None:
        at = (*location, *getattr(cause, "at", ()))
        placed = _placed(document, at, f"{where}: {cause}", getattr(cause, "hint", ""))
        yield replace(placed, among=document.place(location))
        return
    message, hint = _said(details, location, model)
    if location[-1:] == ("kind",):
        where = _where(document, location[:-1])  # it is the node that has a kind
    if details["type"] == "union_tag_invalid":
        location = (*location, "kind")
    missing = str(location[-1]) if details["type"] == "missing" else ""
    instead = _meant(details["input"], location[:-1], model) if details["type"] == "union_tag_invalid" else ""
    placed = _placed(document, location, f"{where} {message}", hint)
    yield replace(placed, missing=missing, instead=instead, needless=details["type"] == "extra_forbidden")


def _placed(document: Document, location: Place, message: str, hint: str) -> Placed:
    return Placed(document.place(location), document.problem(location, message, hint))


def _where(document: Document, location: Place) -> str:
    return ".".join(str(step) for step in document.place(location)) or "the file"


def _said(details: ErrorDetails, location: Place, model: Any) -> tuple[str, str]:
    """Message (what follows the name of the place) and hint."""
    kind, value, ctx = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(location, model)
    if kind == "missing":
        return f"lacks the key {str(location[-1])!r}", _description(model, location)
    if kind in ("union_tag_not_found", "union_tag_invalid") or (kind == "literal_error" and location[-1] == "kind"):
        return _unknown_kind(value, location, model)
    if kind == "literal_error":
        known = [str(word) for word in _choices(_shape(model, location)[0])]
        return f"must be {listed(known, 'or')}, not {_shown(value)}", did_you_mean(str(value), known).strip()
    if kind in _LIMITS:
        return f"{_LIMITS[kind].format(**ctx)}, not {_shown(value)}", _description(model, location)
    if kind == "string_pattern_mismatch":
        return _no_match(value, location, model, details["loc"][-1:] == ("[key]",))
    if kind == "too_short":
        return "is empty", "Write at least one."
    wanted = next((words for name, words in _WANTED.items() if kind.startswith(name)), None)
    if wanted:
        return f"must be {wanted}, not {_shown(value)}", _way_out(wanted, value)
    return f"cannot be {_shown(value)}: {details['msg']}", _description(model, location)


def _unknown_key(location: Place, model: Any) -> tuple[str, str]:
    owner, _ = _shape(model, location[:-1])
    known = list(owner.model_fields) if isinstance(owner, type) and issubclass(owner, BaseModel) else []
    key = str(location[-1])
    called = _called(owner)
    message = f"is no key that {called} has" if called else "is no key that is known here"
    return message, f"{did_you_mean(key, known)}Known are {listed(known)}."


def _called(owner: Any) -> str:
    """How users call a model: by its kind, if it has one."""
    fields = getattr(owner, "model_fields", {})
    kinds = _choices(fields["kind"].annotation) if "kind" in fields else []
    if kinds:
        return f"{'an' if str(kinds[0])[0] in 'aeiou' else 'a'} {kinds[0]}"
    return {"PipelineSpec": "a pipeline"}.get(getattr(owner, "__name__", ""), "")


def _kinds(location: Place, model: Any) -> list[str]:
    shape, _ = _shape(model, location)
    return [str(kind) for m in _members(shape) for kind in _choices(m.model_fields["kind"].annotation)]


def _meant(value: Any, location: Place, model: Any) -> str:
    """The kind that was probably meant by one that there is not."""
    said = str(value.get("kind")) if isinstance(value, Mapping) else ""
    return next(iter(difflib.get_close_matches(said.lower(), _kinds(location, model), n=1)), "")


def _unknown_kind(value: Any, location: Place, model: Any) -> tuple[str, str]:
    place = location[:-1] if location and location[-1] == "kind" else location
    known = _kinds(place, model)
    said = value.get("kind") if isinstance(value, Mapping) else value
    if said is None:
        return "lacks the key 'kind'", f"Kinds are {listed(known)}."
    return f"has the unknown kind {str(said)[:80]!r}", f"{did_you_mean(str(said), known)}Kinds are {listed(known)}."


def _no_match(value: Any, location: Place, model: Any, is_key: bool) -> tuple[str, str]:
    name = str(value)
    slug = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name.lower()).strip("-_")[:63]
    description = "" if is_key else _description(model, location)
    if description:
        return f"cannot be {_shown(value)}", description
    return f"cannot be the name {name[:80]!r}: a name {_NAME_RULE}", f"Write for instance {slug!r}." if slug else ""


def _way_out(wanted: str, value: Any) -> str:
    """How the value would have to be written."""
    if wanted == "text" and isinstance(value, bool | int | float):
        return f'Put it in quotes: "{str(value).lower() if isinstance(value, bool) else value}".'
    if wanted == "true or false":
        return "Write true or false; yes, no, on and off are plain text in YAML 1.2."
    if "number" in wanted and isinstance(value, str):
        number = value.replace(".", "", 1).replace("-", "", 1).isdigit()
        return "Write it without quotes and without leading zeros." if number else "Write digits only, as in 7."
    if wanted == "a list":
        return f"Write [{value}]." if isinstance(value, str | int) else "Write [a, b], or lines that begin with `- `."
    if wanted.startswith("a mapping"):
        return "Indent its keys below it, or write {key: value}."
    return ""


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return f"the text {value[:80]!r}"
    return str(value)


def _description(model: Any, location: Place) -> str:
    """What the field is for, as a sentence."""
    _, field = _shape(model, location)
    said = field.description if field is not None else None
    return f"{said[0].upper()}{said[1:]}." if said else ""


def _shape(annotation: Any, location: Place) -> tuple[Any, FieldInfo | None]:
    """The type that stands at a location, and its field. Steps are keys, items, and kinds of tagged unions."""
    field: FieldInfo | None = None
    for step in location:
        annotation = _bare(annotation)
        tagged = [m for m in _members(annotation) if step in _choices(_kind_of(m))]
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if step not in annotation.model_fields:
                return (annotation, None) if tagged else (None, None)
            field = annotation.model_fields[str(step)]
            annotation = field.annotation
        elif tagged:
            annotation = tagged[0]
        else:
            arguments = get_args(annotation)
            if not arguments:
                return None, None
            annotation, field = arguments[-1] if arguments[-1] is not Ellipsis else arguments[0], None
    return _bare(annotation), field


def _bare(annotation: Any) -> Any:
    """Without `Annotated` and `| None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            left = [a for a in get_args(annotation) if a is not type(None)]
            if len(left) > 1:
                return annotation
            annotation = left[0]
        else:
            return annotation


def _members(annotation: Any) -> list[Any]:
    """The models of a union, or the one model."""
    annotation = _bare(annotation)
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return [m for m in map(_bare, members) if isinstance(m, type) and issubclass(m, BaseModel) and _kind_of(m)]


def _kind_of(model: Any) -> Any:
    field = model.model_fields.get("kind")
    return field.annotation if field else None


def _choices(annotation: Any) -> list[Any]:
    """The words of a Literal, also inside a list or an optional."""
    annotation = _bare(annotation)
    arguments = get_args(annotation)
    if arguments and all(isinstance(a, str | int) for a in arguments):
        return list(arguments)
    return [word for a in arguments for word in _choices(a)]
