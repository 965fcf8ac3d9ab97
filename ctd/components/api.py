"""What a component is given: its inputs, places to write, a way to report progress, and the border around user code.

A component is a module with `run(work: Work) -> Outputs`. It raises CtdErrors with hints; anything else that
leaves it counts as a bug of ctd's.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from ctd.components.tfx_names import offer_tfx_names
from ctd.components.user_errors import told, user_line
from ctd.core.artifacts import Artifact, Value
from ctd.core.errors import BadInput, ComponentFailed, CtdError
from ctd.core.failpoints import fp
from ctd.core.work import Cancelled, Made, Request
from ctd.specs.base import NodeSpec
from ctd.storage.code import package_root

Outputs = Mapping[str, Sequence[Made]]
S = TypeVar("S", bound=NodeSpec)

_PROGRESS = 500  # characters

# TFX's layout inside artifacts (TFX utils/path_constants.py, types/artifact_utils.py).
SERVING_DIR = "Format-Serving"
STAMPED_MODEL_DIR = "stamped_model"  # in an InfraBlessing with has_model=1: the model with its warm-up requests
SCHEMA_FILE = "schema.pbtxt"


@dataclass(frozen=True)
class Work:
    """One execution, as its component sees it."""

    request: Request

    @property
    def where(self) -> str:
        """How messages name this execution: `pipeline taxi, node trainer, spans 1..3`."""
        r = self.request
        return f"pipeline {r.pipeline}, node {r.node}, {r.key}"

    @property
    def place(self) -> str:
        """The piece of the pipeline that it is of: `trainer`, `evaluator.verdict`."""
        return ".".join(part for part in (self.request.node, self.request.piece) if part)

    def spec(self, kind: type[S]) -> S:
        """The node's spec, as the class that the component knows."""
        return kind.model_validate(self.request.spec)

    def inputs(self, key: str) -> tuple[Artifact, ...]:
        """All artifacts of an input, spans in ascending order; empty if it is not wired or found nothing."""
        return tuple(self.request.inputs.get(key, ()))

    def input(self, key: str) -> Artifact:
        """The one artifact of a required input."""
        (artifact,) = self.request.inputs[key]
        return artifact

    def optional(self, key: str) -> Artifact | None:
        """The one artifact of an optional input, if there is one."""
        found = self.inputs(key)
        return found[0] if found else None

    def output(self, key: str, index: int | None = None) -> Path:
        """A fresh directory for an output; with `index` for outputs of several artifacts."""
        if key not in self.request.outputs:
            raise ComponentFailed(f"{self.where}: {self.request.entrypoint} makes no output {key!r}")
        path = Path(self.request.staging, key) if index is None else Path(self.request.staging, key, str(index))
        path.mkdir(parents=True, exist_ok=True)
        return path

    def made(self, path: Path, *, digest: str = "", like: Artifact | None = None, **properties: Value) -> Made:
        """An artifact at `path`, with span and version of the artifact it is derived from."""
        relative = str(path.relative_to(self.request.staging))
        span, version = (like.span, like.version) if like else (None, None)
        return Made(relative, digest, span, version, properties)

    def progress(self, text: str) -> None:
        """Tell people how far it is: shown by `ctd status` until the next call. Cheap, may be called often."""
        path = Path(self.request.staging, ".progress")
        temporary = path.with_suffix(".new")
        with contextlib.suppress(OSError):  # no work should fail because nobody can be told about it
            temporary.write_text(text[:_PROGRESS])
            temporary.replace(path)
        fp(f"worker.progress.{self.place}")


def is_about(evaluation: Artifact, model: Artifact) -> bool:
    """Whether an evaluation is of this model, or of one that was the same and is made again."""
    said = evaluation.properties
    return said.get("current_model_id") == model.id or said.get("current_model_digest") == model.digest


@contextlib.contextmanager
def user_code(where: str, module: str | None = None, hint: str = "") -> Iterator[None]:
    """The border around code we did not write: whatever it raises leaves as ComponentFailed, with its own line.

    `hint` is for what is called because a spec says so, and is not the module's fault.
    """
    try:
        yield
    except (CtdError, Cancelled):
        raise
    except SystemExit as error:
        place = user_line(error, module)
        raise ComponentFailed(
            f"{where} called sys.exit({error.code})" + (f" at {place}" if place else ""),
            hint="Return from the function instead; ctd ends the process.",
        ) from error
    except BaseException as error:  # KeyboardInterrupt and the like, too: nobody but the code raises them
        said = told(error, module)
        raise ComponentFailed(f"{where} raised {said}", hint=hint or _hint(error, module)) from error


def _hint(error: BaseException, module: str | None) -> str:
    if not isinstance(error, ModuleNotFoundError) or module is None:
        return "The whole traceback is in the execution's log. Saving a mended module is enough: ctd runs it again."
    folders = " and ".join(dict.fromkeys((str(Path(module).parent), package_root(module))))
    return (
        f"Modules are looked for in {folders}, then in {sys.prefix}. Put {error.name} beside the module, or install it "
        "there; ctd tries again when the module is changed in more than its comments."
    )


def load_module(path: str) -> ModuleType:
    """Import the user's module as what it is: a member of its package, or a file on its own.

    Its folder comes first on sys.path and the one above its package next, so that it can import its neighbours in
    both ways. Raises ComponentFailed with file:line for a syntax error, a missing import or anything raised at import.
    """
    file = Path(path)
    if not file.is_file():
        raise ComponentFailed(
            f"module {path} does not exist", hint="Mend `module:` in the spec, or put the file there."
        )
    root = Path(package_root(path))
    sys.path[:0] = dict.fromkeys((str(file.parent), str(root)))
    name = ".".join(file.relative_to(root).with_suffix("").parts)
    offer_tfx_names()
    with user_code(f"importing {file.name}", path):
        return _imported(name, file)


def _imported(name: str, file: Path) -> ModuleType:
    package = name.rpartition(".")[0]
    if package:
        _check_own(importlib.import_module(package), file)
        if name in sys.modules:  # its package has imported it
            return sys.modules[name]
    # By file, not by name: a library of the module's name may be there already.
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ComponentFailed(f"{file} is not a Python file", hint="`module:` names a .py file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _check_own(package: ModuleType, file: Path) -> None:
    if str(file.parent) not in package.__path__:
        raise ComponentFailed(
            f"{file} is in a package called {package.__name__}, and so is something else: {package.__file__}",
            hint="Give the package another name; or take its __init__.py away, if its modules are not imported by it.",
        )


def user_function(work: Work, name: str) -> Any:
    """The named function of the user's module."""
    path = work.request.module
    if path is None:
        raise ComponentFailed(f"{work.where}: no module in the spec", hint="Write `module: my_module.py`.")
    function = getattr(load_module(path), name, None)
    if not callable(function):
        raise ComponentFailed(f"{path} has no function {name}", hint=f"Define `def {name}(...)` there.")
    return function


def split_names(artifact: Artifact) -> tuple[str, ...]:
    """The splits of an Examples, ExampleStatistics or ExampleAnomalies artifact (`split_names`, a JSON list)."""
    return tuple(json.loads(str(artifact.properties.get("split_names", "[]"))))


def split_dir(artifact: Artifact, split: str) -> Path:
    """Where a split's files are (TFX: `Split-{name}`). Raises BadInput for a split that is not there."""
    path = Path(artifact.uri, f"Split-{split}")
    if not path.is_dir():
        raise BadInput(
            f"{artifact.type.value} {artifact.label} has no split {split!r}, only {', '.join(split_names(artifact))}",
            hint="Name an existing split in the spec, or change `splits` of the example_gen.",
        )
    return path


def check_payload(work: Work, examples: Artifact) -> None:
    """Raise BadInput for SequenceExamples, given to a component that reads tf.Examples."""
    if examples.properties.get("payload_format") == "FORMAT_TF_SEQUENCE_EXAMPLE":
        raise BadInput(
            f"{work.where}: {examples.label} are tf.SequenceExamples, and a {work.request.kind} reads tf.Examples",
            hint="SequenceExamples go to statistics_gen and what follows it, and to a trainer, whose module reads them "
            "itself. Take this node out, or write the data as tf.Examples.",
        )


def split_files(artifact: Artifact, split: str) -> tuple[str, ...]:
    """The gzip TFRecord files of a split of Examples, in order."""
    return tuple(sorted(str(p) for p in split_dir(artifact, split).glob("data_tfrecord-*.gz")))
