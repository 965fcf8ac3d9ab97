"""`make demo` shows what it claims: every act checks the state of the world itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

DEMO = Path(__file__).parents[2] / "examples/demo.py"


def test_the_demo_shows_every_act_without_a_question(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO), "--dir", str(tmp_path / "demo")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    for said in ("Predict", "threshold", "half", "typo", "corrected", "accepted", "next"):
        assert said.lower() in done.stdout.lower()
    assert "\x1b[" not in done.stdout, "plain lines where nobody sits at a terminal"
