"""What a template of tests imports: modules that take as long as a test wants. HOME is where it says so."""

from __future__ import annotations

import time
from pathlib import Path


def wait_for(name: str) -> None:
    while not (Path.home() / name).exists():
        time.sleep(0.01)
