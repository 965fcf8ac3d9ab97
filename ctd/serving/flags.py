"""The command line: every flag that tensorflow_model_server has or had, and a few of ours.

Each is accepted, so that a command line written for one server starts the other; what has no meaning here is kept, for
the server to name it in one warning. What is a flag of neither server is a slip of the pen, and refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any, NoReturn

import ctd
from ctd.specs.hints import did_you_mean

VERSION_POLICIES = ("LATEST_VERSION", "ALL_VERSIONS")

_TRUE = ("true", "t", "1", "yes")
_FALSE = ("false", "f", "0", "no")


@dataclass(frozen=True)
class Flags:
    """How one server process runs."""

    port: int = 8500
    grpc_socket_path: str = ""
    rest_api_port: int | None = None
    rest_api_timeout_in_ms: int = 30_000
    rest_api_num_threads: int = 8
    grpc_max_threads: int = 8
    grpc_channel_arguments: str = ""
    bind: str = "127.0.0.1"
    model_name: str = "default"
    model_base_path: str = ""
    model_version_policy: str = "LATEST_VERSION"
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: float = 0.0
    file_system_poll_wait_seconds: float = 1.0
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 1_000_000
    num_load_threads: int = 1
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 0
    allow_version_labels_for_unavailable_models: bool = False
    saved_model_tags: str = "serve"
    tensorflow_session_parallelism: int | None = None
    tensorflow_intra_op_parallelism: int | None = None
    tensorflow_inter_op_parallelism: int | None = None
    tensorflow_session_config_file: str = ""
    platform_config_file: str = ""
    enable_batching: bool = False
    batching_parameters_file: str = ""
    monitoring_config_file: str = ""
    ssl_config_file: str = ""
    use_alts_credentials: bool = False
    enable_grpc_healthcheck_service: bool = True
    rest_api_enable_cors_support: bool = False
    op_libraries: str = ""
    hub_path: str = ""
    whole_tensorflow: bool = False
    unheeded: tuple[str, ...] = ()
    """Flags of tensorflow_model_server that were given and change nothing here."""


_HELP = {
    "port": "TCP port of the gRPC API; 0 takes a free one, or none if --grpc_socket_path is given",
    "grpc_socket_path": "UNIX socket for the gRPC API",
    "rest_api_port": "TCP port of the REST API; 0 takes a free one; not given means no REST API",
    "rest_api_timeout_in_ms": "longest time a REST request may take",
    "rest_api_num_threads": "threads that answer REST requests",
    "grpc_max_threads": "threads that answer gRPC requests",
    "grpc_channel_arguments": "comma-separated arguments of the gRPC server, such as grpc.max_connection_age_ms=2000",
    "bind": "address to listen on (ctd's own flag; tensorflow_model_server listens everywhere)",
    "model_name": "name of the model; ignored with --model_config_file",
    "model_base_path": "directory that holds the numbered version directories",
    "model_version_policy": "LATEST_VERSION or ALL_VERSIONS; ignored with --model_config_file",
    "model_config_file": "text ModelServerConfig, for several models, version policies and labels",
    "model_config_file_poll_wait_seconds": "time between looks at the config file; 0 reads it once",
    "file_system_poll_wait_seconds": "time between looks at the base path; 0 looks once, less than 0 never",
    "max_num_load_retries": "how often a failed load is tried again before the version ends",
    "load_retry_interval_micros": "time between two tries to load a version",
    "num_load_threads": "versions that load at the same time",
    "enable_model_warmup": "replay assets.extra/tf_serving_warmup_requests before a version answers",
    "num_request_iterations_for_warmup": "how often to replay each of them, if more than 0",
    "allow_version_labels_for_unavailable_models": "accept a label for a version that is not loaded yet",
    "saved_model_tags": "comma-separated tags of the graph to load",
    "tensorflow_session_parallelism": "both of the next two",
    "tensorflow_intra_op_parallelism": "threads inside one TensorFlow op (1); 0 lets TensorFlow choose",
    "tensorflow_inter_op_parallelism": "TensorFlow ops side by side (1: a request's own thread); 0: TensorFlow chooses",
    "tensorflow_session_config_file": "text ConfigProto of TensorFlow's sessions",
    "platform_config_file": "text PlatformConfigMap; checked, and then without effect",
    "enable_batching": "run requests for one signature that arrive together as one batch",
    "batching_parameters_file": "text BatchingParameters; needs --enable_batching",
    "monitoring_config_file": "text MonitoringConfig; with prometheus_config the REST port has a page of metrics",
    "ssl_config_file": "text SSLConfig; the gRPC port then speaks TLS only",
    "use_alts_credentials": "the gRPC port speaks Google's ALTS only, which works on their machines",
    "enable_grpc_healthcheck_service": "answer grpc.health.v1.Health/Check",
    "rest_api_enable_cors_support": "let web pages of other origins use the REST API",
    "op_libraries": "comma-separated packages, modules or shared objects with the ops of models (ctd's own flag)",
    "hub_path": "folder of a hub target to show on the REST port, for hub.load (ctd's own flag)",
    "whole_tensorflow": "import all of TensorFlow instead of the parts that serve (ctd's own flag)",
}

# What tensorflow_model_server takes, now or in some release since 1.0, and what is of no meaning here.
_UNHEEDED: Mapping[str, type] = {
    "enable_per_model_batching_parameters": bool,
    "enable_profiler": bool,
    "enable_serialization_as_tensor_content": bool,
    "enable_signature_method_name_check": bool,
    "enforce_session_run_timeout": bool,
    "flush_filesystem_caches": bool,
    "force_allow_any_version_labels_for_unavailable_models": bool,
    "mixed_precision": str,
    "num_tflite_interpreters": int,
    "num_tflite_interpreters_per_pool": int,
    "num_tflite_pools": int,
    "num_unload_threads": int,
    "per_process_gpu_memory_fraction": float,
    "prefer_tflite_model": bool,
    "remove_unused_fields_from_bundle_metagraph": bool,
    "skip_initialize_tpu": bool,
    "thread_pool_factory_config_file": str,
    "use_saved_model": bool,
    "use_tflite_model": bool,
    "xla_cpu_compilation_enabled": bool,
    "xla_gpu_compilation_enabled": bool,
}


def parse(arguments: Sequence[str] | None = None) -> Flags:
    """The flags of a command line; wrong usage ends the process with exit code 2 and a message on stderr."""
    parser = _parser()
    values = vars(parser.parse_args(arguments))
    if values.pop("version", False):
        _show_version()
    flags = _flags(values)
    if complaint := _complaint(flags):
        parser.error(complaint)
    return flags


def _flags(given: dict[str, Any]) -> Flags:
    """What was given, without what changes nothing here."""
    unheeded = tuple(name for name, value in given.items() if _is_unheeded(name, value, given))
    heeded = {name: value for name, value in given.items() if name in _HELP}
    if heeded.get("rest_api_port") is None:
        heeded.pop("monitoring_config_file", None)
    if heeded.get("num_load_threads") == 0:  # as tensorflow_model_server says that it needs none but its own
        heeded["num_load_threads"] = 1
    return Flags(**heeded, unheeded=unheeded)


def _is_unheeded(name: str, value: Any, given: Mapping[str, Any]) -> bool:
    if name == "monitoring_config_file":  # there may be no port to show metrics on
        return bool(value) and given.get("rest_api_port") is None
    return name in _UNHEEDED or (name == "platform_config_file" and bool(value))


def _complaint(flags: Flags) -> str:
    """What is wrong with flags that are each fine alone."""
    if not (flags.model_base_path or flags.model_config_file or flags.hub_path):
        return "one of --model_base_path and --model_config_file is needed"
    if flags.port and flags.port == flags.rest_api_port:
        return "--rest_api_port cannot be the same as --port"
    if min(flags.num_load_threads, flags.grpc_max_threads, flags.rest_api_num_threads) < 1:
        return "a number of threads must be at least 1"
    if flags.batching_parameters_file and not flags.enable_batching:
        return "--batching_parameters_file needs --enable_batching"
    if flags.hub_path and flags.rest_api_port is None:
        return "--hub_path needs --rest_api_port, which answers it"
    if flags.use_alts_credentials and flags.ssl_config_file:
        return "--use_alts_credentials and --ssl_config_file exclude each other"
    if flags.model_version_policy not in VERSION_POLICIES:
        return f"--model_version_policy is {' or '.join(VERSION_POLICIES)}, not {flags.model_version_policy!r}"
    return _complaint_of_threads(flags)


def _complaint_of_threads(flags: Flags) -> str:
    session, intra, inter = (
        flags.tensorflow_session_parallelism,
        flags.tensorflow_intra_op_parallelism,
        flags.tensorflow_inter_op_parallelism,
    )
    if min(session or 0, intra or 0, inter or 0) < 0:
        return "a number of threads must be at least 0"
    if session and intra and inter:
        return (
            "either --tensorflow_session_parallelism or --tensorflow_intra_op_parallelism and "
            "--tensorflow_inter_op_parallelism"
        )
    return ""


class _Parser(argparse.ArgumentParser):
    """Says of a flag that nobody has which was meant."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            name = unknown[0].lstrip("-").partition("=")[0]
            hint = did_you_mean(f"--{name}", self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}. {hint}All flags: {self.prog} --help")
        return found


def _parser() -> argparse.ArgumentParser:
    """A parser that finds what was given, and no defaults."""
    parser = _Parser(
        prog="ctd serve",
        usage="%(prog)s [--flag=value ...]",
        description="A TensorFlow-Serving-compatible model server.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    for field in fields(Flags):
        if field.name in _HELP:
            _add(parser, field.name, int if field.default is None else type(field.default), _HELP[field.name])
    others = parser.add_argument_group("accepted without effect, since tensorflow_model_server has them")
    for name, kind in _UNHEEDED.items():
        _add(others, name, kind, None)
    _add(parser, "version", bool, "say the version and leave")
    return parser


def _add(parser: Any, name: str, kind: type, text: str | None) -> None:
    if kind is not bool:
        parser.add_argument(f"--{name}", type=kind, metavar="VALUE", help=text)
        return
    parser.add_argument(f"--{name}", nargs="?", const=True, type=_boolean, metavar="true|false", help=text)
    parser.add_argument(f"--no{name}", dest=name, action="store_false", help=argparse.SUPPRESS)


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def _show_version() -> NoReturn:
    sys.stdout.write(f"TensorFlow ModelServer: ctd {ctd.__version__}\nTensorFlow Library: {version('tensorflow')}\n")
    sys.stdout.flush()
    sys.exit(0)
