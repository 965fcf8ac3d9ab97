"""The messages that the packages of TensorFlow Serving and gRPC leave out: config files and the health check.

They are described here field by field, so that real text format parses them: the files written for
`tensorflow_model_server` work unchanged, and a field that it does not have is an error with its place.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, text_format

from ctd.serving.errors import invalid

_PACKAGE = "tensorflow.serving"  # in pools of our own, so that messages are called what TensorFlow Serving calls them
_Field = descriptor_pb2.FieldDescriptorProto
_Messages = Mapping[str, Mapping[str, tuple[int, int | str]]]

# name -> field -> (number, type); a type that is a name means another message of this table, or one of another file.
_MESSAGES: _Messages = {
    "Int64": {"value": (1, _Field.TYPE_INT64)},
    "Flag": {"value": (1, _Field.TYPE_BOOL)},
    "Text": {"value": (1, _Field.TYPE_STRING)},
    "PrometheusConfig": {"enable": (1, _Field.TYPE_BOOL), "path": (2, _Field.TYPE_STRING)},
    "MonitoringConfig": {"prometheus_config": (1, "PrometheusConfig")},
    "SSLConfig": {
        "server_key": (1, _Field.TYPE_STRING),
        "server_cert": (2, _Field.TYPE_STRING),
        "custom_ca": (3, _Field.TYPE_STRING),
        "client_verify": (4, _Field.TYPE_BOOL),
    },
    "BatchingParameters": {
        "max_batch_size": (1, "Int64"),
        "batch_timeout_micros": (2, "Int64"),
        "max_enqueued_batches": (3, "Int64"),
        "num_batch_threads": (4, "Int64"),
        "thread_pool_name": (5, "Text"),
        "allowed_batch_sizes": (6, _Field.TYPE_INT64),
        "pad_variable_length_inputs": (7, _Field.TYPE_BOOL),
        "max_execution_batch_size": (8, "Int64"),
        "enable_large_batch_splitting": (9, "Flag"),
    },
    "HealthCheckRequest": {"service": (1, _Field.TYPE_STRING)},
    "HealthCheckResponse": {"status": (1, _Field.TYPE_INT32)},  # an enum, which travels as its number
}
# Only ever read as text, so the numbers of SessionBundleConfig are as good as any.
_PLATFORM: _Messages = {
    **_MESSAGES,
    "PlatformConfigMap": {"platform_configs": (1, "PlatformConfigsEntry")},  # a map, which reads as its entries
    "PlatformConfigsEntry": {"key": (1, _Field.TYPE_STRING), "value": (2, "PlatformConfig")},
    "PlatformConfig": {"source_adapter_config": (1, ".google.protobuf.Any")},
    "SavedModelBundleSourceAdapterConfig": {"legacy_config": (1000, "SessionBundleConfig")},
    "SessionBundleSourceAdapterConfig": {"config": (1, "SessionBundleConfig")},
    "ModelWarmupOptions": {"num_request_iterations": (1, "Int64"), "num_model_warmup_threads": (2, "Int64")},
    "SessionBundleConfig": {
        "session_target": (1, _Field.TYPE_STRING),
        "session_config": (2, ".tensorflow.ConfigProto"),
        "batching_parameters": (3, "BatchingParameters"),
        "session_run_load_threadpool_index": (4, "Int64"),
        "experimental_transient_ram_bytes_during_load": (5, _Field.TYPE_UINT64),
        "saved_model_tags": (6, _Field.TYPE_STRING),
        "experimental_fixed_input_tensors": (778, ".tensorflow.NamedTensorProto"),
        "enable_model_warmup": (779, _Field.TYPE_BOOL),
        "model_warmup_options": (780, "ModelWarmupOptions"),
        "enable_session_metadata": (781, _Field.TYPE_BOOL),
        "remove_unused_fields_from_bundle_metagraph": (782, _Field.TYPE_BOOL),
        "prefer_tflite_model": (783, _Field.TYPE_BOOL),
        "use_tflite_model": (784, _Field.TYPE_BOOL),
        "num_tflite_pools": (785, _Field.TYPE_INT32),
        "num_tflite_interpreters": (786, _Field.TYPE_INT32),
        "num_tflite_interpreters_per_pool": (787, _Field.TYPE_INT32),
        "mixed_precision": (788, _Field.TYPE_STRING),
        "wrap_session_with_no_threading_params": (789, _Field.TYPE_BOOL),
    },
}
_REPEATED = frozenset(
    {"allowed_batch_sizes", "platform_configs", "saved_model_tags", "experimental_fixed_input_tensors"}
)
_TENSORFLOWS = ("config_pb2", "named_tensor_pb2")


def _file(messages: _Messages, imports: tuple[str, ...] = ()) -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="ctd/serving/side.proto", package=_PACKAGE, syntax="proto3", dependency=imports
    )
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            label = _Field.LABEL_REPEATED if field in _REPEATED else _Field.LABEL_OPTIONAL
            made = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                made.type, made.type_name = _Field.TYPE_MESSAGE, kind if kind[0] == "." else f".{_PACKAGE}.{kind}"
            else:
                made.type = kind
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file(_MESSAGES))


def message_class(name: str) -> Any:
    """The class of one of these messages."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def read_text(path: Path, into: Any, pool: Any = None) -> Any:
    """Fill a message from a file in text format; ServingError says file and place in TensorFlow Serving's words."""
    try:
        text_format.Parse(path.read_text(encoding="utf-8-sig"), into, descriptor_pool=pool)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        said = f"Error parsing text-format {into.DESCRIPTOR.full_name}: {_said(error)}"
        raise invalid(f"Invalid protobuf file: '{path}': {said}") from error
    except OSError as error:
        raise invalid(f"Invalid protobuf file: '{path}': {error.strerror}") from error
    return into


def check_platforms(path: Path) -> None:
    """Raise ServingError for a file that is no PlatformConfigMap. Imports TensorFlow: its ConfigProto is part of it."""
    pool, imports = descriptor_pool.DescriptorPool(), [any_pb2.DESCRIPTOR]
    imports += [importlib.import_module(f"tensorflow.core.protobuf.{name}").DESCRIPTOR for name in _TENSORFLOWS]
    for file in imports:
        _copy(file, pool, set())
    pool.Add(_file(_PLATFORM, tuple(file.name for file in imports)))
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.PlatformConfigMap"))
    read_text(path, made(), pool)


def _copy(file: Any, pool: Any, seen: set[str]) -> None:
    """Put the description of a proto file into a pool, after those that it imports."""
    if file.name not in seen:
        seen.add(file.name)
        for imported in file.dependencies:
            _copy(imported, pool, seen)
        described = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(described)
        pool.Add(described)


def _said(error: text_format.ParseError | UnicodeDecodeError) -> str:
    """`LINE:COLUMN: what`, where the library says `LINE:COLUMN : what`."""
    if isinstance(error, UnicodeDecodeError):
        line = error.object[: error.start].count(b"\n") + 1
        return f"{line}: this is no UTF-8 text: {error.reason}"
    place = f"{error.GetLine()}:{error.GetColumn()}"
    return f"{place}: {str(error).removeprefix(f'{place} : ')}" if error.GetLine() is not None else str(error)
