"""One request's use of a model: how long it may take, and how long it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Any

from ctd.serving.codec import Array
from ctd.serving.errors import Code, ServingError
from ctd.serving.loader import Servable, Signature
from ctd.serving.metrics import Metrics

_TAKE_EXAMPLES = ("Classify", "Regress", "MultiInference")


class Visit:
    """A request from its arrival to its answer; use it in a with statement around everything that is done for it."""

    def __init__(self, api: str, entrypoint: str, seconds: float | None, metrics: Metrics | None) -> None:
        self.api = api
        self.model = ""  # until it is known to exist: names that clients invent must not fill the memory
        self.metrics = metrics
        self.deadline = None if seconds is None else monotonic() + seconds
        self._entrypoint = entrypoint
        self._began = monotonic()
        self._counted = False

    def __enter__(self) -> Visit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.metrics:
            code = error.code if isinstance(error, ServingError) else Code.INTERNAL if error else Code.OK
            self.metrics.answered(self.model, self.api, self._entrypoint, code, monotonic() - self._began)

    def check_deadline(self) -> None:
        """Do no work for a caller who has already given up."""
        if self.deadline is not None and monotonic() >= self.deadline:
            raise ServingError(Code.DEADLINE_EXCEEDED, "the request's deadline passed before the model could run")

    def ran(self, feeds: Mapping[str, Array], seconds: float) -> None:
        """The model has run for this request, as it may do several times for a MultiInference."""
        if self.metrics:
            self.metrics.ran(self.model, self.api, seconds)
            if self.api in _TAKE_EXAMPLES and not self._counted:
                self._counted = True
                self.metrics.examples(self.model, len(feeds["inputs"]))

    def of(self, servable: Servable, model: str) -> Visited:
        """The version that answers this request."""
        self.model = model
        return Visited(servable, self)


class Visited:
    """A version as one request sees it: runs end with the request's deadline and are measured."""

    def __init__(self, servable: Servable, visit: Visit) -> None:
        self.signatures = servable.signatures
        self.signature_defs: Mapping[str, Any] = servable.signature_defs
        self._servable = servable
        self._visit = visit

    def run(self, signature: Signature, feeds: Mapping[str, Array], outputs: Sequence[str] = ()) -> dict[str, Array]:
        """The named outputs (all, if none is named) for these inputs."""
        visit = self._visit
        visit.check_deadline()
        if not visit.metrics:
            return self._servable.run(signature, feeds, outputs, visit.deadline)
        began = monotonic()
        answer = self._servable.run(signature, feeds, outputs, visit.deadline)
        visit.ran(feeds, monotonic() - began)
        return answer
