"""Ask a running model server, embedded or TensorFlow's own, over gRPC: where is a version, what does it predict.

The protos import TensorFlow, so only processes that may do that use this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import numpy as np
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ctd.core.errors import CtdError, StorageUnavailable, TargetUnavailable
from ctd.core.wrapped_errors import unwrapped
from ctd.serving import codec
from ctd.serving.codec import Array
from ctd.serving.errors import Code, RequestRefused, ServerDeadline
from ctd.serving.versions import Phase
from ctd.specs.targets import Server, Tls

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # a proxy for the web must not come between us and a server next door
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


@dataclass(frozen=True)
class VersionStatus:
    """Where a server has a version; no state means that it does not know it (yet)."""

    state: Phase | None
    error_code: Code = Code.OK
    error_message: str = ""

    @property
    def available(self) -> bool:
        return self.state is Phase.AVAILABLE

    @property
    def failed(self) -> bool:
        return self.state is Phase.END


@dataclass(frozen=True)
class Answered:
    """The outputs of a prediction, and the version that it was made by."""

    version: int
    outputs: Mapping[str, Array]


class Client:
    """A connection to one server; close it, or use it in a with statement."""

    def __init__(self, address: str, tls: Tls | None = None) -> None:
        self.address = address
        self._channel = (
            grpc.secure_channel(address, _credentials(tls), options=_OPTIONS)
            if tls
            else grpc.insecure_channel(address, options=_OPTIONS)
        )
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    @classmethod
    def of(cls, server: Server) -> Client:
        """A connection to the server behind a target. Raises StorageUnavailable for certificates it cannot read."""
        return cls(server.grpc, server.tls)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the connection go."""
        self._channel.close()

    def status(self, model: str, version: int, timeout: float) -> VersionStatus:
        """Where this version of a model is."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        request.model_spec.version.value = version
        try:
            response = self._models.GetModelStatus(request, timeout=timeout)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return VersionStatus(None, Code.NOT_FOUND, error.details())
            raise self._translated(error, f"status of {model} version {version}", timeout) from error
        found = response.model_version_status[0]
        return VersionStatus(Phase(found.state), Code(found.status.error_code), found.status.error_message)

    def predict(
        self, model: str, signature: str, feeds: Mapping[str, Array], *, timeout: float, version: int | None = None
    ) -> dict[str, Array]:
        """The outputs of a signature for these inputs; text may be given as numpy strings."""
        return dict(self.ask(model, signature, feeds, timeout=timeout, version=version).outputs)

    def ask(
        self, model: str, signature: str, feeds: Mapping[str, Array], *, timeout: float, version: int | None = None
    ) -> Answered:
        """As `predict`, with the version that answered; without a version that is the server's choice."""
        return self.send(predict_request(model, signature, feeds, version), timeout=timeout)

    def send(self, request: predict_pb2.PredictRequest, *, timeout: float) -> Answered:
        """The answer to a request as it is."""
        spec = request.model_spec
        try:
            response = self._predictions.Predict(request, timeout=timeout)
        except grpc.RpcError as error:
            raise self._translated(error, f"predict {spec.name}:{spec.signature_name}", timeout) from error
        outputs = {alias: codec.from_proto(proto) for alias, proto in response.outputs.items()}
        return Answered(response.model_spec.version.value, outputs)

    def answering(self, model: str, timeout: float) -> int:
        """The version that the server takes for requests that name none."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = model
        try:
            response = self._predictions.GetModelMetadata(request, timeout=timeout)
        except grpc.RpcError as error:
            raise self._translated(error, f"metadata of {model}", timeout) from error
        return int(response.model_spec.version.value)

    def labelled(self, model: str, label: str, timeout: float) -> int | None:
        """The version that answers by a label; nothing if there is no such label, or no such version."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = model
        request.model_spec.version_label = label
        try:
            response = self._predictions.GetModelMetadata(request, timeout=timeout)
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
                return None
            raise self._translated(error, f"version of {model} labelled {label}", timeout) from error
        return int(response.model_spec.version.value)

    def _translated(self, error: Any, what: str, timeout: float) -> CtdError:
        """The error class that says what to do about a failed call."""
        code = Code(error.code().value[0])
        message = f"model server at {self.address}: {what}: {code.name}: {unwrapped(error.details() or '').shown()}"
        if code is Code.UNAVAILABLE:
            hint = "check that the server runs, that the address is its gRPC port, and `server.tls` if it speaks TLS"
            return TargetUnavailable(message, hint=hint)
        if code in (Code.DEADLINE_EXCEEDED, Code.CANCELLED):
            return ServerDeadline(f"{message} (after {timeout:g} s)", hint="look at the server's load and its log")
        return RequestRefused(message, code=code, hint="compare the request with the model's signature")


def predict_request(
    model: str, signature: str, feeds: Mapping[str, Array], version: int | None = None
) -> predict_pb2.PredictRequest:
    """The request for a prediction; an empty signature means the default, no version the newest."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for alias, array in feeds.items():
        codec.fill_proto(request.inputs[alias], _served(array))
    return request


def model_status(server: Server, model: str, version: int, timeout: float) -> VersionStatus:
    """Where a server has a version of a model; one question on a connection of its own."""
    with Client.of(server) as client:
        return client.status(model, version, timeout)


def _credentials(tls: Tls) -> Any:
    ca, cert, key = (_pem(name, path) for name, path in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)))
    return grpc.ssl_channel_credentials(ca, key, cert)


def _pem(name: str, path: str | None) -> bytes | None:
    try:
        return Path(path).read_bytes() if path else None
    except OSError as error:
        raise StorageUnavailable(
            f"server.tls.{name}: {error}", hint="Mend the path in the target's file, or let ctd's user read it."
        ) from error


def _served(array: Array) -> Array:
    """The array in a type that servers take: text as UTF-8 bytes."""
    array = np.asarray(array)
    return np.char.encode(array, "utf-8").astype(np.object_) if array.dtype.kind == "U" else array
