"""Whether a process that has TensorFlow imported may still be forked. A TensorFlow that has run an op may not."""

from __future__ import annotations

import sys
from pathlib import Path


def thread_count() -> int:
    """All threads of this process, those of C libraries included."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def op_has_run() -> bool:
    """Whether TensorFlow in this process has set up its runtime, which a fork does not survive."""
    context = sys.modules.get("tensorflow.python.eager.context")
    current = context.context_safe() if context else None
    return current is not None and current._context_handle is not None  # noqa: SLF001  it has no public name
