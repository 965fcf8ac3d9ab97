"""From flags and the files they name to what a server shall have and do."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.config import model_server_config_pb2

from ctd.serving import metrics, side_protos
from ctd.serving.batching import Parameters
from ctd.serving.errors import Code, ServingError, invalid
from ctd.serving.flags import Flags
from ctd.serving.model_state import ModelConfig
from ctd.serving.versions import All, Latest, Policy, Specific

log = logging.getLogger(__name__)

_BATCHING = {
    "max_batch_size": "max_batch_size",
    "max_enqueued_batches": "max_enqueued_batches",
    "num_batch_threads": "threads",
}
_NOT_OBEYED = ("max_execution_batch_size", "enable_large_batch_splitting")  # of BatchingParameters

_NUMBER = re.compile(r"\s*[+-]?[0-9]+\s*")


def from_flags(flags: Flags, before: Sequence[ModelConfig] = ()) -> tuple[ModelConfig, ...]:
    """The models that the command line asks for, and the files that it names say now.

    A file that says nothing is one to begin with, and not one to go over to from models that are served: it is what
    is left of a file that is written in place, or on a full disk.
    """
    if not flags.model_config_file and not flags.model_base_path:
        return ()
    if not flags.model_config_file:
        policy: Policy = All() if flags.model_version_policy == "ALL_VERSIONS" else Latest()
        return (ModelConfig(flags.model_name, _absolute(flags.model_name, flags.model_base_path), policy),)
    message = side_protos.read_text(Path(flags.model_config_file), model_server_config_pb2.ModelServerConfig())
    if before and message.WhichOneof("config") is None:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to "
            f"another: {flags.model_config_file} says nothing",
        )
    return _from_message(message)


def metrics_path(flags: Flags) -> str:
    """Where the REST port shows metrics; empty for nowhere."""
    if not flags.monitoring_config_file:
        return ""
    message = side_protos.message_class("MonitoringConfig")()
    wish = side_protos.read_text(Path(flags.monitoring_config_file), message).prometheus_config
    if wish.enable and wish.path and not wish.path.startswith("/"):
        raise invalid(f"prometheus_config: path {wish.path!r} must start with a slash")
    return (wish.path or metrics.DEFAULT_PATH) if wish.enable else ""


def check_platforms(flags: Flags) -> None:
    """Raise ServingError for a platform config file that tensorflow_model_server could not read either."""
    if flags.platform_config_file:
        side_protos.check_platforms(Path(flags.platform_config_file))


def channel_arguments(flags: Flags) -> tuple[tuple[str, int | str], ...]:
    """The arguments of the gRPC server, numbers as numbers."""
    found = []
    for argument in filter(None, flags.grpc_channel_arguments.split(",")):
        key, equals, value = argument.partition("=")
        if not equals or not key.strip():
            raise invalid(f"--grpc_channel_arguments: {argument!r} is not of the form key=value")
        found.append((key.strip(), int(value) if _NUMBER.fullmatch(value) else value))
    return tuple(found)


def batching(flags: Flags) -> Parameters | None:
    """How requests are to be batched; None for not at all."""
    if not flags.enable_batching:
        return None
    if not flags.batching_parameters_file:
        return Parameters()
    message = side_protos.message_class("BatchingParameters")()
    wish = side_protos.read_text(Path(flags.batching_parameters_file), message)
    idle = [name for name in _NOT_OBEYED if wish.HasField(name)]
    if idle:
        log.warning("%s: no effect here: %s", flags.batching_parameters_file, ", ".join(idle))
    given: dict[str, Any] = {
        ours: getattr(wish, theirs).value for theirs, ours in _BATCHING.items() if wish.HasField(theirs)
    }
    if wish.HasField("batch_timeout_micros"):
        given["timeout_seconds"] = wish.batch_timeout_micros.value / 1e6
    return Parameters(
        **given,
        allowed_sizes=tuple(wish.allowed_batch_sizes),
        pad_variable_lengths=wish.pad_variable_length_inputs,
    )


def credentials(flags: Flags) -> Any:
    """What the gRPC port proves itself with, and asks of its clients; None for a port in clear."""
    if flags.use_alts_credentials:
        return grpc.alts_server_credentials()
    if not flags.ssl_config_file:
        return None
    message = side_protos.message_class("SSLConfig")()
    wish = side_protos.read_text(Path(flags.ssl_config_file), message)
    if not wish.server_key or not wish.server_cert:
        raise invalid(f"{flags.ssl_config_file}: server_key and server_cert are needed, each as PEM text")
    if wish.client_verify and not wish.custom_ca:
        raise invalid(f"{flags.ssl_config_file}: client_verify needs custom_ca, the PEM text of who signs clients")
    return grpc.ssl_server_credentials(
        [(wish.server_key.encode(), wish.server_cert.encode())],
        root_certificates=wish.custom_ca.encode() or None,
        require_client_auth=wish.client_verify,
    )


def from_request(message: Any) -> tuple[ModelConfig, ...]:
    """The models of the ModelServerConfig in a request; raises ServingError for one that cannot be obeyed."""
    if message.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
            "supported"
        )
    return _from_message(message)


def _from_message(message: Any) -> tuple[ModelConfig, ...]:
    if message.WhichOneof("config") == "custom_model_config":
        raise invalid("custom_model_config is not supported: use model_config_list")
    configs = tuple(_model(entry) for entry in message.model_config_list.config)
    names = [config.name for config in configs]
    for name in names:
        if names.count(name) > 1:
            raise invalid(f"Illegal to list model {name} multiple times in config list")
    return configs


def _model(entry: Any) -> ModelConfig:
    if not entry.name:
        raise invalid("A model in the config list has no name")
    if entry.model_platform not in ("", "tensorflow"):
        raise invalid(f"Model {entry.name}: platform {entry.model_platform!r} is not supported, only 'tensorflow'")
    if entry.HasField("logging_config"):
        raise invalid(f"Model {entry.name}: logging_config is not supported: requests are not logged")
    labels = dict(entry.version_labels)
    return ModelConfig(entry.name, _absolute(entry.name, entry.base_path), _policy(entry.model_version_policy), labels)


def _policy(message: Any) -> Policy:
    match message.WhichOneof("policy_choice"):
        case "all":
            return All()
        case "specific":
            numbers: Sequence[int] = message.specific.versions
            if not numbers:
                raise invalid("A specific version policy must name at least one version")
            return Specific(frozenset(numbers))
        case _:
            return Latest(message.latest.num_versions or 1)


def _absolute(name: str, text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise invalid(f"Expected model {name} to have an absolute path or URI; got base_path()={text}")
    return path
