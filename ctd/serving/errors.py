"""What can go wrong while serving, in the words of gRPC's status codes.

CtdError
├── ServingError            an answer of the server: a code and a message, as TensorFlow Serving gives them
├── TemporaryError
│   ├── ServerNotStarted    the model server could not be started or was lost: says nothing about the model
│   └── ServerDeadline      the server did not come to a result, or to an answer, in time
└── PermanentError
    ├── ModelRefused        the server tried to load the model and says no
    └── RequestRefused      the server has the model and answers a request with an error
"""

from __future__ import annotations

import enum

from ctd.core.errors import CtdError, PermanentError, TemporaryError


class Code(enum.IntEnum):
    """The canonical status codes; the numbers are those on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @property
    def http_status(self) -> int:
        """The HTTP status TensorFlow Serving's REST API answers with for this code."""
        return _HTTP_STATUS.get(self, 500)


_HTTP_STATUS = {
    Code.OK: 200,
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.CANCELLED: 499,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


class ServingError(CtdError):
    """An error that goes back to whoever asked, with its status code."""

    def __init__(self, code: Code, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code


def invalid(message: str) -> ServingError:
    """The commonest answer: the request does not fit the model."""
    return ServingError(Code.INVALID_ARGUMENT, message)


class ServerNotStarted(TemporaryError):
    """The model server could not be started, or was lost without a word about the model."""


class ServerDeadline(TemporaryError):
    """The model server did not load the model, or did not answer, in time."""


class ModelRefused(PermanentError):
    """The model server tried to load the model and failed; the message is the server's."""


class RequestRefused(PermanentError):
    """The model is loaded and answers the request with an error."""

    def __init__(self, message: str, *, code: Code, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code
