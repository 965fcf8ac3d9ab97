"""How a gRPC call ends that gets no answer: with a code, and a message that every client takes."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc

from ctd.serving.errors import Code

# TensorFlow Serving's limit. Clients take 8 KiB of headers in all, and report a longer message as RESOURCE_EXHAUSTED.
_LONGEST = 1024  # bytes
_STATUS = {status.value[0]: status for status in grpc.StatusCode}


def refuse(context: Any, code: Code, message: str) -> NoReturn:
    """End a call with an error and nothing else."""
    context.abort(_STATUS[code], _cut(message))
    raise AssertionError("abort raises by itself")


def mark_failed(context: Any, code: Code, message: str) -> None:
    """Have a call end with an error although there is a response that says more."""
    context.set_code(_STATUS[code])
    context.set_details(_cut(message))


def _cut(message: str) -> str:
    text = message.encode(errors="replace")
    return message if len(text) <= _LONGEST else f"{text[:_LONGEST].decode(errors='ignore')}...TRUNCATED"
