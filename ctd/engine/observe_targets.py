"""Looking at targets: whether each has what was pushed there last, and whether a silent server answers again."""

from __future__ import annotations

import socket
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from ctd.core.executions import Execution
from ctd.core.facts import TargetSeen
from ctd.core.history import History
from ctd.core.timing import Clock
from ctd.deploy.config_text import labels_something
from ctd.deploy.inspection import Inspector
from ctd.planning import canaries
from ctd.planning.effects import confirmed, pushed_by
from ctd.planning.world import TargetFact
from ctd.specs.pipeline import PipelineSpec
from ctd.specs.targets import SOCKET, STABLE, AnyTarget, HubTarget, TfServingTarget

_KNOCK = timedelta(milliseconds=200)  # the loop waits for it
_KNOCK_AGAIN = timedelta(seconds=10)


class TargetObserver:
    """Sees targets for one daemon, without reading a model."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._inspector = Inspector()
        self._knocked: dict[str, tuple[float, bool]] = {}  # when, and whether somebody answered, by address

    def see(self, target: AnyTarget, spec: PipelineSpec, history: History) -> TargetFact:
        """The target as it matters to a pipeline; looked at only if the pipeline pushes to it."""
        push = next(history.pushes(spec.name, target.target), None) if target.target in spec.targets else None
        return TargetFact(
            target.target,
            target.settings(spec.name),
            repair=target.on_damage == "repair",
            pin=target.pin_of(spec.name),
            server=_server(target),
            uploads=_uploads(target, spec.name),
            seen=self._seen(target, spec.name, push, history) if push else None,
            identity=target.identity(),
        )

    def _seen(self, target: AnyTarget, pipeline: str, push: Execution, history: History) -> TargetSeen | None:
        pushed, base = pushed_by(push), Path(target.base_path(pipeline))
        version = pushed.properties.get("pushed_version") if pushed else None
        if pushed is None or not isinstance(version, int) or Path(_destination(push)).parent != base:
            return None  # pushed to where the target was before
        live = canaries.live(history, pipeline, target.target) if canaries.on_trial(push, history) else None
        seen = self._inspector.look(
            base,
            version,
            pointer=not isinstance(target, TfServingTarget),
            live=_version_at(base, live) if live else 0,
            other=partial(_other, pipeline, history),
        )
        server = _server(target)
        if not server or confirmed(pushed, _uploads(target, pipeline)):
            trial = canaries.on_trial(push, history)  # the watch sees to it
            return _in_config(seen, target, pipeline) if pushed.properties.get("label") and not trial else seen
        return replace(seen, listens=self._listens(server))

    def _listens(self, address: str) -> bool:
        """Whether somebody accepts connections there. What is only asked for unverified versions, and rarely."""
        now = self._clock.monotonic()
        asked, answered = self._knocked.get(address, (now - _KNOCK_AGAIN.total_seconds(), False))
        if now - asked >= _KNOCK_AGAIN.total_seconds():
            answered = _knock(address)
            self._knocked[address] = now, answered
        return answered


def _other(pipeline: str, history: History, model: int) -> str:
    """The pipeline that made a model, if it is another one."""
    maker = history.maker(model)
    return maker.pipeline if maker and maker.pipeline != pipeline else ""


def _in_config(seen: TargetSeen, target: AnyTarget, pipeline: str) -> TargetSeen:
    """What was seen, and whether the server's config file still names the live version, whichever that is.

    Another version than the last one pushed may be the live one because people say so there.
    """
    server = target.server if isinstance(target, TfServingTarget) else None
    if server is None or server.config is None or seen.fault or seen.unreadable:
        return seen
    try:
        text = Path(server.config).read_text(encoding="utf-8")
    except FileNotFoundError:
        return replace(seen, fault=f"{server.config} is gone, which names the live version to its server")
    except (OSError, UnicodeDecodeError) as error:
        return replace(seen, unreadable=f"{server.config} cannot be looked at: {error}")
    if labels_something(text, server.model or pipeline, STABLE):
        return seen
    return replace(seen, fault=f"{server.config} names no `{STABLE}` version of {server.model or pipeline} any more")


def _knock(address: str) -> bool:
    try:
        _enter(address)
    except (OSError, ValueError):  # a ValueError for what cannot be a host's name
        return False
    return True


def _enter(address: str) -> None:
    """Connect and leave again."""
    seconds = _KNOCK.total_seconds()
    if address.startswith(SOCKET):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(seconds)
            door.connect(address.removeprefix(SOCKET))
        return
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()


def _server(target: AnyTarget) -> str:
    """Where the server behind a target listens; nothing if none is named."""
    if isinstance(target, HubTarget):
        return target.huggingface.address if target.huggingface else ""
    return target.server.grpc if isinstance(target, TfServingTarget) and target.server else ""


def _uploads(target: AnyTarget, pipeline: str) -> str:
    return target.huggingface.place(pipeline) if isinstance(target, HubTarget) and target.huggingface else ""


def _version_at(base: Path, push: Execution) -> int:
    """The number of a push, if it was to this folder."""
    place = Path(_destination(push))
    return int(place.name) if place.parent == base and place.name.isdecimal() else 0


def _destination(push: Execution) -> str:
    pushed = pushed_by(push)
    return str(pushed.properties.get("pushed_destination", "")) if pushed else ""
