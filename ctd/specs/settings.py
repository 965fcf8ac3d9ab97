"""How one daemon runs: flags before environment before defaults, resolved once. Nothing else reads the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, ValidationError

from ctd.core.errors import SpecError
from ctd.specs.base import Duration, Name, Spec

_PREFIX = "CTD_"
_FLAGS = {"pools": "--pool"}  # which may be there several times


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


Folder = Annotated[Path, Field(validate_default=True), AfterValidator(_absolute)]


USUAL_POOLS: Mapping[str, int] = {"train": 1}
"""Two trainings side by side on one machine want twice the memory and are done no sooner."""


def _pools(said: object) -> object:
    """`train=1,beam=2`, or several such texts."""
    texts = [said] if isinstance(said, str) else said
    if not isinstance(texts, (list, tuple)):
        return said
    pairs = [part.strip() for text in texts for part in str(text).split(",") if part.strip()]
    wrong = next((pair for pair in pairs if pair.count("=") != 1), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is not a pool with its limit, such as train=1")
    return {name.strip(): limit.strip() for name, limit in (pair.split("=") for pair in pairs)}


Pools = Annotated[
    Mapping[Name, PositiveInt], BeforeValidator(_pools), AfterValidator(lambda said: {**USUAL_POOLS, **said})
]
"""Limits by pool, with those that hold where nothing is said."""


class Settings(Spec):
    """The settings of one daemon. Each is a flag `--state` and a variable `CTD_STATE`, except the last two."""

    specs: Folder = Field(default=Path("specs"), description="folder of pipelines, watched")
    targets: Folder = Field(default=Path("deploy_targets"), description="folder of targets, watched; beside the specs")
    state: Folder = Field(default=Path("state"), description="metadata, artifacts, logs, socket; beside the specs")
    parallel: PositiveInt = Field(default=2, description="how many executions run at the same time")
    pools: Pools = Field(
        default=USUAL_POOLS,
        validate_default=True,
        description="how many executions of each pool run at the same time, e.g. train=1,beam=2; "
        "one that is not named has no limit of its own, but train, of which there is one",
    )
    warm: bool = Field(default=True, description="keep a process with TensorFlow imported, to start workers quickly")
    log_format: Literal["auto", "plain", "json"] = Field(
        default="auto", description="events for people or for machines"
    )
    debounce: Duration = Field(default=timedelta(milliseconds=50), description="how long events are gathered")
    rescan: Duration = Field(default=timedelta(seconds=30), description="everything is looked at this often")
    keep_logs: PositiveInt = Field(default=1000, description="logs of this many executions stay")

    failpoints: str = Field(default="", description="where to fail; only with CTD_TEST=1")
    notify_socket: str = Field(default="", description="where systemd hears that the service is ready")

    @classmethod
    def resolve(cls, flags: Mapping[str, object], environ: Mapping[str, str] | None = None) -> Settings:
        """Settings from flags (None: not given) and environment. Raises SpecError naming the flag or variable."""
        environ = os.environ if environ is None else environ
        said: dict[str, object] = {}
        source: dict[str, str] = {}
        for name in cls.model_fields.keys() - {"failpoints", "notify_socket"}:
            variable = _PREFIX + name.upper()
            if flags.get(name) not in (None, ()):
                said[name], source[name] = flags[name], _FLAGS.get(name, "--" + name.replace("_", "-"))
            elif environ.get(variable):
                said[name], source[name] = environ[variable], variable
        if "specs" in said:
            beside = Path(str(said["specs"])).expanduser().absolute().parent
            said = {"targets": beside / "deploy_targets", "state": beside / "state", **said}
        # A stray variable must never make a real daemon fail.
        said["failpoints"] = environ.get("CTD_FAILPOINTS", "") if environ.get("CTD_TEST") == "1" else ""
        said["notify_socket"] = environ.get("NOTIFY_SOCKET", "")
        try:
            return cls.model_validate(said)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = str(first["loc"][0])
            cause = first.get("ctx", {}).get("error")
            raise SpecError(
                f"{source.get(name, name)}={said.get(name)}: {cause or first['msg'].lower()}",
                hint=f"{name}: {cls.model_fields[name].description}.",
            ) from error


# What child processes may see of the daemon's environment: no tokens, no proxies, no switches of other libraries.
_PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
    "PYTHONPATH", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "VIRTUAL_ENV",
    "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "XLA_FLAGS", "TF_FORCE_GPU_ALLOW_GROWTH", "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS", "TF_ENABLE_ONEDNN_OPTS", "TF_DETERMINISTIC_OPS", "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "KERAS_BACKEND", "KERAS_HOME",
    "GOOGLE_APPLICATION_CREDENTIALS", "SSL_CERT_FILE",
)  # fmt: skip


def child_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of workers: an allow-list, and TensorFlow's chatter off unless someone asked for it."""
    environ = os.environ if environ is None else environ
    passed = {name: environ[name] for name in _PASSED_ON if name in environ}
    passed["TF_CPP_MIN_LOG_LEVEL"] = environ.get("TF_CPP_MIN_LOG_LEVEL", "2")
    if environ.get("CTD_TEST") == "1":
        passed |= {name: environ[name] for name in ("CTD_TEST", "CTD_FAILPOINTS") if name in environ}
    return passed
