"""JSON Schemas of pipelines and targets, for editors and for `ctd schema`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from ctd.specs.base import Spec, say_duration
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.targets import AnyTarget

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def pipeline_schema() -> dict[str, Any]:
    """What a pipeline's file may say. Wiring and files are checked by `ctd validate` only."""
    return _schema(PipelineSpec, "ctd pipeline")


def target_schema() -> dict[str, Any]:
    """What a target's file may say."""
    return _schema(AnyTarget, "ctd target")


class _Schema(GenerateJsonSchema):
    """Defaults as they would be written in a file: durations as `6h`, and nothing for what is absent."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return say_duration(dft)
        if isinstance(dft, Spec):
            return dft.model_dump(mode="json", exclude_none=True)
        return super().encode_default(dft)


def _schema(model: Any, title: str) -> dict[str, Any]:
    made = TypeAdapter(model).json_schema(mode="validation", schema_generator=_Schema)
    return {"$schema": _DIALECT, **made, "title": title}
