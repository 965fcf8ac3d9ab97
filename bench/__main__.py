"""`make bench`: every benchmark of ctd alone, one after the other; `--quick` is a smaller part of most."""

import subprocess
import sys

from bench import idle, many, planner, serving, span_to_served

if __name__ == "__main__":
    quick = "--quick" in sys.argv[1:]
    span_to_served.main(["--rounds", "1"] if quick else [])
    # In processes of their own: they import TensorFlow, and the others measure memory.
    subprocess.run([sys.executable, "-m", "bench.examples"], check=True)
    subprocess.run([sys.executable, "-m", "bench.transform_windows", *(["--rounds", "1"] if quick else [])], check=True)
    images = ["--examples", "300", "--only", "ctd"] if quick else []
    subprocess.run([sys.executable, "-m", "bench.evaluation_memory", *images], check=True)
    planner.main(["--quick"] if quick else [])
    many.main(["--executions", "60"] if quick else [])
    idle.main(["--pipelines", "1", "--seconds", "10"] if quick else [])
    serving.main(["--seconds", "1"] if quick else [])
