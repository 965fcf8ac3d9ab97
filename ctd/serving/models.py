"""All models of one server: looks at the disk, loads and unloads versions, and lends them to requests.

One control thread looks and decides (with the pure rules of `versions`); loading and unloading happen in pools of
their own, so that a slow load never stops the looking. Requests only ever meet versions that are AVAILABLE.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Generic, Protocol, TypeVar

from ctd.serving.errors import Code, ServingError, invalid
from ctd.serving.model_state import Handle, ModelConfig, ModelState
from ctd.serving.versions import Load, Phase, Version, next_action, version_number

log = logging.getLogger(__name__)


class Closable(Protocol):
    """What a loaded version must be able to do for this module: go away."""

    def close(self) -> None: ...


S = TypeVar("S", bound=Closable)


@dataclass(frozen=True)
class Timing:
    """How often to look and how stubbornly to load."""

    poll_seconds: float = 1.0
    max_retries: int = 5
    retry_seconds: float = 1.0
    load_threads: int = 1


@dataclass(frozen=True)
class Lease(Generic[S]):
    """A version lent to one request; it is not unloaded before it is given back."""

    model: str
    version: int
    servable: S


class Models(Generic[S]):
    """The models of a server, kept as their configuration and the disk say."""

    def __init__(
        self, configs: Sequence[ModelConfig], load: Callable[[str, int, Path], S], timing: Timing | None = None
    ) -> None:
        self._configs = tuple(configs)
        self._load_version = load
        self._timing = timing or Timing()
        self._models: dict[str, ModelState[S]] = {config.name: ModelState(config) for config in configs}
        self._lock = threading.Condition()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._control, name="model-control", daemon=True)
        self._loads = ThreadPoolExecutor(self._timing.load_threads, thread_name_prefix="model-load")
        self._unloads = ThreadPoolExecutor(1, thread_name_prefix="model-unload")

    def start(self) -> None:
        """Begin to look at the disk and to load."""
        self._thread.start()

    def stop(self) -> None:
        """Load nothing more, wait for what is being loaded, and close every version."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        self._wake.set()
        self._thread.join()
        self._loads.shutdown(wait=True, cancel_futures=True)
        self._unloads.shutdown(wait=True)
        with self._lock:
            handles = [handle for model in self._models.values() for handle in model.handles.values()]
            for model in self._models.values():
                model.handles.clear()
        for handle in handles:
            handle.servable.close()

    def wait_settled(self, timeout: float) -> bool:
        """Wait until every version that is wanted now either answers or has failed; False if that takes longer."""
        with self._lock:
            return self._lock.wait_for(lambda: all(m.settled for m in self._models.values()), timeout)

    @contextlib.contextmanager
    def lease(self, name: str, version: int | None = None, label: str = "") -> Iterator[Lease[S]]:
        """Borrow the newest available version of a model, or the one of this number or label."""
        with self._lock:
            number, handle = self._find(name, version, label)
            handle.users += 1
        try:
            yield Lease(name, number, handle.servable)
        finally:
            with self._lock:
                handle.users -= 1
                if not handle.users:
                    self._lock.notify_all()

    def statuses(self, name: str, version: int | None = None, label: str = "") -> tuple[Version, ...]:
        """Where the versions of a model are, newest first."""
        with self._lock:
            model = self._models.get(_checked(name))
            if label:
                version = self._labelled(model, label)
            known = {**model.ended, **model.live} if model else {}
        if version is not None:
            if version not in known:
                raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
            return (known[version],)
        if not known:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return tuple(known[number] for number in sorted(known, reverse=True))

    def configs(self) -> tuple[ModelConfig, ...]:
        """The configuration in force."""
        with self._lock:
            return self._configs

    def reconfigure(self, configs: Sequence[ModelConfig], *, early_labels: bool = False) -> None:
        """Replace the whole configuration: new models are loaded, those no longer named are unloaded."""
        with self._lock:
            for config in configs:
                known = self._models.get(config.name)
                if known is not None and not known.removed:  # a new model is loaded first: see check_labels
                    self._check_labels(config, known, early_labels=early_labels)
            self._configs = tuple(configs)
            names = {config.name for config in configs}
            for name, model in self._models.items():
                model.removed = name not in names
            for config in configs:
                known = self._models.get(config.name)
                if known is None:
                    self._models[config.name] = ModelState(config)
                else:
                    known.looked = known.looked and known.config.base_path == config.base_path
                    known.config = config
        log.info("configuration replaced", extra={"models": sorted(names)})
        self._wake.set()

    def failed_models(self) -> tuple[str, ...]:
        """The models of the configuration of which no version answers, although loading has come to its end."""
        with self._lock:
            return tuple(config.name for config in self._configs if not self._models[config.name].handles)

    def check_labels(self) -> None:
        """Raise FAILED_PRECONDITION for a label of the configuration whose version does not answer."""
        with self._lock:
            for config in self._configs:
                self._check_labels(config, self._models[config.name], early_labels=False)

    def _check_labels(self, config: ModelConfig, model: ModelState[S], *, early_labels: bool) -> None:
        for label, number in config.labels.items():
            # Early means new labels only: one that is in use must not be moved to where nobody answers.
            early = early_labels and model.config.labels.get(label, number) == number
            if number not in model.handles and not early:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {number} of model {config.name}, which is not currently "
                    "available for inference",
                )

    def _find(self, name: str, version: int | None, label: str) -> tuple[int, Handle[S]]:
        model = self._models.get(_checked(name))
        if label:
            version = self._labelled(model, label)
        if model and version is None and model.handles:
            version = max(model.handles)
        if model is None or version is None or version not in model.handles:
            wish = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {wish}")
        return version, model.handles[version]

    def _labelled(self, model: ModelState[S] | None, label: str) -> int:
        number = model.config.labels.get(label) if model else None
        if number is None:
            raise invalid(f"Unrecognized servable version label: {label}")
        return number

    def _control(self) -> None:
        """The control thread: look when due, decide after each look, load result or finished wait."""
        look_at = monotonic()
        poll = self._timing.poll_seconds
        while not self._stopping:
            if poll >= 0 and (monotonic() >= look_at or self._unseen()):
                self._look()
                look_at = monotonic() + poll if poll > 0 else float("inf")
            with self._lock:
                for model in list(self._models.values()):
                    self._advance(model)
                wake_at = min([look_at, *(at for m in self._models.values() for at in m.retry_at.values())])
            self._wake.wait(None if wake_at == float("inf") else max(wake_at - monotonic(), 0.01))
            self._wake.clear()

    def _unseen(self) -> bool:
        with self._lock:
            return any(not model.looked and not model.removed for model in self._models.values())

    def _look(self) -> None:
        with self._lock:
            models = list(self._models.values())
        for model in models:
            base_path = model.config.base_path
            try:
                found, complaint = _versions_on_disk(base_path), ""
            except OSError as error:
                # A base path that is away keeps what it last held: a lost mount must not unload a model.
                found, complaint = None, f"{type(error).__name__}: {error}"
            with self._lock:
                if complaint != model.complaint:
                    log.warning("base path of %s: %s", model.config.name, complaint or f"{base_path} is readable again")
                    model.complaint = complaint
                if not found and not model.found and not model.looked:
                    log.info("model %s has no version in %s yet", model.config.name, base_path)
                model.found = model.found if found is None else found
                model.looked = True
                model.refresh()  # under the same lock: nobody may see a model as settled in between

    def _advance(self, model: ModelState[S]) -> None:
        """Start everything that the rules ask for now. The lock is held."""
        model.refresh()
        for number, at in list(model.retry_at.items()):
            if at <= monotonic() or not model.live[number].wanted:
                del model.retry_at[number]
                self._retry(model, number)
        while action := next_action(tuple(model.live.values())):
            number = action.number
            if isinstance(action, Load):
                log.info("loading %s version %d from %s", model.config.name, number, model.found[number])
                self._move(model, number, Phase.LOADING)
                self._loads.submit(self._load, model, number, model.found[number])
            else:
                self._move(model, number, Phase.UNLOADING)
                self._unloads.submit(self._unload, model, number, model.handles.pop(number))
        model.refresh()
        if model.gone and self._models.get(model.config.name) is model:
            del self._models[model.config.name]
        self._lock.notify_all()

    def _move(self, model: ModelState[S], number: int, phase: Phase, error: ServingError | None = None) -> None:
        code, message = (int(error.code), error.message) if error else (0, "")
        model.live[number] = model.live[number].moved(phase, code, message)
        text = f"{model.config.name} version {number} is {phase.name}{f': {message}' if message else ''}"
        log.log(logging.ERROR if error else logging.INFO, text)

    def _retry(self, model: ModelState[S], number: int) -> None:
        version = model.live[number]
        if version.wanted:
            self._loads.submit(self._load, model, number, model.found[number])
        else:
            self._move(model, number, Phase.END, ServingError(Code(version.code), version.message))

    def _load(self, model: ModelState[S], number: int, path: Path) -> None:
        """Load one version; runs in the pool."""
        name = model.config.name
        try:
            handle = Handle(self._load_version(name, number, path))
        except ServingError as error:
            with self._lock:
                self._failed(model, number, error)
        else:
            with self._lock:
                model.tries.pop(number, None)
                model.handles[number] = handle
                self._move(model, number, Phase.AVAILABLE)
        self._wake.set()

    def _failed(self, model: ModelState[S], number: int, error: ServingError) -> None:
        tries = model.tries[number] = model.tries.get(number, 0) + 1
        if tries <= self._timing.max_retries and not self._stopping:
            log.warning("loading %s version %d failed, will retry: %s", model.config.name, number, error.message)
            # The reason is shown while the version is still LOADING: whoever waits for it wants to know.
            model.live[number] = replace(model.live[number], code=int(error.code), message=error.message)
            model.retry_at[number] = monotonic() + self._timing.retry_seconds
        else:
            model.tries.pop(number, None)
            self._move(model, number, Phase.END, error)
            model.refresh()

    def _unload(self, model: ModelState[S], number: int, handle: Handle[S]) -> None:
        """Wait for the requests that still use a version, then free it; runs in the pool."""
        with self._lock:
            self._lock.wait_for(lambda: not handle.users)
        handle.servable.close()
        with self._lock:
            self._move(model, number, Phase.END)
        self._wake.set()


def _checked(name: str) -> str:
    if not name:
        raise invalid("ModelSpec has no name specified.")
    return name


def _versions_on_disk(base_path: Path) -> dict[int, Path]:
    """The version directories of a base path; of two that spell the same number the last in order wins."""
    entries = sorted(base_path.iterdir())
    numbers = ((version_number(entry.name), entry) for entry in entries)
    return {number: entry for number, entry in numbers if number is not None}
