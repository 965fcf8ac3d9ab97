"""The command line: the flags of tensorflow_model_server that the embedded server honours, and a few of ours.

A flag that the server would not obey is refused, never ignored.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields

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
    bind: str = "127.0.0.1"
    model_name: str = "default"
    model_base_path: str = ""
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: float = 0.0
    file_system_poll_wait_seconds: float = 1.0
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 1_000_000
    num_load_threads: int = 1
    enable_model_warmup: bool = True
    allow_version_labels_for_unavailable_models: bool = False
    saved_model_tags: str = "serve"
    tensorflow_intra_op_parallelism: int = 1
    tensorflow_inter_op_parallelism: int = 1
    enable_batching: bool = False
    batching_parameters_file: str = ""
    monitoring_config_file: str = ""
    ssl_config_file: str = ""
    enable_grpc_healthcheck_service: bool = True
    rest_api_enable_cors_support: bool = False
    hub_path: str = ""
    whole_tensorflow: bool = False


_HELP = {
    "port": "TCP port of the gRPC API; 0 takes a free one, or none if --grpc_socket_path is given",
    "grpc_socket_path": "UNIX socket for the gRPC API",
    "rest_api_port": "TCP port of the REST API; 0 takes a free one; not given means no REST API",
    "rest_api_timeout_in_ms": "longest time a REST request may take",
    "rest_api_num_threads": "threads that answer REST requests",
    "grpc_max_threads": "threads that answer gRPC requests",
    "bind": "address to listen on (ctd's own flag; tensorflow_model_server listens everywhere)",
    "model_name": "name of the model; ignored with --model_config_file",
    "model_base_path": "directory that holds the numbered version directories",
    "model_config_file": "text ModelServerConfig, for several models, version policies and labels",
    "model_config_file_poll_wait_seconds": "time between looks at the config file; 0 reads it once",
    "file_system_poll_wait_seconds": "time between looks at the base path; 0 looks once, less than 0 never",
    "max_num_load_retries": "how often a failed load is tried again before the version ends",
    "load_retry_interval_micros": "time between two tries to load a version",
    "num_load_threads": "versions that load at the same time",
    "enable_model_warmup": "replay assets.extra/tf_serving_warmup_requests before a version answers",
    "allow_version_labels_for_unavailable_models": "accept a label for a version that is not loaded yet",
    "saved_model_tags": "comma-separated tags of the graph to load",
    "tensorflow_intra_op_parallelism": "threads inside one TensorFlow op; 0 lets TensorFlow choose",
    "tensorflow_inter_op_parallelism": "TensorFlow ops side by side; 1: a request's own thread, 0: TensorFlow chooses",
    "enable_batching": "run requests for one signature that arrive together as one batch",
    "batching_parameters_file": "text BatchingParameters; needs --enable_batching",
    "monitoring_config_file": "text MonitoringConfig; with prometheus_config the REST port has a page of metrics",
    "ssl_config_file": "text SSLConfig; the gRPC port then speaks TLS only",
    "enable_grpc_healthcheck_service": "answer grpc.health.v1.Health/Check",
    "rest_api_enable_cors_support": "let web pages of other origins use the REST API",
    "hub_path": "folder of a hub target to show on the REST port, for hub.load (ctd's own flag)",
    "whole_tensorflow": "import all of TensorFlow instead of the parts that serve (ctd's own flag)",
}


def parse(arguments: Sequence[str] | None = None) -> Flags:
    """The flags of a command line; wrong usage ends the process with exit code 2 and a message on stderr."""
    parser = _parser()
    flags = Flags(**vars(parser.parse_args(arguments)))
    if complaint := _complaint(flags):
        parser.error(complaint)
    return flags


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
    for name in ("hub_path", "monitoring_config_file"):
        if getattr(flags, name) and flags.rest_api_port is None:
            return f"--{name} needs --rest_api_port, which answers it"
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ctd serve", description="A TensorFlow-Serving-compatible model server.", allow_abbrev=False
    )
    for field in fields(Flags):
        name, text = f"--{field.name}", _HELP[field.name]
        if isinstance(field.default, bool):
            parser.add_argument(name, nargs="?", const=True, default=field.default, type=_boolean, help=text)
        else:
            kind = int if field.default is None else type(field.default)
            parser.add_argument(name, default=field.default, type=kind, help=text)
    return parser


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
