"""What a transform is told, takes and makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from ctd.core.artifacts import ArtifactType as T
from ctd.core.selectors import LastMade, Latest, Newest, Take
from ctd.specs.base import Name, Piece
from ctd.specs.windows import ModuleNode


class TransformSpec(ModuleNode):
    """TFT: the user's preprocessing_fn analysed over a window and applied to it."""

    usual_pool: ClassVar[str] = "beam"

    kind: Literal["transform"]
    analyze_splits: tuple[Name, ...] = ("train",)
    custom_config: dict[str, Any] = Field(default={}, description="given to a preprocessing_fn that asks for it")
    materialize: bool = Field(
        default=True,
        description="write transformed examples; false: the trainer is given the raw ones and applies the graph itself",
    )

    def pieces(self) -> tuple[Piece, ...]:
        takes = {
            "examples": Take(T.EXAMPLES, self.selector(Newest(1)), prefer="examples"),
            "schema": Take(T.SCHEMA, Latest()),
            "analyzer_cache": Take(T.TRANSFORM_CACHE, LastMade(), optional=True, triggers=False),
        }
        makes = {"transform_graph": T.TRANSFORM_GRAPH, "updated_analyzer_cache": T.TRANSFORM_CACHE}
        if self.materialize:
            makes["transformed_examples"] = T.EXAMPLES
        # Version 2: analysed span by span, where approximate quantiles may differ from those of one pass.
        return (replace(self.code_piece("ctd.components.transform", takes, makes), version=2),)
