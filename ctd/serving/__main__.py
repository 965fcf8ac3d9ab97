"""`python -m ctd.serving`: the embedded model server.

Flags are read before TensorFlow is imported, so that a typo costs milliseconds. If TensorFlow cannot be imported in
parts, the process starts again as one that imports all of it.
"""

from __future__ import annotations

import importlib
import os
import sys

from ctd.core import partial_import
from ctd.serving import flags, op_libraries

# Every entry point of TensorFlow that the server uses.
NEEDED = (
    "tensorflow.python.client.session",
    "tensorflow.python.framework.load_library",
    "tensorflow.python.saved_model.loader_impl",
    "tensorflow.python.lib.io.tf_record",
    "tensorflow_serving.apis.prediction_service_pb2_grpc",
)


def main() -> int:
    """Run the server with the process's arguments."""
    chosen = flags.parse(sys.argv[1:])
    whole = chosen.whole_tensorflow or op_libraries.need_whole_tensorflow(op_libraries.names_in(chosen.op_libraries))
    if not whole and not partial_import.install(NEEDED):
        again = [sys.executable, "-m", "ctd.serving", "--whole_tensorflow", *sys.argv[1:]]
        os.execv(sys.executable, again)  # noqa: S606  # this very command, one flag more
    # Only now: the module imports TensorFlow, in whichever way was chosen above.
    server = importlib.import_module("ctd.serving.server")
    exit_code: int = server.run(chosen)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
