"""The gRPC face: PredictionService and ModelService, as TensorFlow Serving's clients expect them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from ctd.serving import config, inference
from ctd.serving.errors import Code, ServingError, invalid
from ctd.serving.flags import Flags
from ctd.serving.health import Health
from ctd.serving.inference import Runnable
from ctd.serving.loader import Servable
from ctd.serving.metrics import Metrics
from ctd.serving.models import Models
from ctd.serving.refusals import mark_failed, refuse
from ctd.serving.versions import Version
from ctd.serving.visit import Visit

_LARGEST_MESSAGE = 2**31 - 1
_LONGEST_RELOAD = 3600.0  # seconds that a caller without a deadline waits for new models

M = TypeVar("M", bound=Message)


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers with whatever version is available when the request arrives."""

    def __init__(self, models: Models[Servable], metrics: Metrics | None) -> None:
        self._models = models
        self._metrics = metrics

    def Predict(self, request: Any, context: Any) -> Message:  # noqa: N802  # the name in the proto
        return self._answer("Predict", inference.predict, request, request.model_spec, context)

    def Classify(self, request: Any, context: Any) -> Message:  # noqa: N802
        return self._answer("Classify", inference.classify, request, request.model_spec, context)

    def Regress(self, request: Any, context: Any) -> Message:  # noqa: N802
        return self._answer("Regress", inference.regress, request, request.model_spec, context)

    def MultiInference(self, request: Any, context: Any) -> Message:  # noqa: N802
        if not request.tasks:
            refuse(context, Code.INVALID_ARGUMENT, "MultiInferenceRequest has no tasks")
        return self._answer("MultiInference", inference.multi_inference, request, request.tasks[0].model_spec, context)

    def GetModelMetadata(self, request: Any, context: Any) -> Message:  # noqa: N802
        return self._answer("GetModelMetadata", inference.metadata, request, request.model_spec, context)

    def _answer(self, api: str, call: Callable[[Runnable, int, Any], M], request: Any, spec: Any, context: Any) -> M:
        try:
            with Visit(api, "GRPC", context.time_remaining(), self._metrics) as visit:
                visit.check_deadline()
                with lend(self._models, spec) as lease:
                    return call(visit.of(lease.servable, lease.model), lease.version, request)
        except ServingError as error:
            refuse(context, error.code, error.message)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Tells where versions are, and takes a new configuration."""

    def __init__(self, models: Models[Servable], *, early_labels: bool) -> None:
        self._models = models
        self._early_labels = early_labels

    def GetModelStatus(self, request: Any, context: Any) -> Message:  # noqa: N802
        if not request.HasField("model_spec"):
            refuse(context, Code.INVALID_ARGUMENT, "Missing ModelSpec")
        try:
            return status(self._models, request.model_spec)
        except ServingError as error:
            refuse(context, error.code, error.message)

    def HandleReloadConfigRequest(self, request: Any, context: Any) -> Message:  # noqa: N802
        response = model_management_pb2.ReloadConfigResponse()
        try:
            before = {known.name for known in self._models.configs()}
            self._models.reconfigure(config.from_request(request.config), early_labels=self._early_labels)
            self._await_models(context, before)
        except ServingError as error:
            response.status.error_code = int(error.code)
            response.status.error_message = error.message
            mark_failed(context, error.code, error.message)
        return response

    def _await_models(self, context: Any, before: set[str]) -> None:
        """Wait for models that are new; the caller is told if one of them does not come to answer."""
        remaining = context.time_remaining()
        if not self._models.wait_settled(_LONGEST_RELOAD if remaining is None else remaining):
            raise ServingError(Code.DEADLINE_EXCEEDED, "the new configuration is in force but still loading")
        failed = [name for name in self._models.failed_models() if name not in before]
        if failed:
            raise ServingError(
                Code.UNKNOWN, f"{len(failed)} servable(s) did not become available: {{{', '.join(sorted(failed))}}}"
            )
        if not self._early_labels:
            self._models.check_labels()


def lend(models: Models[Servable], spec: Any) -> Any:
    """The version a ModelSpec means, as a context manager around its lease."""
    number = spec.version.value if spec.WhichOneof("version_choice") == "version" else None
    lease: Any = models.lease(spec.name, number, spec.version_label)
    return lease


def status(models: Models[Servable], spec: Any) -> get_model_status_pb2.GetModelStatusResponse:
    """Where the versions of a model are, as the ModelService says it."""
    number = spec.version.value if spec.WhichOneof("version_choice") == "version" else None
    response = get_model_status_pb2.GetModelStatusResponse()
    for version in models.statuses(spec.name, number, spec.version_label):
        _fill_status(response.model_version_status.add(), version)
    return response


def _fill_status(message: Any, version: Version) -> None:
    message.version = version.number
    message.state = int(version.phase)
    message.status.error_code = version.code
    message.status.error_message = version.message


def build_server(
    models: Models[Servable], flags: Flags, metrics: Metrics | None = None, health: Health | None = None
) -> Any:
    """A gRPC server that is not listening yet."""
    options: dict[str, int | str] = {
        "grpc.max_receive_message_length": _LARGEST_MESSAGE,
        "grpc.max_send_message_length": _LARGEST_MESSAGE,
        "grpc.so_reuseport": 0,  # two servers on one port would share requests in silence
        **dict(config.channel_arguments(flags)),
    }
    server = grpc.server(
        ThreadPoolExecutor(flags.grpc_max_threads, thread_name_prefix="grpc"), options=list(options.items())
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(models, metrics), server)
    service = ModelService(models, early_labels=flags.allow_version_labels_for_unavailable_models)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(service, server)
    if health:
        server.add_generic_rpc_handlers((health.handler(),))
    return server


def listen(server: Any, address: str, credentials: Any = None) -> int:
    """Bind an address and return its port; with credentials it speaks TLS."""
    try:
        port: int = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError as error:
        raise invalid(f"cannot listen on {address} for gRPC: {error}") from error
    return port
