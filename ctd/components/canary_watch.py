"""The watch over one canary: the same requests to it and to the live version, again and again, until a verdict."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tensorflow_serving.apis import predict_pb2

from ctd.components.api import Outputs, Work
from ctd.components.canary_judgement import Answer, Tally
from ctd.components.canary_messages import LIVE_REQUESTS_FILE, REQUESTS_FILE, read_messages
from ctd.components.served_target import StatusServer, labels_of, patience_with
from ctd.core.artifacts import Artifact, Value
from ctd.core.errors import BadInput, CtdError, TargetUnavailable
from ctd.core.fingerprints import digest_of
from ctd.core.timing import SystemClock, format_duration
from ctd.core.work import Made
from ctd.deploy.canary import End, Trial, Verdict
from ctd.deploy.tf_serving import until
from ctd.deploy.versions import Versions
from ctd.serving.client import Client
from ctd.serving.errors import Code, RequestRefused, ServerDeadline
from ctd.specs.targets import Canary, Server, TfServingTarget, read_target

_PAUSE = timedelta(milliseconds=200)  # between two requests: a watch is no load test
_FIRST_PAUSE = timedelta(milliseconds=20)  # until each was sent once: what differs is to be known soon
_ANSWER = timedelta(seconds=30)  # longest time that an answer may take
_AWAY = timedelta(seconds=20)  # a server that restarts is away for a moment; the watch begins anew after this


def watch(work: Work) -> Outputs:
    """Bake, judge, and have the target be as the verdict says."""
    target = read_target(work.request.target)
    pushed = work.input("pushed_model")
    if not isinstance(target, TfServingTarget):
        raise BadInput(
            f"{work.where}: target {target.target} has become a {target.kind}, which has no canary",
            hint="The next model is pushed to it as it is now.",
        )
    verdict = _Watch(work, target, pushed).verdict()
    return {"canary_blessing": [_made(work, target, pushed, verdict)]}


class _Watch:
    def __init__(self, work: Work, target: TfServingTarget, pushed: Artifact) -> None:
        self._work = work
        self._target = target
        self._pushed = pushed
        self._version = int(pushed.properties["pushed_version"])
        labels = labels_of(target, work.request.pipeline, str(pushed.properties["label"]))
        if labels is None or target.server is None:
            raise BadInput(
                f"{work.where}: version {self._version} is on trial, but {target.target} names no `server.config`",
                hint="Without it no label can be moved: write it into the target's file again.",
            )
        self._labels = labels
        self._server: Server = target.server
        base, clock = Path(str(pushed.properties["pushed_destination"])).parent, SystemClock()
        versions = Versions(base, keep=target.keep, lock=patience_with(self._server).lock, clock=clock)
        self._trial = Trial(versions, self._version, labels, self._confirm, clock)

    def verdict(self) -> Verdict:
        """What came of the trial, at the target as well."""
        return self._trial.settle(self._trial.known() or self._baked())

    def _confirm(self, label: str, version: int) -> None:
        """Wait until the server has taken note of a label. It will when it is back, if it is away."""
        server = StatusServer(self._server, self._model)
        until(lambda: server.labelled(label) == version, bool, patience_with(self._server), SystemClock())

    @property
    def _model(self) -> str:
        return self._server.model or self._work.request.pipeline

    def _baked(self) -> Verdict:
        canary = self._target.canary
        if canary is None:
            return Verdict(self._version, End.PROMOTED, "promoted: its target has no canary any more", {})
        if self._trial.stands and not self._trial.there:
            raise TargetUnavailable(
                f"target {self._target.target}: version {self._version}, which is on trial, is gone",
                hint="It is pushed again and tried anew.",
            )
        return self._bake(canary)

    def _bake(self, canary: Canary) -> Verdict:
        requests = self._requests()
        tally = Tally(canary.watch, len(requests))
        began = time.monotonic()
        with Client.of(self._server) as client:
            pair = _Pair(client, self._live(), self._version, tally)
            pair.warm_up(requests[0])  # what is asked of each is of one example, in each one's own signature
            for count, (number, request) in enumerate(itertools.cycle(enumerate(requests))):
                baked = timedelta(seconds=time.monotonic() - began)
                if baked >= canary.bake or tally.complaint() or not self._trial.stands:
                    break
                pair.ask(number, request, canary_first=bool(count % 2))
                self._work.progress(f"baking {_short(baked)} of {_short(canary.bake)}: {tally.said}")
                time.sleep((_PAUSE if count >= len(requests) else _FIRST_PAUSE).total_seconds())
        took = timedelta(seconds=time.monotonic() - began)
        complaint = tally.complaint(over=True)
        report = {**tally.to_json(), "bake_seconds": round(took.total_seconds(), 1), "live_version": pair.live}
        if complaint:
            return Verdict(self._version, End.ROLLED_BACK, f"rolled back after {_short(took)}: {complaint}", report)
        return Verdict(self._version, End.PROMOTED, f"promoted after {_short(took)}: {tally.said}", report)

    def _live(self) -> int:
        stable = self._labels.stable()
        if stable is None:
            raise TargetUnavailable(
                f"{self._labels.file.path} names no stable version of {self._labels.file.model} any more",
                hint="Somebody took the label away: give it to the live version again, and the trial begins anew.",
            )
        return stable

    def _requests(self) -> list[_Asked]:
        canary = self._read(REQUESTS_FILE)
        there = Path(self._pushed.uri, LIVE_REQUESTS_FILE).exists()
        return list(map(_Asked, self._read(LIVE_REQUESTS_FILE) if there else canary, canary))

    def _read(self, name: str) -> list[predict_pb2.PredictRequest]:
        messages = read_messages(Path(self._pushed.uri, name))
        found = [predict_pb2.PredictRequest.FromString(message) for message in messages]
        for request in found:
            request.model_spec.name = self._model
        return found


@dataclass(frozen=True)
class _Asked:
    """One example as a request to the live version, and as one to the canary."""

    live: predict_pb2.PredictRequest
    canary: predict_pb2.PredictRequest


@dataclass
class _Pair:
    """The live version and the canary, asked the same."""

    client: Client
    live: int
    canary: int
    tally: Tally
    heard: float = field(default_factory=time.monotonic)

    def warm_up(self, asked: _Asked) -> None:
        """Have both answer once, unmeasured: the first call of a graph is the slow one."""
        for version in (self.live, self.canary):
            with contextlib.suppress(CtdError):
                self._send(asked, version)

    def ask(self, number: int, asked: _Asked, *, canary_first: bool) -> None:
        """Ask both, in this order. Raises TargetUnavailable if the server has not answered for long."""
        order = (self.canary, self.live) if canary_first else (self.live, self.canary)
        answers = {version: self._answer(asked, version) for version in order}
        live, canary = answers[self.live], answers[self.canary]
        if isinstance(canary, ServerDeadline):
            live = self._answer(asked, self.live)  # both may have been slow for a moment
        if isinstance(live, TargetUnavailable | ServerDeadline) or isinstance(canary, TargetUnavailable):
            self._silent(live if isinstance(live, CtdError) else canary)
            return
        self.heard = time.monotonic()
        if isinstance(live, CtdError):
            self.tally.not_compared(live.message, canary=not isinstance(canary, CtdError))
        elif isinstance(canary, CtdError):
            self.tally.not_answered(f"request {number + 1}: {canary.message}")
        else:
            self.tally.answered(number, live.outputs, canary.outputs, (live.seconds, canary.seconds))

    def _answer(self, asked: _Asked, version: int) -> _Answered | CtdError:
        began = time.monotonic()
        try:
            outputs = self._send(asked, version)
        except RequestRefused as error:
            if version == self.live and error.code is Code.NOT_FOUND:  # a server that restarts has to load it first
                return TargetUnavailable(error.message, hint="The live version must be loaded for a comparison.")
            return error
        except (ServerDeadline, TargetUnavailable) as error:
            return error
        return _Answered(outputs, time.monotonic() - began)

    def _send(self, asked: _Asked, version: int) -> Answer:
        request = asked.live if version == self.live else asked.canary
        request.model_spec.version.value = version
        return self.client.send(request, timeout=_ANSWER.total_seconds()).outputs

    def _silent(self, error: object) -> None:
        if time.monotonic() - self.heard > _AWAY.total_seconds():
            said = error.message if isinstance(error, CtdError) else "no answer"
            raise TargetUnavailable(
                f"the canary cannot be watched: {said}", hint="The trial begins anew when the server answers."
            )


@dataclass(frozen=True)
class _Answered:
    outputs: Answer
    seconds: float


def _made(work: Work, target: TfServingTarget, pushed: Artifact, verdict: Verdict) -> Made:
    """The verdict in the manner of an InfraBlessing; about the model only if the watch has decided."""
    output, promoted = work.output("canary_blessing"), verdict.end is End.PROMOTED
    (output / ("CANARY_BLESSED" if promoted else "CANARY_NOT_BLESSED")).touch()
    said = {"version": verdict.version, "end": verdict.end.value, "reason": verdict.reason, **verdict.report}
    (output / "report.json").write_text(json.dumps(said, indent=1) + "\n")
    judged = verdict.end is not End.OVERTAKEN
    properties: dict[str, Value] = {
        "blessed": int(promoted),
        "end": verdict.end.value,
        "reason": f"version {verdict.version} {verdict.reason}" if judged else verdict.reason,
        "canary_version": verdict.version,
        "pushed_destination": str(pushed.properties["pushed_destination"]),
        "target": target.target,
    }
    if judged:
        properties["current_model_id"] = pushed.properties["model_id"]
    digest = digest_of({"pushed": pushed.digest, "end": verdict.end.value})
    return work.made(output, digest=digest, like=None, **properties)


def _short(span: timedelta) -> str:
    return format_duration(timedelta(seconds=round(span.total_seconds())))
