"""How long what a worker says may be where it is recorded, logged and shown. Its log has the whole."""

from __future__ import annotations

from dataclasses import replace

from ctd.core.artifacts import Artifact, Value
from ctd.core.errors import ComponentFailed, CtdError
from ctd.core.executions import Failure, Outcome

MESSAGE = 4_000  # characters of a message, a hint, a reason
PROGRESS = 500
_DATA = 1_000_000  # characters of a property that programs read: half of it would be none
_NOTE = 50  # characters of what is said about those left out
_NAMES = 100  # of timings


def cut(text: str, most: int = MESSAGE) -> str:
    """The beginning and end of a text that is too long, with a note on what was left out."""
    if len(text) <= most:
        return text
    kept = most - _NOTE
    tail = kept // 4
    return f"{text[: kept - tail]} [... {len(text) - kept:,} characters ...] {text[-tail:]}"


def failure_from(error: CtdError, where: str = "") -> Failure:
    """What is recorded of an error."""
    return Failure(type(error).__name__, cut(error.message), cut(error.hint), cut(where), error.retryable)


def bounded(outcome: Outcome) -> Outcome:
    """The outcome with texts of bearable length: prose is cut, JSON is kept or refused. Raises ComponentFailed."""
    failure = outcome.failure
    if failure is not None:
        failure = replace(
            failure,
            kind=cut(failure.kind, 100),
            message=cut(failure.message),
            hint=cut(failure.hint),
            where=cut(failure.where),
        )
    outputs = {key: tuple(_bounded(a) for a in made) for key, made in outcome.outputs.items()}
    damaged = {artifact: cut(found) for artifact, found in outcome.damaged.items()}
    timings = dict(list(outcome.timings.items())[:_NAMES])
    return replace(outcome, failure=failure, outputs=outputs, damaged=damaged, timings=timings)


def _bounded(artifact: Artifact) -> Artifact:
    return replace(artifact, properties={name: _value(name, value) for name, value in artifact.properties.items()})


def _value(name: str, value: Value) -> Value:
    if not isinstance(value, str) or len(value) <= MESSAGE:
        return value
    if value[:1] not in "[{":
        return cut(value)
    if len(value) > _DATA:
        raise ComponentFailed(
            f"property {cut(name, 100)} of an output has {len(value):,} characters, of {_DATA:,} at most",
            hint="Write it to a file of the output instead. This is a fault in the component.",
        )
    return value
