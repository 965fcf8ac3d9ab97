"""A folder that TensorFlow Serving, or ctd's own server, watches; and that server asked whether it answers.

A server never looks twice at a version, and cannot start on a broken one: what it cannot load is moved out of its
sight. AVAILABLE is only what a server says of a number: it may watch another folder, or have another model behind the
name. So it is also asked for predictions, and those must be the model's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from ctd.core.errors import ComponentFailed, OtherAnswers, TargetUnavailable
from ctd.core.failpoints import fp
from ctd.core.timing import Clock, SystemClock, format_duration
from ctd.deploy.labels import Labels
from ctd.deploy.ledger import Entry
from ctd.deploy.target import Candidate, ModelServer, Phase, Pushed, VersionState
from ctd.deploy.versions import Versions, files_of
from ctd.specs.targets import STABLE

A = TypeVar("A")

_POLL = timedelta(milliseconds=200)
# A server that restarts is away for a moment; one that is down should not keep a push waiting.
_AWAY = timedelta(seconds=5)
_LOCK = timedelta(seconds=60)


@dataclass(frozen=True)
class Patience:
    """How long to wait for the server behind a destination."""

    load: timedelta = timedelta(seconds=60)
    away: timedelta = _AWAY
    lock: timedelta = _LOCK


class TfServing:
    """One base path and the server behind it."""

    def __init__(
        self,
        base: Path,
        *,
        keep: int,
        server: ModelServer | None = None,
        labels: Labels | None = None,
        patience: Patience | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._server = server
        self._labels = labels
        self._patience = patience or Patience()
        self._clock = clock or SystemClock()
        self._versions = Versions(base, keep=keep, lock=self._patience.lock, clock=self._clock)

    def push(self, model: Candidate) -> Pushed:
        """Make the model the newest version, unless it already is, and wait until the server answers with it.

        Raises TargetUnavailable while the destination cannot be written or the server does not get to the version,
        OtherAnswers while the server answers with something else, ComponentFailed if the version is no good there.
        """
        versions = self._versions
        files_of(model)  # what is not there must not make anything at the target
        with versions.held():
            entry = versions.live(model)
            fresh = entry is None
            followed = False
            if entry is None:
                followed = self._is_new_to_server(versions.next())
                entry = versions.publish(model)
            trial = self._to_be_tried(entry, model)
            if self._labels:
                self._labels.load(entry.version)
            verified, note = self._verify(entry, followed=followed)
            label = self._label_of(trial=trial)
            if self._labels and verified:
                verified, given = self._give(self._labels, label, entry.version)
                note = f"{note}; {given}" if verified else given
            if self._server is None or verified:
                spared = self._labels.needed() if self._labels else ()
                note = "; ".join(said for said in (note, versions.retire(entry, spared)) if said)
        return Pushed(entry.version, versions.path(entry.version), fresh, verified, note, label, trial)

    def _to_be_tried(self, entry: Entry, model: Candidate) -> bool:
        """Whether the version is to be tried beside the live one: if there is one, and it is another model."""
        stable = self._labels.stable() if self._labels and self._labels.trial and not model.untried else None
        if stable is None or stable == entry.version or not self._versions.path(stable).is_dir():
            return False
        live = self._versions.entry(stable)
        # An id alone says nothing: it may have been given anew after the metadata store was lost.
        alike = live is not None and entry.recipe and (live.model, live.recipe) == (entry.model, entry.recipe)
        return live is None or not (alike or live.tree == entry.tree)

    def _label_of(self, *, trial: bool) -> str:
        if self._labels is None:
            return ""
        return self._labels.trial if trial else STABLE

    def _give(self, labels: Labels, label: str, version: int) -> tuple[bool, str]:
        """Give a version that answers its label; whether the server knows it by that."""
        if label == STABLE:
            labels.take_over(version)
        else:
            labels.try_out(version)
        answered = self._known_as(label, version)
        if answered is None:
            return False, "pushed, not verified: the server does not answer"
        if answered:
            labels.trim()
            return True, f"known there as `{label}`"
        config, waited = labels.file.path, format_duration(self._patience.load)
        raise TargetUnavailable(
            f"target {self._versions.base}: version {version} is AVAILABLE, but not known as `{label}` to its server "
            f"after {waited}",
            hint=f"It is tried again. The server must run with --model_config_file={config} and "
            "--model_config_file_poll_wait_seconds=1, which makes it read the file again and again; "
            "tensorflow_model_server also with --allow_version_labels_for_unavailable_models=true, to restart on them.",
        )

    def _known_as(self, label: str, version: int) -> bool | None:
        """Whether the server comes to answer with a version by a label; nothing if it is away."""
        server = self._server
        if server is None:
            return None
        return until(lambda: server.labelled(label) == version, bool, self._patience, self._clock)

    def _is_new_to_server(self, version: int) -> bool:
        """Whether the server, asked before the version is there, does not have it; then it comes by its number here."""
        try:
            state = self._server.state(version) if self._server else None
        except TargetUnavailable:
            return False
        return state is not None and state.phase in (Phase.UNKNOWN, Phase.END)

    def _verify(self, entry: Entry, *, followed: bool) -> tuple[bool, str]:
        """Whether the server answers with the version, and what there is to tell; `followed` if it had it only now."""
        if self._server is None:
            return False, "no server named to ask"
        fp("push.waiting")
        state = self._wait(self._server, entry.version)
        if state is None:
            return False, "pushed, not verified: the server does not answer"
        if state.phase is Phase.AVAILABLE:
            return self._compare(self._server, entry, followed=followed)
        if state.error:
            raise self._quarantine(entry, f"cannot load version {entry.version}", state.error)
        if state.phase is Phase.END:
            return False, "pushed, not verified: the server has unloaded it, another version took its place"
        waited, base = format_duration(self._patience.load), self._versions.base
        raise TargetUnavailable(
            f"target {base}: version {entry.version} is {state.phase.value} on its server after {waited}",
            hint="It is tried again. Compare the server's base path and model name with the target's file; "
            f"{self._polls()}raise `server.timeout` for a model that loads slowly.",
        )

    def _polls(self) -> str:
        """What the server must do to take notice of our versions where a config file names them."""
        if self._labels is None:
            return ""
        return f"it must read {self._labels.file.path} again and again (--model_config_file_poll_wait_seconds=1); "

    def _compare(self, server: ModelServer, entry: Entry, *, followed: bool) -> tuple[bool, str]:
        """Whether the server's answers are the model's own.

        Answers that are not do not condemn the version: the server may watch another folder, or have another model
        behind the name, and whoever mends that must find the good model where it should be. Only what the server took
        from here is quarantined, so that it goes back to the version before.
        """
        fp("push.asking")
        try:
            said = server.answers(entry.version)
        except TargetUnavailable as error:
            return False, f"pushed, not verified: {error.message}"
        if said.differ and followed and self._lets_go(server, entry):
            raise self._quarantine(entry, f"answers with version {entry.version} otherwise than the model", said.differ)
        wrong, base = said.differ or said.missing, self._versions.base
        if wrong:
            raise OtherAnswers(
                f"target {base}: version {entry.version} on {server.name} is not what was pushed: {wrong}",
                hint="The version stays, whole, and is asked for again. Compare the server's base path with the "
                "target's `path:`, and the model's name there with `server.model`.",
            )
        return True, "; ".join(part for part in ("the server answers with it", said.note) if part)

    def _lets_go(self, server: ModelServer, entry: Entry) -> bool:
        """Whether the server unloads the version when it is hidden from it. If it does not, it has it from elsewhere.

        That the number is new to it does not prove it: two pipelines may push the same numbers at the same hours.
        """
        self._versions.hide(entry)
        until = self._clock.monotonic() + self._patience.load.total_seconds()
        while self._clock.monotonic() < until:
            try:
                if server.state(entry.version).phase in (Phase.UNKNOWN, Phase.END):
                    return True
            except TargetUnavailable:
                break
            time.sleep(_POLL.total_seconds())
        self._versions.show(entry)
        return False

    def _wait(self, server: ModelServer, version: int) -> VersionState | None:
        """The state when it no longer changes or time is up; nothing if the server is away."""
        settled = (Phase.AVAILABLE, Phase.END)
        return until(lambda: server.state(version), lambda s: s.phase in settled, self._patience, self._clock)

    def _quarantine(self, entry: Entry, does: str, error: str) -> ComponentFailed:
        """Hide a version: a server that restarts on one that does not load would not come up."""
        if self._labels:
            self._labels.trim()
        place = self._versions.quarantine(entry)
        return ComponentFailed(
            f"target {self._versions.base}: the server {does}: {error}",
            hint=f"The version is quarantined in {place}; the server goes on with the one before.",
        )


def until(ask: Callable[[], A], enough: Callable[[A], bool], patience: Patience, clock: Clock) -> A | None:
    """A server's answer when it is enough or time is up; nothing if the server is away."""
    began = heard = clock.monotonic()
    while True:
        now = clock.monotonic()
        try:
            answer = ask()
        except TargetUnavailable:
            if now - heard > patience.away.total_seconds():
                return None
        else:
            heard = now
            if enough(answer) or now - began > patience.load.total_seconds():
                return answer
        time.sleep(_POLL.total_seconds())
