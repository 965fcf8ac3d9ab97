"""Specs at random, drawn from the very models: every key of a kind, each by its JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

_TEXTS = st.one_of(
    st.sampled_from(["fare", "tips", "train", "eval", "serving_default", "Größe", "a b", "~", "null", "1", "7d", "*"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=6),
)
_NUMBERS = st.one_of(st.integers(-3, 3), st.integers(-(10**12), 10**12))
_FLOATS = st.one_of(st.sampled_from([0, 1, 0.5, 1e-9, 0.1, 1e300]), st.floats(allow_nan=False, allow_infinity=False))
_ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, _FLOATS, _TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(_TEXTS, inner, max_size=2)),
    max_leaves=4,
)

FIT: Mapping[str, st.SearchStrategy[Any]] = {
    "input": st.sampled_from(
        ["data/{SPAN}", "~/d/{YYYY}-{MM}-{DD}/v{VERSION}", {"train": "t/{SPAN}", "eval": "e/{SPAN}"}]
    ),
    "path": st.sampled_from(["schema.pbtxt", "/srv/{pipeline}", "../a b/{pipeline}", "~/x"]),
    "grpc": st.sampled_from(["localhost:8500", "[::1]:8500", "unix:///run/ctd.sock", "unix:ctd.sock"]),
    "deny": st.lists(st.sampled_from([1, -3, "2026-03-01", 2**60]), max_size=3),
    "start": st.sampled_from([1, -3, "2026-03-01"]),
    "args": st.lists(st.sampled_from(["--a=1", "--b"]), max_size=2),
    "keep": st.one_of(
        st.sampled_from([{"newest": 5}, {"spans": 3}, {"spans": 3, "versions": 1}, {"spans": 3, "versions": 4}]),
        st.dictionaries(
            st.sampled_from(["examples", "statistics", "model", "transformed_examples", "schema", "*"]),
            st.sampled_from([{"newest": 1}, {"spans": 2}, {"spans": 2, "versions": 7}]),
            min_size=1,
            max_size=2,
        ),
    ),
    "window": st.sampled_from(
        [7, "all", {"newest": 3}, {"first": "2026-03-01", "last": None}, {"pinned": ["2026-03-01", 4]}, {"all": True}]
    ),
    "metrics": st.sampled_from(
        [
            {"AUC": {"at_least": 0.5, "slices": [[]]}, "mine": {"metric": "Precision", "config": {"top_k": 1}}},
            {"AUC": {"not_worse_than_baseline_by": 0, "slices": "overall", "min_examples": 3}},
        ]
    ),
    "watch": st.sampled_from([["errors"], {"drift": 0}, {"errors": 0.5, "latency": 2}, ["errors", "latency", "drift"]]),
    "pin": st.sampled_from([3, {"taxi": 3}, None]),
    "when": st.just("change"),
}
"""Values of keys whose schema says less than the model asks for."""


def said(schema: Mapping[str, Any], kind: str, base: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """What a file may say of a node or target of a kind: the base, and a few of its other keys."""
    model = next(d for d in schema["$defs"].values() if d.get("properties", {}).get("kind", {}).get("const") == kind)
    keys = {key: _of(key, of, schema) for key, of in model["properties"].items() if key not in ("kind", "target")}
    few = st.lists(st.sampled_from(sorted(keys)), min_size=1, max_size=3, unique=True)
    more = few.flatmap(lambda chosen: st.fixed_dictionaries({key: keys[key] for key in chosen}))
    return more.map(lambda drawn: {**base, **drawn})


def _of(key: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    return FIT[key] if key in FIT and schema.get("type") != "integer" else _value(schema, root)


def _value(schema: Mapping[str, Any], root: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _value(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return st.one_of([_value(one, root) for one in schema[several]])
    made = {"object": _mapping, "array": _list, "string": _text, "integer": _integer, "number": _number}
    if schema.get("type") in made:
        return made[schema["type"]](schema, root)
    return {"boolean": st.booleans(), "null": st.none()}.get(schema.get("type", ""), _ANYTHING)


def _mapping(schema: Mapping[str, Any], root: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if "properties" in schema:
        keys = {key: _of(key, of, root) for key, of in schema["properties"].items()}
        needed = {key: keys.pop(key) for key in schema.get("required", ())}
        few = st.lists(st.sampled_from(sorted(keys)), max_size=2, unique=True) if keys else st.just([])
        return few.flatmap(lambda chosen: st.fixed_dictionaries({**needed, **{key: keys[key] for key in chosen}}))
    of = schema.get("additionalProperties", True)
    names = _value(schema["propertyNames"], root) if "propertyNames" in schema else _TEXTS
    for pattern, value in schema.get("patternProperties", {}).items():
        names, of = st.from_regex(pattern, fullmatch=True), value
    values = _ANYTHING if of is True else _value(of, root)
    return st.dictionaries(names, values, min_size=schema.get("minProperties", 0), max_size=2)


def _list(schema: Mapping[str, Any], root: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    return st.lists(_value(schema.get("items", {}), root), min_size=schema.get("minItems", 0), max_size=3)


def _text(schema: Mapping[str, Any], _root: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if schema.get("examples", [""])[0] == "30s":
        return st.from_regex(r"([1-9]\d{0,3}(\.\d{1,4})?(ms|s|m|h|d)){1,2}", fullmatch=True)
    if "pattern" in schema:
        return st.from_regex(schema["pattern"]).map(lambda said: said.removesuffix("\n"))
    return st.text(max_size=1) if schema.get("maxLength") == 1 else _TEXTS


def _integer(schema: Mapping[str, Any], _root: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    least = schema.get("minimum", schema["exclusiveMinimum"] + 1 if "exclusiveMinimum" in schema else None)
    return _NUMBERS if least is None else st.integers(least, least + 9)


def _number(schema: Mapping[str, Any], _root: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    least, most = schema.get("minimum"), schema.get("maximum", schema.get("exclusiveMaximum"))
    below = "exclusiveMaximum" in schema
    return _FLOATS if least is None else st.floats(least, most, exclude_max=below, allow_infinity=False)
