"""Whatever spec `ctd validate` accepts, the process of an execution reads the same one from its job."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from spec_strategies import said

from ctd.components.api import Work
from ctd.core.work import Request
from ctd.specs.base import NodeSpec
from ctd.specs.nodes import AnyNode
from ctd.specs.schema import pipeline_schema, target_schema
from ctd.specs.targets import AnyTarget, read_target

NODES: TypeAdapter[Any] = TypeAdapter(AnyNode)
TARGETS: TypeAdapter[Any] = TypeAdapter(AnyTarget)

BASES: dict[str, dict[str, Any]] = {
    "example_gen": {"kind": "example_gen", "input": "data/{SPAN}"},
    "statistics_gen": {"kind": "statistics_gen"},
    "schema_gen": {"kind": "schema_gen"},
    "importer": {"kind": "importer", "artifact": "Schema", "path": "schema.pbtxt"},
    "example_validator": {"kind": "example_validator"},
    "transform": {"kind": "transform"},
    "trainer": {"kind": "trainer"},
    "evaluator": {"kind": "evaluator", "label_key": "tips", "metrics": {"AUC": {}}},
    "infra_validator": {"kind": "infra_validator"},
    "pusher": {"kind": "pusher", "targets": ["serving"]},
}
SERVER = {"grpc": "localhost:8500", "config": "models.config"}
DESTINATIONS: dict[str, dict[str, Any]] = {
    "tf_serving": {"target": "serving", "kind": "tf_serving", "path": "../serving/{pipeline}", "server": SERVER},
    "tflite": {"target": "phones", "kind": "tflite", "path": "../phones/{pipeline}"},
    "tfjs": {"target": "web", "kind": "tfjs", "path": "../web/{pipeline}"},
    "hub": {"target": "hub", "kind": "hub", "path": "../hub/{pipeline}"},
}
TRIED = settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])


def any_of(schema: dict[str, Any], bases: dict[str, dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of([said(schema, kind, base) for kind, base in bases.items()])


def accepted(adapter: TypeAdapter[Any], value: dict[str, Any]) -> Any:
    """What a file that says this declares, as `ctd validate` reads it; files that are refused do not count."""
    try:
        return adapter.validate_json(json.dumps(value), strict=True, context={"base": "/specs"})
    except (ValidationError, ValueError):
        assume(False)
    return None


def received(**told: Any) -> Work:
    """The job as the process finds it: through a file of JSON."""
    request = Request(1, "taxi", "node", "kind", "key", "ctd.components.node", "/staging", outputs={}, **told)
    return Work(Request.from_json(json.loads(json.dumps(asdict(request)))))


def keeping(kind: str, **keep: Any) -> dict[str, Any]:
    return {**BASES[kind], "keep": keep}


@TRIED
@given(any_of(pipeline_schema(), BASES))
@example(keeping("trainer", newest=5))
@example(keeping("transform", transformed_examples={"newest": 1}))
@example(keeping("example_gen", spans=30, versions=1))
@example({**BASES["trainer"], "when": "schedule", "schedule": {"cron": "0 3 * * *", "timezone": "Europe/Berlin"}})
@example({**BASES["evaluator"], "when": "schedule", "schedule": {"every": "1h30m"}, "min_interval": "90m"})
def test_a_worker_reads_the_node_that_the_file_declares(value: dict[str, Any]) -> None:
    node: NodeSpec = accepted(NODES, value)
    assert received(spec=node.to_json()).spec(type(node)) == node
    assert type(node).model_validate(node.model_dump(mode="json")) == node, "a default that is said changes nothing"


@TRIED
@given(any_of(target_schema(), DESTINATIONS))
@example({**DESTINATIONS["tf_serving"], "canary": {"watch": ["errors"]}})
def test_a_worker_reads_the_target_that_the_file_declares(value: dict[str, Any]) -> None:
    target = accepted(TARGETS, value)
    assert read_target(received(spec={}, target=target.to_json()).request.target) == target
    assert read_target(target.model_dump(mode="json")) == target, "a default that is said changes nothing"


@pytest.mark.parametrize(
    ("schema", "bases"), [(pipeline_schema(), BASES), (target_schema(), DESTINATIONS)], ids=["nodes", "targets"]
)
def test_every_kind_is_tried(schema: dict[str, Any], bases: dict[str, Any]) -> None:
    kinds = {d["properties"]["kind"]["const"] for d in schema["$defs"].values() if "kind" in d.get("properties", {})}
    assert kinds == bases.keys()


def test_what_a_worker_is_told_does_not_depend_on_where_it_starts(tmp_path: Any) -> None:
    node = accepted(NODES, {**BASES["trainer"], "module": "taxi.py", "code_deps": ["../words.txt"]})
    here = os.getcwd()  # noqa: PTH109
    os.chdir(tmp_path)
    try:
        assert received(spec=node.to_json()).spec(type(node)) == node
    finally:
        os.chdir(here)
