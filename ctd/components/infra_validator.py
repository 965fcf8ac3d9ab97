"""Tries a candidate in a model server before it is served: does it load and answer, and are the answers its own?

What is the model's fault becomes a verdict with its reason. What is the server's or the machine's leaves as a
TemporaryError and is tried again: it says nothing about the model. A model that is loaded and does not answer in time
is tried again in a new server; when it never does, that is the verdict.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ctd.components import declared_ops
from ctd.components.api import (
    SERVING_DIR,
    STAMPED_MODEL_DIR,
    Outputs,
    Work,
    split_files,
    user_code,
)
from ctd.components.examples_io import first_records
from ctd.components.serving_requests import (
    Feeds,
    Request,
    Signature,
    complaint,
    differs,
    first_split_records,
    load_signatures,
    missing_inputs,
    requests,
)
from ctd.core.artifacts import Artifact
from ctd.core.errors import ComponentFailed
from ctd.core.fingerprints import digest_of
from ctd.serving import warmup
from ctd.serving.client import predict_request
from ctd.serving.errors import ModelRefused, RequestRefused, ServerDeadline
from ctd.serving.runners import choose
from ctd.serving.sandbox import ModelServer, Runner
from ctd.specs.base import say_duration
from ctd.specs.infra import InfraValidatorSpec

# Enough to find examples that have every input, even where most lack one.
_MOST_EXAMPLES = 1000
# A machine that is busy with something else for a moment must not condemn a model: the best round counts.
_LATENCY_ROUNDS = 3


@dataclass
class Tried:
    """What one server did with the model."""

    runner: str
    load_seconds: float = 0.0
    signatures: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Report:
    """What was tried and what came of it. The first complaint decides."""

    model_id: int
    reason: str = ""
    blessed: bool = False
    warmup_requests: int = 0
    servers: list[Tried] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Say something besides, once."""
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True)
class Question:
    """One signature, and the requests that are made to it."""

    here: Signature
    requests: tuple[Request, ...]

    @property
    def name(self) -> str:
        return self.here.name


@dataclass(frozen=True)
class Questions:
    """What every server is asked; or what is wrong with the model whatever a server says."""

    asked: tuple[Question, ...] = ()
    complaint: str = ""


def run(work: Work) -> Outputs:
    """Bless the model for serving, or say what is wrong with it."""
    spec = work.spec(InfraValidatorSpec)
    model = work.input("model")
    output = work.output("blessing")
    report = Report(model.id)
    # A worker forks a server only where there are no such libraries, so this favours no model.
    declared_ops.register(spec.op_libraries)
    trial = Trial(work, spec, report)
    stamped = trial.stamp(output / STAMPED_MODEL_DIR) if spec.warmup else None
    directory = stamped or Path(model.uri, SERVING_DIR)
    for runner in choose(spec):
        report.reason = trial.of(runner, directory, output / "server.log")
        if report.reason:
            break
    report.blessed = not report.reason
    report.reason = f"not blessed: {report.reason}" if report.reason else _approval(report)
    if stamped and not report.blessed:
        shutil.rmtree(stamped)  # nobody may push it
        stamped = None
    (output / ("INFRA_BLESSED" if report.blessed else "INFRA_NOT_BLESSED")).touch()
    (output / "report.json").write_text(json.dumps(asdict(report), indent=1) + "\n")
    made = work.made(
        output,
        digest=digest_of({"blessed": report.blessed, "model": model.digest, **_warmup_digest(stamped)}),
        blessed=int(report.blessed),
        current_model=model.uri,
        current_model_id=model.id,
        has_model=int(stamped is not None),
        reason=report.reason,
        runner=", ".join(tried.runner for tried in report.servers),
        **_declared(spec),
    )
    return {"blessing": [made]}


class Trial:
    """The trial of one model, in one server after the other."""

    def __init__(self, work: Work, spec: InfraValidatorSpec, report: Report) -> None:
        self._work = work
        self._spec = spec
        self._report = report
        self._model = Path(work.input("model").uri, SERVING_DIR)
        self._name = f"{work.request.pipeline}-candidate"
        self._records, self._missing = _records(work, spec, report)
        self._questions: Questions | None = None

    def stamp(self, copy: Path) -> Path | None:
        """Make a copy of the model with its warm-up requests; nothing if there are none to put into it."""
        questions = self._prepared()
        if questions.complaint or not questions.asked:
            return None
        self._work.progress("stamping the model with warm-up requests")
        shutil.copytree(self._model, copy, copy_function=shutil.copyfile)
        if (copy / warmup.RECORDS).exists():
            self._report.note("the warm-up requests that the model came with are replaced")
        share = warmup.MOST_RECORDS // len(questions.asked)
        stamped = [
            predict_request(self._work.request.pipeline, question.name, request.feeds)
            for question in questions.asked
            for request in question.requests[:share]
        ]
        warmup.write(copy, stamped)
        self._report.warmup_requests = len(stamped)
        return copy

    def of(self, runner: Runner, directory: Path, log: Path) -> str:
        """What is wrong with the model in this server, or nothing."""
        self._work.progress(f"starting {runner.name} server with the candidate")
        tried = Tried(runner.name)
        self._report.servers.append(tried)
        late = ""
        for _ in range(self._spec.attempts):
            found, late = self._try(runner, directory, log, tried)
            if not late:
                return found
            self._report.note("it answered late, and was tried again in a new server")
        return (
            f"{late}, in each of {self._spec.attempts} tries. If it may take longer, raise `request_timeout`, then "
            f"`ctd run-now {self._work.request.pipeline} {self._work.request.node} --again`"
        )

    def _try(self, runner: Runner, directory: Path, log: Path, tried: Tried) -> tuple[str, str]:
        """What is wrong with the model in a new server, and that it did not answer in time; or nothing."""
        try:
            return self._once(runner, directory, log, tried), ""
        except _Late as late:
            return "", str(late)

    def _once(self, runner: Runner, directory: Path, log: Path, tried: Tried) -> str:
        """What is wrong with the model in a new server, or nothing. Raises _Late."""
        began = time.monotonic()
        with ModelServer.start(runner, directory, self._name, log) as server:
            try:
                # The server loads the model at the same time; what it says comes first.
                questions = self._prepared()
                server.wait_available(self._spec.load_timeout.total_seconds())
                tried.load_seconds = round(time.monotonic() - began, 3)
                if questions.complaint:
                    return questions.complaint
                for question in questions.asked:
                    self._work.progress(f"asking {question.name}")
                    found = Asked(question, server, self._spec, self._report).verdict(tried)
                    if found:
                        return f"signature {question.name!r}, {found}"
            except (ModelRefused, ComponentFailed) as refusal:
                return refusal.message
        return ""

    def _prepared(self) -> Questions:
        if self._questions is None:
            asked = Questions(complaint=self._missing) if self._missing else None
            self._questions = asked or _questions(self._model, self._spec, self._records)
        return self._questions


def _records(work: Work, spec: InfraValidatorSpec, report: Report) -> tuple[Sequence[bytes], str]:
    """Real examples to ask about, and that there should be some; none if none are wanted or wired, which is noted."""
    if not spec.requests:
        report.note("only loaded: `requests: 0`")
        return (), ""
    examples, most = work.inputs("examples"), max(_MOST_EXAMPLES, spec.requests)
    records = [record for artifact in examples for record in _of(artifact, spec.split, most)]
    if examples and not records:
        split = f"split {spec.split!r}" if spec.split else "every split"
        return (), (
            f"there are {spec.requests} requests to make, and no example to make them of: {split} of span "
            f"{', '.join(artifact.span_name for artifact in examples)} is empty. Name another one with `split:`, or "
            "write `requests: 0` if loading is enough"
        )
    if not records:
        without = ", so it has no warm-up requests" if spec.warmup else ""
        report.note(f"only loaded: there are no examples to ask about{without}")
    return records[:most], ""


def _of(examples: Artifact, split: str | None, most: int) -> Sequence[bytes]:
    return first_records(split_files(examples, split), most) if split else first_split_records(examples, most)


def _questions(model: Path, spec: InfraValidatorSpec, records: Sequence[bytes]) -> Questions:
    """The requests to every signature; the answers are compared with those of the SavedModel in this process."""
    if not records:
        unmeasured = "`max_latency` cannot be measured: there are no examples to ask about"
        return Questions(complaint=unmeasured if spec.max_latency else "")
    try:
        loaded = load_signatures(str(model))
    except ComponentFailed as error:
        return Questions(complaint=error.message)
    asked = []
    for name in spec.signatures:
        if name not in loaded:
            return Questions(complaint=f"there is no signature {name!r}, only {', '.join(sorted(loaded)) or 'none'}")
        inputs = loaded[name].inputs
        sent = tuple(requests(loaded[name].takes, records, spec.requests))
        if not sent:
            missing = ", ".join(missing_inputs(inputs, records) or tuple(inputs))
            return Questions(
                complaint=f"signature {name!r}, no request can be made: no example has {missing} in the type and "
                "shape of the input. Export a signature of serialized examples, or wire examples that have these "
                "features to the validator"
            )
        asked.append(Question(loaded[name], sent))
    return Questions(tuple(asked))


@dataclass(frozen=True)
class Asked:
    """One signature, and the server that is asked."""

    question: Question
    server: ModelServer
    spec: InfraValidatorSpec
    report: Report

    def verdict(self, tried: Tried) -> str:
        """What is wrong with the answers of the signature, or nothing."""
        sent, seconds, said_something = self.question.requests, [], False
        try:
            self._answer(sent[0])  # the first call of a graph is the slow one
            for request in sent:
                served, took = self._answer(request)
                seconds.append(took)
                said_something = said_something or any(value.size for value in served.values())
                found = self._compared(request, served)
                if found:
                    return f"request {request.number}: {found}"
            if not said_something:
                return f"all {len(sent)} requests are answered with nothing: every output is empty"
            slow = _p95(seconds)
            for _ in range(_LATENCY_ROUNDS - 1):
                if not self._slowness(slow):
                    break
                slow = min(slow, _p95([self._answer(request)[1] for request in sent]))
        except _RefusedRequest as refused:
            return str(refused)
        tried.signatures[self.question.name] = {"requests": len(sent), "p95_milliseconds": _milliseconds(slow)}
        return self._slowness(slow)

    def _answer(self, request: Request) -> tuple[Feeds, float]:
        """What the server says, and how many seconds it took."""
        began, timeout = time.monotonic(), self.spec.request_timeout.total_seconds()
        try:
            served = self.server.predict(self.question.name, request.feeds, timeout)
        except RequestRefused as error:
            raise _RefusedRequest(f"request {request.number}: {error.message}") from error
        except ServerDeadline as error:
            where = f"signature {self.question.name!r}, request {request.number}"
            raise _Late(f"{where}: no answer within {timeout:g} s") from error
        return served, time.monotonic() - began

    def _compared(self, request: Request, served: Feeds) -> str:
        here = self.question.here
        with user_code(f"signature {here.name!r}, request {request.number}: the SavedModel in process"):
            expected = here.answer(request.feeds)
            found = complaint(served, expected)
            if found and any(differs(again, expected[name]) for name, again in here.answer(request.feeds).items()):
                # A model that rolls dice cannot be compared, but it must still answer with numbers.
                self.report.note(f"signature {here.name!r} answers differently each time: not compared")
                return complaint(served, served)
        return found

    def _slowness(self, seconds: float) -> str:
        """That this is too slow, or nothing."""
        limit = self.spec.max_latency
        if limit is None or seconds <= limit.total_seconds():
            return ""
        return (
            f"95 % of {len(self.question.requests)} requests took up to {_milliseconds(seconds):g} ms in the best of "
            f"{_LATENCY_ROUNDS} rounds, `max_latency` is {say_duration(limit)}"
        )


def _declared(spec: InfraValidatorSpec) -> Mapping[str, Any]:
    """The libraries that the verdict rests on; nothing where there are none, as in blessings of before."""
    return {declared_ops.PROPERTY: ",".join(spec.op_libraries)} if spec.op_libraries else {}


class _Late(Exception):
    """The model was loaded and a request was not answered in time."""


class _RefusedRequest(Exception):
    """The server answered a request with an error."""


def _p95(seconds: Sequence[float]) -> float:
    return float(np.quantile(seconds, 0.95))


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 1)


def _warmup_digest(stamped: Path | None) -> Mapping[str, str]:
    """What identifies the requests in a stamped model."""
    return {"warmup": hashlib.sha256((stamped / warmup.RECORDS).read_bytes()).hexdigest()} if stamped else {}


def _approval(report: Report) -> str:
    said = []
    for tried in report.servers:
        asked = [
            f"{name} answered {of['requests']} requests, p95 {of['p95_milliseconds']:g} ms"
            for name, of in tried.signatures.items()
        ]
        said += [f"loaded by {tried.runner} in {tried.load_seconds:.1f} s", *asked]
    if report.warmup_requests:
        said.append(f"stamped with {report.warmup_requests} warm-up requests")
    return "blessed: " + ", ".join([*said, *report.notes])
