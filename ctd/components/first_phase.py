"""What TFT's analyzers of the first phase are given, computed by the graph that TFT traced to find the analyzers.

TFT itself traces preprocessing_fn once more, saves that as a model, loads it and runs it: which takes longer than all
the rest of the analysis of a span, and gives the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from apache_beam import pvalue
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from tensorflow.python.eager import wrap_function
from tensorflow_transform import tf2_utils
from tensorflow_transform.beam import impl
from tfx_bsl.tfxio.tensor_adapter import TensorAdapter, TensorAdapterConfig

from ctd.components.beam_in_memory import Graph

_Apply = impl._ApplySavedModelImpl  # noqa: SLF001 - TFT has no public name for the steps of its pipelines
_Create = impl._CreateSavedModelImplV2  # noqa: SLF001


@dataclass(frozen=True)
class FirstPhase:
    """Makes the values of `applied` of batches of examples."""

    applied: tuple[pvalue.PCollection, ...]
    _names: Sequence[str]
    _function: Any
    _adapter: TensorAdapter

    def __call__(self, batch: pa.RecordBatch) -> Mapping[str, Any]:
        """The tensors that analyzers read, by the names that TFT gave them."""
        features = self._adapter.ToBatchTensors(batch, produce_eager_tensors=True)
        values = self._function(*tf.nest.flatten(features, expand_composites=True))
        return dict(zip(self._names, map(np.asarray, values), strict=True))


def first_phase(graph: Graph, config: TensorAdapterConfig) -> FirstPhase | None:
    """The first phase of an analysis; None if it takes TFT's own way: it uses tables, or checks what it is given."""
    steps = _Steps()
    graph.pipeline.visit(steps)
    if not steps.applied or not steps.tensors:
        return None
    traced = next(iter(steps.tensors.values())).graph
    if any(not op.type.startswith("LookupTable") for op in traced.control_outputs):
        return None
    inputs = tf2_utils.get_structured_inputs_from_func_graph(traced)
    whole = wrap_function.WrappedFunction(traced, wrap_function.VariableHolder(share_variables=True))
    feeds = tf.nest.flatten(inputs, expand_composites=True)
    function = whole.prune(feeds, [*steps.tensors.values()])
    if any(inside.consumers() for _, inside in function.graph.captures):
        return None
    return FirstPhase(tuple(steps.applied), [*steps.tensors], function, TensorAdapter(config))


class _Steps(PipelineVisitor):
    """Where the first phase is applied, and the tensors that it gives."""

    def __init__(self) -> None:
        self.applied: list[pvalue.PCollection] = []
        self.tensors: dict[str, tf.Tensor] = {}

    def enter_composite_transform(self, transform_node: AppliedPTransform) -> None:
        transform = transform_node.transform
        if isinstance(transform, _Apply) and transform._phase == 0:  # noqa: SLF001
            self.applied.extend(transform_node.outputs.values())
        if isinstance(transform, _Create) and "[Phase0]" in transform_node.full_label:
            self.tensors = dict(transform._output_signature)  # noqa: SLF001
