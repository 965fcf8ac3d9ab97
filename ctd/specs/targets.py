"""Destinations of models, each declared once in a file of its own and named by pipelines."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveInt,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ctd.specs.base import Complaint, Complaints, Duration, Name, Spec, SpecPath, against_file
from ctd.specs.hints import did_you_mean
from ctd.specs.metric_names import METRICS, OWN_NAME, no_metric
from ctd.specs.metric_values import COMPARISONS, never_number

STABLE = "stable"
"""The label of the live version."""


def canary_piece(target: str) -> str:
    """The piece of a pusher's work that watches what was pushed to a target as a canary."""
    return f"{target}.canary"


class Target(Spec):
    """What all destinations have in common: numbered versions in a folder."""

    runtime_only: ClassVar[frozenset[str]] = frozenset({"target", "keep", "on_damage", "pin"})
    """Fields that change nothing about the files of a version: an edit of them pushes nothing again."""

    target: Name
    kind: str
    path: SpecPath = Field(description="numbered versions go here; {pipeline} is the pipeline's name")
    keep: PositiveInt = Field(default=3, description="how many versions stay")
    on_damage: Literal["repair", "report"] = Field(
        default="repair", description="a pushed version that is gone, damaged or not on top: pushed again, or only told"
    )
    pin: PositiveInt | Mapping[Name, PositiveInt] | None = Field(
        default=None, description="nothing newer is pushed over this version; or a version for each of some pipelines"
    )

    @field_validator("path")
    @classmethod
    def _known_words(cls, path: str) -> str:
        for word in re.findall(r"\{([^{}]*)\}", path):
            if word != "pipeline":
                raise Complaint(f"{{{word}}} is no word of a target's path", "The only one is {pipeline}.")
        return path

    def base_path(self, pipeline: str) -> str:
        """Where this pipeline's versions go."""
        return self.path.replace("{pipeline}", pipeline)

    def pin_of(self, pipeline: str) -> int:
        """The version that a pipeline is pinned to; 0: none."""
        return (self.pin.get(pipeline, 0) if isinstance(self.pin, Mapping) else self.pin) or 0

    def settings(self, pipeline: str) -> dict[str, Any]:
        """What identifies a push there, as JSON values. What is left at its default is left out."""
        said = self.model_dump(mode="json", exclude=set(self.runtime_only), exclude_defaults=True)
        return {**said, "path": self.base_path(pipeline)}


SOCKET = "unix:"
"""How the address of a UNIX socket begins, as gRPC has it."""

_LARGEST_PORT = 65535


def _address(said: str, info: ValidationInfo) -> str:
    """An address as gRPC takes it, a socket's path absolute. Raises Complaint for one that cannot be."""
    if said.startswith(SOCKET):
        return SOCKET + against_file(said.removeprefix(SOCKET).replace("///", "/", 1), info)
    host, _, port = said.rpartition(":")
    if not 1 <= int(port) <= _LARGEST_PORT:
        raise Complaint(f"there is no port {port}", f"Ports are 1 to {_LARGEST_PORT}.")
    if host.startswith("["):
        try:
            ipaddress.IPv6Address(host.strip("[]"))
        except ValueError as error:
            raise Complaint(f"{host} is no IPv6 address: {error}", "Write for instance [::1]:8500.") from None
    return said


Address = Annotated[
    str,
    Field(pattern=r"^(unix:(///|/?[^/\s]).*|(\[[^\[\]\s]+\]|[^:/\[\]\s]+):\d{1,5})$"),
    AfterValidator(_address),
]


class Tls(Spec):
    """How the certificate of a server is checked, and what is shown to one that asks who we are. All are PEM files."""

    ca: SpecPath | None = Field(
        default=None, description="who signs the server's certificate; by default the authorities that gRPC brings"
    )
    cert: SpecPath | None = Field(default=None, description="a certificate for servers that ask for one; needs `key`")
    key: SpecPath | None = Field(default=None, description="the private key of `cert`")

    @model_validator(mode="after")
    def _both(self) -> Tls:
        if (self.cert is None) != (self.key is None):
            raise Complaint("`cert` and `key` go together", "Write both, or `ca` alone.")
        return self


class Server(Spec):
    """The model server that watches the target: asked whether a pushed version is AVAILABLE."""

    grpc: Address = Field(
        description="host:port of PredictionService and ModelService, [address]:port for IPv6, or unix:path"
    )
    tls: Tls | None = Field(default=None, description="for a server that speaks TLS; `ca` alone is enough for most")
    model: str | None = Field(default=None, description="the model's name on the server; default the pipeline's")
    timeout: Duration = Field(default=timedelta(seconds=60), description="how long a version may take to be AVAILABLE")
    config: SpecPath | None = Field(
        default=None,
        description="the file of the server's --model_config_file, which it polls: ctd keeps the versions and labels "
        "of its own model there, and leaves the rest as it is",
    )

    @model_validator(mode="after")
    def _no_tls_through_a_socket(self) -> Server:
        if self.tls and self.grpc.startswith(SOCKET):
            raise Complaint("there is no TLS through a UNIX socket", "Leave `tls` away.", ("tls",))
        return self


WATCHED: Mapping[str, float] = {"errors": 0.0, "latency": 2.0, "drift": 0.1}
"""What of a canary can be watched, and the limits where none are named."""


def _usual_limits(said: object) -> object:
    """The usual limits for a list of names."""
    if not isinstance(said, list | tuple):
        return said
    for name in said:
        if name not in WATCHED:
            hint = f"{did_you_mean(str(name), WATCHED)}There are {', '.join(WATCHED)}."
            raise Complaint(f"{name!r} is nothing that can be watched", hint)
    return {name: WATCHED[name] for name in said}


class Watch(Spec):
    """How far a canary may be from the stable version on the same requests. What is not named is not watched."""

    errors: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="highest share of requests that only the canary fails to answer (0)"
    )
    latency: Annotated[float, Field(ge=1)] | None = Field(
        default=None, description="how many times as long its slowest 5 % of answers may take (2)"
    )
    drift: NonNegativeFloat | None = Field(
        default=None,
        description="largest mean difference of any output, in its own unit; of what is no float, the share of answers "
        "that differ (0.1)",
    )

    @model_validator(mode="after")
    def _something(self) -> Watch:
        if (self.errors, self.latency, self.drift) == (None, None, None):
            raise Complaint("nothing is watched", f"Write one or more of {', '.join(WATCHED)}.")
        return self


WatchField = Annotated[
    Watch,
    BeforeValidator(_usual_limits, json_schema_input_type=Watch | tuple[Literal["errors", "latency", "drift"], ...]),
]


class Canary(Spec):
    """A new version serves beside the live one under a label of its own, is watched, and takes its place or goes."""

    label: Name = Field(default="canary", description="the label of the version on trial; the live one has `stable`")
    bake: Duration = Field(default=timedelta(minutes=10), description="how long it is watched")
    watch: WatchField = Field(
        default=Watch(**WATCHED),
        description="what takes it back: [errors, latency, drift] with the usual limits, or a limit for each",
    )

    @field_validator("label")
    @classmethod
    def _not_stable(cls, label: str) -> str:
        if label == STABLE:
            raise Complaint(f"the label {STABLE!r} is the live version's", "Write another one, such as `canary`.")
        return label


class TfServingTarget(Target):
    """Numbered version directories, as TensorFlow Serving and `ctd serve` watch them."""

    runtime_only: ClassVar[frozenset[str]] = Target.runtime_only | {"server", "canary"}

    kind: Literal["tf_serving"]
    server: Server | None = None
    canary: Canary | None = Field(
        default=None, description="a new version is tried beside the live one before it takes its place"
    )

    @model_validator(mode="after")
    def _can_label(self) -> TfServingTarget:
        if self.canary and not (self.server and self.server.config):
            said = "`config`" if self.server else "`server`"
            hint = "Write `server: {grpc: host:port, config: models.config}`, the file of its --model_config_file."
            message = f"a canary needs {said}: labels are in the server's model config file"
            raise Complaint(message, hint, ("canary",))
        return self


class Parity(Spec):
    """How far the answers of a converted model may be from the SavedModel's on real examples."""

    examples: PositiveInt = Field(default=200, description="how many examples both are asked")
    max_difference: NonNegativeFloat | Mapping[str, NonNegativeFloat] | None = Field(
        default=None,
        description="largest accepted distance of any output of floats, or of some by name; by default what the "
        "quantization allows",
    )
    max_differing: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None,
        description="highest share of examples whose class or whole number may be another; by default what the "
        "quantization allows",
    )
    mean_difference: NonNegativeFloat | None = Field(default=None, description="largest accepted mean distance")
    metrics: Mapping[str, NonNegativeFloat] = Field(
        default={},
        description="metric of the evaluator, by its name there, to how much worse the converted model may be",
        json_schema_extra={"propertyNames": {"anyOf": [{"enum": [*sorted(METRICS)]}, {"pattern": OWN_NAME}]}},
    )

    @model_validator(mode="after")
    def _known_metrics(self) -> Parity:
        complaints = [c for name in self.metrics for c in _unlimitable(name)]
        if complaints:
            raise Complaints(complaints)
        return self


def _unlimitable(name: str) -> Iterator[Complaint]:
    """Why a metric cannot be compared; what a user's own name stands for is only known to the pipelines."""
    if re.search(OWN_NAME, name):
        return
    if name not in METRICS:
        yield Complaint(*no_metric(name), ("metrics", name))
    elif name in COMPARISONS:
        hint = "The gate compares answers itself: see `max_difference`, `mean_difference`."
        yield Complaint(f"{name} compares models, and is no metric of one", hint, ("metrics", name))
    elif many := never_number(name):
        yield Complaint(f"metrics.{name} can have no limit: {name} {many[0]}", "Take it out.", ("metrics", name))


class ConvertedTarget(Target):
    """A destination of models in another form, made of one signature."""

    signature: str = Field(
        default="",
        description="the signature that is converted, of plain numbers; by default the only one, or serving_default",
    )
    parity: Parity = Field(default=Parity(), description="a conversion that changes the answers more does not ship")


class TfliteTarget(ConvertedTarget):
    """One `.tflite` file a version, for phones and small devices."""

    kind: Literal["tflite"]
    quantization: Literal["none", "float16", "dynamic", "int8"] = Field(
        default="none",
        description="weights as float16; weights as int8 (dynamic); all as int8, measured on real examples (int8)",
    )


class TfjsTarget(ConvertedTarget):
    """A TensorFlow.js graph model a version, for browsers and Node."""

    kind: Literal["tfjs"]
    quantization: Literal["none", "float16", "uint16", "uint8"] = Field(default="none", description="of the weights")


class HuggingFace(Spec):
    """A repository on the Hugging Face Hub, or on a server that speaks like it, that gets every version too."""

    repo: str = Field(
        pattern=r"^[\w.-]+/([\w.-]|\{pipeline\})+$",
        description="owner/name of a model repository, made if need be; {pipeline} is the pipeline's name",
    )
    endpoint: str = Field(
        default="https://huggingface.co", pattern=r"^https?://[^/\s@]+$", description="the server, without a path"
    )
    token_file: SpecPath | None = Field(
        default=None, description="a file that holds an access token that may write there, and nothing else"
    )
    private: bool = Field(default=False, description="whether a repository that is made is private")
    license: str | None = Field(default=None, pattern=r"^[\w.-]+$", description="of the models: apache-2.0, mit, other")
    task: str | None = Field(
        default=None, pattern=r"^[a-z-]+$", description="what the Hub calls it: tabular-classification, other"
    )
    tags: tuple[str, ...] = Field(default=(), description="more tags of the card")
    timeout: Duration = Field(default=timedelta(minutes=30), description="how long an upload may take")

    @field_validator("endpoint")
    @classmethod
    def _port_there_is(cls, endpoint: str) -> str:
        try:
            _ = urlsplit(endpoint).port
        except ValueError as error:
            raise Complaint(f"{endpoint}: {error}", "Write for instance https://huggingface.co.") from None
        return endpoint

    def place(self, pipeline: str) -> str:
        """The repository, as a link."""
        return f"{self.endpoint}/{self.repo_of(pipeline)}"

    def repo_of(self, pipeline: str) -> str:
        """The name of the repository with its owner."""
        return self.repo.replace("{pipeline}", pipeline)

    @property
    def address(self) -> str:
        """host:port of the endpoint."""
        said = urlsplit(self.endpoint)
        return f"{said.hostname}:{said.port or (443 if said.scheme == 'https' else 80)}"


class HubTarget(Target):
    """A repository of SavedModels with model cards, as `tensorflow_hub` reads them."""

    runtime_only: ClassVar[frozenset[str]] = Target.runtime_only | {"huggingface"}

    kind: Literal["hub"]
    publisher: Name = Field(default="ctd", description="first part of the model's handle: publisher/pipeline/version")
    huggingface: HuggingFace | None = Field(default=None, description="where every version is uploaded as well")


AnyTarget = Annotated[TfServingTarget | TfliteTarget | TfjsTarget | HubTarget, Field(discriminator="kind")]

_ANY: TypeAdapter[AnyTarget] = TypeAdapter(AnyTarget)


def read_target(told: Mapping[str, Any]) -> AnyTarget:
    """The target that `to_json` told of."""
    return _ANY.validate_python(told)


DEFAULT_LIMITS: Mapping[str, float] = {
    "none": 1e-4,
    "float16": 5e-3,
    "uint16": 5e-3,
    "dynamic": 5e-2,
    "uint8": 5e-2,
    "int8": 5e-2,
}
"""The largest difference that a quantization may make by itself in outputs around 1, rounded up."""

DEFAULT_SHARES: Mapping[str, float] = {
    "none": 0.0,
    "float16": 0.01,
    "uint16": 0.01,
    "dynamic": 0.05,
    "uint8": 0.05,
    "int8": 0.05,
}
"""The share of examples that a quantization may put on the other side of a threshold, or into another class."""
