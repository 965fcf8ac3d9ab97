"""A component that imports nothing, and says which libraries were there when it began."""

from __future__ import annotations

import sys

from ctd.components.api import Outputs, Work

_LIBRARIES = ("apache_beam", "keras", "tensorflow", "tensorflow_data_validation", "tensorflow_transform")


def run(work: Work) -> Outputs:
    folder = work.output("model")
    (folder / "said").touch()
    return {"model": [work.made(folder, there=" ".join(name for name in _LIBRARIES if name in sys.modules))]}
