"""How a spec says what a candidate must withstand before it is served, and in which model server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ctd.core.artifacts import ArtifactType as T
from ctd.core.selectors import Latest, Newest, Take
from ctd.specs.base import Complaint, Complaints, Duration, Name, NodeSpec, Piece, Spec, SpecPath
from ctd.specs.op_library import OpLibrary

Image = Annotated[str, Field(pattern=r"^\S+(:[\w][\w.-]*|@sha256:[0-9a-f]{64})$")]
"""A container image with its tag or digest: without one it would be another image tomorrow."""


class DockerServer(Spec):
    """Where model servers run as containers. The model is copied into them: the daemon may be elsewhere."""

    host: str | None = Field(
        default=None, description="the daemon: unix:///... or tcp://...; by default what DOCKER_HOST says, or here"
    )
    address: str = Field(default="127.0.0.1", description="the host on which the containers' ports are reached")


class KubernetesServer(Spec):
    """Where model servers run as pods. They read the model from the volume that holds ctd's state."""

    namespace: Name
    claim: Name = Field(description="the PersistentVolumeClaim that holds ctd's state directory")
    mount: SpecPath = Field(description="where that volume is mounted for ctd: the state directory is below it")
    service_account: Name | None = None
    context: str | None = Field(default=None, description="of the kubeconfig; by default the pod's own, or the current")


class InfraValidatorSpec(NodeSpec):
    """Loads the candidate in a sandboxed model server and sends it requests made of real examples."""

    runtime_only: ClassVar[frozenset[str]] = NodeSpec.runtime_only | {
        "load_timeout", "request_timeout", "docker", "kubernetes",
    }  # fmt: skip

    kind: Literal["infra_validator"]
    requests: Annotated[int, Field(ge=0)] = Field(
        default=20, description="how many examples to ask of each signature; 0 only loads"
    )
    signatures: tuple[str, ...] = Field(default=("serving_default",), min_length=1)
    split: Name | None = None
    max_latency: Duration | None = Field(
        default=None, description="what 95 % of the requests of each signature must not exceed, after one to warm up"
    )
    warmup: bool = Field(
        default=False,
        description="put the requests into the model that is pushed, for its server to replay before it answers; "
        "the examples are in it in clear",
    )
    runner: Literal["auto", "binary", "docker", "kubernetes", "embedded"] = Field(
        default="auto",
        description="the model server; auto takes the first that is there: `binary`, tensorflow_model_server on PATH, "
        "Docker if it has the images, Kubernetes if `kubernetes` is set, ctd's own",
    )
    op_libraries: tuple[OpLibrary, ...] = Field(
        default=(),
        description="packages, modules or shared objects (.so) with ops that the model needs besides TensorFlow's own; "
        "`ctd serve --op_libraries` gives them to the server that will serve it",
    )
    binary: str | None = Field(default=None, description="a tensorflow_model_server; by default the one on PATH")
    images: tuple[Image, ...] = Field(
        default=("tensorflow/serving:2.16.1",),
        min_length=1,
        description="for docker and kubernetes; the model must pass in each",
    )
    docker: DockerServer = DockerServer()
    kubernetes: KubernetesServer | None = None
    load_timeout: Duration = timedelta(minutes=5)
    request_timeout: Duration = timedelta(seconds=30)

    @model_validator(mode="after")
    def _agrees(self) -> InfraValidatorSpec:
        complaints = list(self._disagreements())
        if complaints:
            raise Complaints(complaints)
        return self

    def _disagreements(self) -> Iterator[Complaint]:
        """Settings that would do nothing, or cannot be done."""
        for key in ("max_latency", "warmup"):
            if getattr(self, key) and not self.requests:
                yield Complaint(f"`{key}` needs requests, and there are none", "Remove `requests: 0`.", (key,))
        if self.binary and self.runner not in ("auto", "binary"):
            hint = f"Remove `binary`, or write `runner: binary` for `runner: {self.runner}`."
            yield Complaint(f"`binary` is not used by {self.runner}", hint, ("binary",))
        other = self.runner if self.runner in ("binary", "docker", "kubernetes") else "`binary`" if self.binary else ""
        if self.op_libraries and other:
            hint = "Remove it: a tensorflow_model_server has its ops built in. For `ctd serve`, `runner: embedded`."
            yield Complaint(f"`op_libraries` is not used by {other}", hint, ("op_libraries",))
        if self.runner == "kubernetes" and self.kubernetes is None:
            hint = "Write `kubernetes: {namespace: ml, claim: ctd-state, mount: /state}`."
            yield Complaint("`runner: kubernetes` needs to know where", hint, ("runner",))

    def pieces(self) -> tuple[Piece, ...]:
        takes = {
            "model": Take(T.MODEL, Latest()),
            "examples": Take(T.EXAMPLES, Newest(1), prefer="examples", optional=True, triggers=False),
        }
        makes = {"blessing": T.INFRA_BLESSING}
        return (Piece("ctd.components.infra_validator", takes, makes, self.settings(), profile="evaluate"),)
