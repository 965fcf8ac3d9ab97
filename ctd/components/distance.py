"""How far two answers of one shape are apart, value by value: pure arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def apart(one: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float64]:
    """The distance of each pair of numbers; none where both are the same infinity, or both no number.

    What is infinite or no number on one side only is as far off as can be.
    """
    a, b = one.astype(np.float64), other.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = np.asarray(np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b)))
    return np.nan_to_num(gaps, nan=math.inf, posinf=math.inf)
