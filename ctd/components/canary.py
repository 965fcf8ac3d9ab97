"""Watches a version that serves beside the live one, and lets it take over or takes it back, with the reason.

It waits more than it works: it takes no slot, and imports of TensorFlow only the protos that requests are made of.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from ctd.components.api import Outputs, Work
from ctd.core import partial_import

_NEEDED = (
    "tensorflow_serving.apis.prediction_service_pb2_grpc",
    "tensorflow_serving.apis.model_service_pb2_grpc",
    "tensorflow_serving.config.model_server_config_pb2",
)


def run(work: Work) -> Outputs:
    """Watch until the end of the trial."""
    # Where the parts do not import alone, all of TensorFlow does: slow, but not wrong.
    partial_import.install(_NEEDED)
    watch: Callable[[Work], Any] = importlib.import_module("ctd.components.canary_watch").watch
    outputs: Outputs = watch(work)
    return outputs
