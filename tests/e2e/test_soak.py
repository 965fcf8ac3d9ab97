"""A glance of the soak that `python -m tests.soak` runs for half an hour: every sort of fault once, real nodes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.tf]

FAULTS = (
    *("daemon killed", "template killed", "worker killed", "daemon frozen", "store locked", "disk full"),
    *("staging closed", "spec invalid", "artifact truncated", "version deleted", "lock removed"),
)


def test_under_a_feed_that_never_stops_faults_break_no_invariant(tmp_path: Path) -> None:
    """Without root the disk cannot be filled: the run says so, and does without."""
    faults = [part for name in FAULTS for part in ("--fault", name)]
    command = [sys.executable, "-m", "tests.soak", "--minutes", "1", "--seed", "1", "--patience", "100"]
    done = subprocess.run(
        [*command, *faults, "--folder", str(tmp_path / "soak")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
