"""Where TensorFlow ops beyond its own come from: the libraries that a flag or a spec names, and those known by default.

A SavedModel names its ops and does not bring them. `tensorflow_model_server` has some linked in besides TensorFlow's
own; here they come from the installed packages. Nothing of a package is imported to find its libraries, and this
module does not import TensorFlow: `custom_ops` loads what is found.
"""

from __future__ import annotations

import importlib.util
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctd.serving.errors import Code, ServingError, invalid

# What tensorflow_model_server's build has (SUPPORTED_TENSORFLOW_OPS): the package, and the folder in it.
LINKED_IN: tuple[tuple[str, str], ...] = (
    ("tensorflow_text", ""),
    ("tensorflow_decision_forests", "tensorflow/ops/inference"),
)

_SUFFIX = ".so"
_REGISTERS = b"OpDefBuilder"  # the C++ class that every REGISTER_OP calls


@dataclass(frozen=True)
class OpLibrary:
    """What one name stands for: shared objects, or a Python module that registers its ops when it is imported."""

    name: str
    files: tuple[Path, ...] = ()

    @property
    def imported(self) -> bool:
        """Whether it is a module, which needs the whole of TensorFlow."""
        return not self.files


def names_in(flag: str) -> tuple[str, ...]:
    """The names in a list with commas."""
    return tuple(name.strip() for name in flag.split(",") if name.strip())


def find(name: str) -> OpLibrary:
    """The library of this name: a path of a shared object, or an installed package or module.

    Raises ServingError if there is none.
    """
    if is_path(name):
        path = Path(name).absolute()
        if not path.is_file():
            raise ServingError(Code.NOT_FOUND, f"op library {name}: there is no file {path}")
        return OpLibrary(name, (path,))
    place = _place_of(name)
    if place is None:
        raise ServingError(
            Code.NOT_FOUND,
            f"op library {name}: no Python package or module of this name is installed. Install it in the environment "
            f"of the model server, or name the path of a shared object ({_SUFFIX})",
        )
    return OpLibrary(name, tuple(_libraries_below(place)))


def linked_in() -> Iterator[OpLibrary]:
    """The libraries that tensorflow_model_server has linked in, as far as they are installed."""
    for package, folder in LINKED_IN:
        place = _place_of(package)
        files = tuple(_libraries_below(place / folder)) if place else ()
        if files:
            yield OpLibrary(package, files)


def need_whole_tensorflow(names: Sequence[str]) -> bool:
    """Whether one of these libraries has to be imported as Python. One that is not there needs nothing."""
    return any(_is_imported(name) for name in names)


def _is_imported(name: str) -> bool:
    try:
        return find(name).imported
    except ServingError:
        return False


def is_path(name: str) -> bool:
    """Whether this is the path of a shared object, and not the name of a package or module."""
    return "/" in name or name.endswith(_SUFFIX)


def _place_of(name: str) -> Path | None:
    """The folder of a package or the file of a module. Imports nothing, not even the packages above it."""
    top, *below = name.split(".")
    if not all(part.isidentifier() for part in (top, *below)):
        raise invalid(f"op library {name!r}: this is neither a path of a shared object nor the name of a Python module")
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if found is None:
        return None
    folders = [Path(folder) for folder in found.submodule_search_locations or ()]
    if not below:
        return folders[0] if folders else Path(found.origin) if found.origin else None
    for path in (folder.joinpath(*below) for folder in folders):
        if path.is_dir():
            return path
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
    return None


def _libraries_below(place: Path) -> Iterator[Path]:
    """The shared objects of a package that register ops; its other ones are none of TensorFlow's business."""
    if place.is_dir():
        yield from (path for path in sorted(place.rglob(f"*{_SUFFIX}")) if _registers_ops(path))


def _registers_ops(path: Path) -> bool:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content.find(_REGISTERS) >= 0
    except (OSError, ValueError):  # unreadable, or empty
        return False
