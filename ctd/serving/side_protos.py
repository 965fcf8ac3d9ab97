"""The messages that the packages of TensorFlow Serving and gRPC leave out: three config files and the health check.

They are described here field by field, so that real text format parses them: the files written for
`tensorflow_model_server` work unchanged, and a field that the server would not obey is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from ctd.serving.errors import invalid

_PACKAGE = "ctd.serving"
_Field = descriptor_pb2.FieldDescriptorProto

# name -> field -> (number, type); a type that is a name means another message of this table.
_MESSAGES: Mapping[str, Mapping[str, tuple[int, int | str]]] = {
    "Int64": {"value": (1, _Field.TYPE_INT64)},
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
    },
    "HealthCheckRequest": {"service": (1, _Field.TYPE_STRING)},
    "HealthCheckResponse": {"status": (1, _Field.TYPE_INT32)},  # an enum, which travels as its number
}
_REPEATED = frozenset({"allowed_batch_sizes"})


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="ctd/serving/side.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            label = _Field.LABEL_REPEATED if field in _REPEATED else _Field.LABEL_OPTIONAL
            made = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                made.type, made.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                made.type = kind
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())


def message_class(name: str) -> Any:
    """The class of one of these messages."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def read_text(path: Path, into: Any) -> Any:
    """Fill a message from a file in text format; ServingError names the file and the place."""
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), into)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise invalid(f"Invalid protobuf file: '{path}': {error}") from error
    return into
