"""The server behind a target, asked over gRPC: where is a version, and does it answer as the model itself does?

The golden requests are real examples, and what the SavedModel says to them is worked out here, in the worker. So a
server that has something else behind the name is found out by its answers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ctd.components import declared_ops
from ctd.components.api import Work, user_code
from ctd.components.distance import apart
from ctd.components.served_target import StatusServer
from ctd.components.serving_requests import (
    DEFAULT_SIGNATURE,
    Feeds,
    Signature,
    complaint,
    last_split_records,
    load_signatures,
    requests,
)
from ctd.core.errors import ComponentFailed, TargetUnavailable
from ctd.deploy.target import Answers, VersionState
from ctd.serving import warmup
from ctd.serving.client import Client
from ctd.serving.errors import RequestRefused, ServerDeadline
from ctd.specs.targets import Server

# Other kernels, other hardware and other batches change the last bits of a float32, and a deep model adds them up to
# some 1e-5; what serves another model is further off by orders.
TOLERANCE = 1e-4
_MOST = 5
_MOST_RECORDS = 1000  # enough to find examples that have every input, even where most lack one
_ANSWER_SECONDS = 30.0  # the first request to a graph is the slow one


@dataclass(frozen=True)
class Golden:
    """A request, what it was made of, and the SavedModel's own answer."""

    signature: str
    source: str
    feeds: Feeds
    expected: Feeds

    @property
    def says_something(self) -> bool:
        return any(value.size for value in self.expected.values())


@dataclass(frozen=True)
class GoldenRequests:
    """What a server is asked about a version; none, and a note, where nothing can be asked."""

    asked: tuple[Golden, ...] = ()
    note: str = ""

    @classmethod
    def of(cls, work: Work, model: Path) -> GoldenRequests:
        """Requests made of the newest examples; without examples those that the model was stamped with.

        What cannot be asked here says nothing against the model: it is noted, and the push goes on.
        """
        try:
            declared_ops.register_blessed(work)
            signatures = load_signatures(str(model))
            chosen = [signatures[DEFAULT_SIGNATURE]] if DEFAULT_SIGNATURE in signatures else list(signatures.values())
            records = last_split_records(work, "examples", _MOST_RECORDS)
            made = [(signature, *of_it) for signature in chosen for of_it in _feeds(signature, records, model)]
            if not made:
                return cls(note="answers were not compared: there is no example or warm-up request that fits")
            asked = tuple(golden for golden in itertools.starmap(_golden, made) if golden and golden.says_something)
        except ComponentFailed as error:
            return cls(note=f"answers were not compared: {error.message}")
        unsure = "answers were not compared: the model's own are empty, not numbers, or others each time"
        return cls(asked, "" if asked else unsure)


def _feeds(signature: Signature, records: Sequence[bytes], model: Path) -> Sequence[tuple[str, Feeds]]:
    """What a signature can be asked, and where it is from."""
    made = [(f"example {request.number}", request.feeds) for request in requests(signature.takes, records, _MOST)]
    return made or list(_stamped(model, signature))


def _golden(signature: Signature, source: str, feeds: Feeds) -> Golden | None:
    """The request with its answer; nothing if that is nothing to compare with."""
    with user_code(f"signature {signature.name!r}, {source}: the SavedModel in process"):
        expected, again = signature.answer(feeds), signature.answer(feeds)
    return Golden(signature.name, source, feeds, expected) if not complaint(again, expected, TOLERANCE) else None


@dataclass(frozen=True)
class AskedServer:
    """The server named by a target, for one pipeline's model."""

    server: Server
    work: Work
    path: Path
    """The SavedModel that is pushed."""

    @property
    def model(self) -> str:
        return self.server.model or self.work.request.pipeline

    @property
    def name(self) -> str:
        return f"the server at {self.server.grpc} (model {self.model!r})"

    @cached_property
    def golden(self) -> GoldenRequests:
        return GoldenRequests.of(self.work, self.path)

    @property
    def status(self) -> StatusServer:
        return StatusServer(self.server, self.model)

    def state(self, version: int) -> VersionState:
        """Ask about one version. Raises TargetUnavailable if the server does not answer."""
        return self.status.state(version)

    def labelled(self, label: str) -> int | None:
        """The version that answers by a label. Raises TargetUnavailable if the server does not answer."""
        return self.status.labelled(label)

    def answers(self, version: int) -> Answers:
        """Ask the golden requests. Raises TargetUnavailable if the server does not answer."""
        golden = self.golden
        self.work.progress(f"asking {self.name} for {len(golden.asked)} predictions of version {version}")
        with Client.of(self.server) as client:
            try:
                differ, furthest = self._pinned(client, version)
                missing = "" if differ else self._unpinned(client, version)
            except RequestRefused as error:
                return Answers(missing=error.message)
            except ServerDeadline as error:
                raise TargetUnavailable(error.message, hint=error.hint) from error
        compared = f"{len(golden.asked)} golden requests, answers at most {furthest:.2g} from the model's own"
        return Answers(differ, missing, golden.note or compared)

    def _pinned(self, client: Client, version: int) -> tuple[str, float]:
        """What is wrong with the answers of the version asked for by its number, and how far off the furthest is."""
        wrong, furthest = list[tuple[float, str]](), 0.0
        for asked in self.golden.asked:
            said = client.predict(self.model, asked.signature, asked.feeds, timeout=_ANSWER_SECONDS, version=version)
            distance = _distance(said, asked.expected)
            furthest = max(furthest, distance)
            found = complaint(said, asked.expected, TOLERANCE)
            if found:
                wrong.append((distance, f"signature {asked.signature!r}, {asked.source}: {found}"))
        if not wrong:
            return "", furthest
        distance, worst = max(wrong)
        apart = f", {distance:.3g} apart" if np.isfinite(distance) else ""
        return (
            f"{worst}{apart}; {len(wrong)} of {len(self.golden.asked)} golden requests are answered otherwise",
            furthest,
        )

    def _unpinned(self, client: Client, version: int) -> str:
        """That requests which name no version get another one, or nothing."""
        if self.golden.asked:
            asked = self.golden.asked[0]
            got = client.ask(self.model, asked.signature, asked.feeds, timeout=_ANSWER_SECONDS).version
        else:
            got = client.answering(self.model, _ANSWER_SECONDS)
        return "" if got == version else f"requests that name no version are answered by version {got}"


def _distance(served: Feeds, expected: Feeds) -> float:
    """How far apart the furthest numbers are; infinitely where they cannot be compared."""
    if served.keys() != expected.keys() or any(served[n].shape != expected[n].shape for n in expected):
        return float("inf")
    numbers = [n for n in expected if expected[n].dtype.kind in "fciu" and served[n].dtype.kind in "fciu"]
    return max((float(apart(served[n], expected[n]).max()) for n in numbers if served[n].size), default=0.0)


def _stamped(model: Path, signature: Signature) -> Iterator[tuple[str, Feeds]]:
    """The warm-up requests that the InfraValidator put into the model for this signature."""
    of_it = (request for request in warmup.read(model) if (request.signature or DEFAULT_SIGNATURE) == signature.name)
    for number, request in enumerate(itertools.islice(of_it, _MOST), start=1):
        yield f"warm-up request {number}", request.feeds
