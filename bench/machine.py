"""On what, with what and when something was measured."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import psutil

LIBRARIES = ("tensorflow", "keras", "tensorflow-transform", "tensorflow-data-validation", "tensorflow-model-analysis",
             "apache-beam", "ml-metadata", "pyarrow", "protobuf")  # fmt: skip


def described(peer: Path | None) -> dict[str, str]:
    """The machine, and the versions on both sides."""
    found = {
        "cores": str(os.cpu_count()),
        "CPU": _cpu(),
        "memory": f"{psutil.virtual_memory().total / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "ctd": f"{importlib.metadata.version('ctd')} on Python {platform.python_version()}; "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES),
    }
    if peer is not None:
        ask = (
            "import importlib.metadata as m, platform\n"
            f"print(m.version('tfx'), 'on Python', platform.python_version() + '; ' + "
            f"', '.join(n + ' ' + m.version(n) for n in {LIBRARIES!r}))"
        )
        answer = subprocess.run([str(peer), "-c", ask], check=True, capture_output=True, text=True)
        found["TFX"] = answer.stdout.strip()
    return found


def said_now(repository: Path) -> dict[str, str]:
    """The date, and the commit that was measured."""
    git = ["git", "-C", str(repository)]
    commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], check=False, capture_output=True, text=True)
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], check=False, capture_output=True, text=True)
    edited = " with changes" if changed.stdout.strip() else ""
    date = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    return {"commit": (commit.stdout.strip() or "unknown") + edited, "date": date}


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
