"""Import parts of TensorFlow without the rest of it: those that serve a model, or interpret one.

`import tensorflow` costs 10 to 20 seconds and 600 MB because its `__init__` pulls in Keras, JAX and IPython. With an
empty module standing in for that `__init__`, the session, the loader and the protos import in one to two seconds and
350 MB. The switch holds for the whole process, so only a process that does nothing else may use it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Iterable

# What TensorFlow's modules import when it is there, and do without when it is not.
OPTIONAL = ("IPython", "jax", "keras", "matplotlib", "pandas", "scipy", "tf_keras", "torch")


def install(needed: Iterable[str]) -> bool:
    """Stand in for TensorFlow's `__init__`; False if that is too late or fails, and then nothing may be imported.

    `needed` are the modules that the process uses; importing them is the proof that the rest can be done without.
    """
    if "tensorflow" in sys.modules:
        return False
    found = importlib.util.find_spec("tensorflow")
    if found is None or found.submodule_search_locations is None:
        return False
    for name in OPTIONAL:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None is how the import system says "not here"
    package = types.ModuleType("tensorflow")
    package.__path__ = list(found.submodule_search_locations)
    package.__spec__ = found
    sys.modules["tensorflow"] = package
    try:
        for name in needed:
            importlib.import_module(name)
    except (ImportError, AttributeError):
        return False
    return True
