"""A stand-in for the daemon that a test can kill: it runs one component with a grandchild and waits."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.contract.executor_bench import Bench, settings

if __name__ == "__main__":
    root, way, do, pid_file = Path(sys.argv[1]), *sys.argv[2:]
    bench = Bench(root, settings(root, templates={"test": "light"} if way == "forked" else {}))
    bench.start(do, pid_file=pid_file)
    time.sleep(600)
