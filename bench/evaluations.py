"""What models were found to be worth: `python -m bench.evaluations FOLDER ...`, folders of TFMA results of either side.

A process of its own, because it imports TFMA. It prints, as JSON, the metrics of each over all examples.
"""

from __future__ import annotations

import json
import sys

import tensorflow_model_analysis as tfma


def overall(folder: str) -> dict[str, float]:
    """The metrics of the candidate over all examples, by name, without comparisons: the sides' baselines differ."""
    metrics = dict(tfma.load_eval_result(folder).slicing_metrics)[()][""][""]
    found = {name: value["doubleValue"] for name, value in sorted(metrics.items()) if "doubleValue" in value}
    return {name: float(value) for name, value in found.items() if not name.endswith("_diff")}


if __name__ == "__main__":
    print(json.dumps([overall(folder) for folder in sys.argv[1:]]))
