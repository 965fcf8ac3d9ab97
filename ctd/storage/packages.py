"""Versions of installed packages."""

import functools
import importlib.metadata


@functools.cache
def installed_version(package: str) -> str:
    """The installed version, as it was when the process first asked: an upgrade needs a restart anyway."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
