"""How a spec names what brings TensorFlow ops beyond TensorFlow's own."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from ctd.specs.base import Complaint, against_file

_LIBRARY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def _library(name: str, info: ValidationInfo) -> str:
    """A path relative to the file it is written in, or the name of an installed package or module."""
    if "," in name:
        raise Complaint(f"{name!r} has a comma", "Write a list: `op_libraries: [one, other]`.")
    if "/" in name or name.endswith(".so"):
        return against_file(name, info)
    if not _LIBRARY.fullmatch(name):
        raise Complaint(
            f"{name!r} is neither a path of a shared object nor the name of a Python package",
            "Write `tensorflow_text`, or `./my_ops.so`.",
        )
    return name


OpLibrary = Annotated[str, AfterValidator(_library)]
"""A shared object, or an installed package or module."""
