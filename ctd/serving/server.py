"""One server process: models, gRPC and REST wired together, from the first look at the disk to a clean stop."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import orjson

from ctd.serving import config, custom_ops, loader, op_libraries, rest, rpc, warmup
from ctd.serving.batching import Batcher, Parameters
from ctd.serving.errors import Code, ServingError, invalid
from ctd.serving.flags import Flags
from ctd.serving.health import Health
from ctd.serving.hub_pages import HubPages
from ctd.serving.loader import Servable
from ctd.serving.metrics import Metrics
from ctd.serving.model_state import ModelConfig
from ctd.serving.models import Models, Timing

log = logging.getLogger(__name__)

_GRACE_SECONDS = 10.0  # for requests that are being answered when the server is asked to stop


class Stop:
    """Set by SIGTERM, SIGINT, or the death of a thread without which the server would only seem to work."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.exit_code = 0

    def __call__(self, _signum: int = 0, _frame: FrameType | None = None) -> None:
        self.asked.set()

    def thread_died(self, what: threading.ExceptHookArgs) -> None:
        """End the process, for whoever supervises it to start it again."""
        name = what.thread.name if what.thread else "a thread"
        error = what.exc_value or what.exc_type()
        log.critical("%s died", name, exc_info=(what.exc_type, error, what.exc_traceback))
        self.exit_code = 1
        self.asked.set()


def run(flags: Flags) -> int:
    """Serve until asked to stop; the exit code is 1 if serving could not begin."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(threadName)s: %(message)s"
    )
    logging.getLogger("tensorflow").propagate = False  # it writes to stderr by itself
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    threading.excepthook = stop.thread_died
    gc.freeze()  # what TensorFlow's import made stays: looking through it at each unload would hold up requests
    _warn(flags)
    try:
        wishes = _Wishes.read(flags)
        custom_ops.register(op_libraries.names_in(flags.op_libraries))
    except ServingError as error:
        log.error("Failed to start server. Error: %s: %s", error.code.name, error.message)
        return 1
    batcher = Batcher(wishes.batching) if wishes.batching else None
    models: Models[Servable] = Models(wishes.models, _load_with(flags, wishes, batcher), _timing(flags))
    models.start()
    try:
        return _serve(flags, wishes, models, stop)
    finally:
        models.stop()
        if batcher:
            batcher.stop()
        log.info("stopped")


@dataclass(frozen=True)
class _Wishes:
    """What the flags and their files ask for: read once and before anything starts, so that a mistake costs nothing."""

    models: tuple[ModelConfig, ...]
    loading: loader.Options
    batching: Parameters | None
    credentials: Any
    metrics_path: str
    metrics: Metrics | None

    @classmethod
    def read(cls, flags: Flags) -> _Wishes:
        """Raise ServingError for what cannot be obeyed."""
        if flags.hub_path and not Path(flags.hub_path).is_dir():
            raise invalid(f"--hub_path={flags.hub_path} is no directory")
        path = config.metrics_path(flags)
        config.check_platforms(flags)
        config.channel_arguments(flags)
        return cls(
            config.from_flags(flags),
            loader.Options.of(flags),
            config.batching(flags),
            config.credentials(flags),
            path,
            Metrics() if path else None,
        )


def _serve(flags: Flags, wishes: _Wishes, models: Models[Servable], stop: Stop) -> int:
    while not models.wait_settled(0.2):
        if stop.asked.is_set():
            return stop.exit_code
    try:
        faces = _Faces(flags, wishes, models)
    except ServingError as error:
        log.error("%s", error.message)
        return 1
    faces.start()
    sys.stdout.write(orjson.dumps(faces.ports).decode() + "\n")
    sys.stdout.flush()
    _follow_config(flags, models, stop)
    log.info("stopping: no new requests are taken")
    faces.stop()
    return stop.exit_code


def _follow_config(flags: Flags, models: Models[Servable], stop: Stop) -> None:
    """Obey changes of the config file until the server is asked to stop; a bad file leaves the old one in force."""
    pause = flags.model_config_file_poll_wait_seconds if flags.model_config_file else 0.0
    complaint = ""
    while not stop.asked.wait(pause if pause > 0 else None):
        before, complaint = complaint, _reread_config(flags, models)
        if complaint and complaint != before:
            log.error("the configuration stays as it is: %s", complaint)


def _reread_config(flags: Flags, models: Models[Servable]) -> str:
    """Put the config file into force if it has changed; the answer is what is wrong with it."""
    try:
        wish = config.from_flags(flags, models.configs())
        if wish != models.configs():
            models.reconfigure(wish, early_labels=flags.allow_version_labels_for_unavailable_models)
    except ServingError as error:
        return error.message
    return ""


class _Faces:
    """The ports of the server. All are bound before the first one answers."""

    def __init__(self, flags: Flags, wishes: _Wishes, models: Models[Servable]) -> None:
        self._health = Health() if flags.enable_grpc_healthcheck_service else None
        self._grpc = rpc.build_server(models, flags, wishes.metrics, self._health)
        self._rest: rest.Server | None = None
        self.ports: dict[str, Any] = {"grpc_port": 0, "rest_api_port": 0}
        if flags.grpc_socket_path:
            rpc.listen(self._grpc, f"unix:{flags.grpc_socket_path}")
        if flags.port or not flags.grpc_socket_path:
            self.ports["grpc_port"] = rpc.listen(self._grpc, _address(flags.bind, flags.port), wishes.credentials)
        if flags.rest_api_port is not None:
            offers = rest.Offers(
                threads=flags.rest_api_num_threads,
                timeout_seconds=flags.rest_api_timeout_in_ms / 1000,
                cors=flags.rest_api_enable_cors_support,
                metrics=wishes.metrics,
                metrics_path=wishes.metrics_path,
                hub=HubPages(Path(flags.hub_path)) if flags.hub_path else None,
            )
            api = rest.Api(models, offers)
            self._rest = rest.Server(api.app(), flags.bind, flags.rest_api_port)
            self.ports["rest_api_port"] = self._rest.port

    def start(self) -> None:
        self._grpc.start()
        log.info("Running gRPC ModelServer, port %d", self.ports["grpc_port"])
        if self._rest:
            self._rest.start()
            log.info("Exporting HTTP/REST API, port %d", self.ports["rest_api_port"])

    def stop(self) -> None:
        if self._health:
            self._health.leave()
        stopped = self._grpc.stop(_GRACE_SECONDS)
        if self._rest:
            self._rest.stop()
        stopped.wait()


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _timing(flags: Flags) -> Timing:
    return Timing(
        poll_seconds=flags.file_system_poll_wait_seconds,
        max_retries=flags.max_num_load_retries,
        retry_seconds=flags.load_retry_interval_micros / 1e6,
        load_threads=flags.num_load_threads,
    )


def _warn(flags: Flags) -> None:
    """Say what of the command line changes nothing."""
    if flags.unheeded:
        log.warning("without effect in this server: %s", ", ".join(f"--{name}" for name in flags.unheeded))


def _load_with(flags: Flags, wishes: _Wishes, batcher: Batcher | None) -> Callable[[str, int, Path], Servable]:
    def load(name: str, number: int, path: Path) -> Servable:
        servable = loader.load(path, wishes.loading, batcher)
        if flags.enable_model_warmup:
            for _ in range(max(flags.num_request_iterations_for_warmup, 1)):
                _warm_up(servable, name, number, path, wishes.metrics)
        return servable

    return load


def _warm_up(servable: Servable, name: str, number: int, path: Path, metrics: Metrics | None) -> None:
    began = monotonic()
    try:
        replayed = warmup.replay(servable, number, path)
    except ServingError as error:
        servable.close()
        if metrics:
            metrics.warmed_up(str(path), error.code, monotonic() - began)
        raise
    if metrics and replayed:
        metrics.warmed_up(str(path), Code.OK, monotonic() - began)
    log.info("%s version %d replayed %d warm-up records", name, number, replayed)
