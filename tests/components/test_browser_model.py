"""A TensorFlow.js version in a real browser, fetched over HTTP as a page fetches it."""

import contextlib
import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.deploy import tfjs
from tests.components import evaluation_models as small
from tests.components.conftest import Perform
from tests.components.test_converted_targets import expected, feeds, write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.tf,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: apt install chromium"),
]
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--virtual-time-budget=60000"),
)
PAGE = """<!doctype html><meta charset="utf-8"><title>ctd</title>
<script src="/tfjs/tfjs-core/dist/tf-core.min.js"></script>
<script src="/tfjs/tfjs-converter/dist/tf-converter.min.js"></script>
<script src="/tfjs/tfjs-backend-cpu/dist/tf-backend-cpu.min.js"></script>
<pre id="answer"></pre>
<script>
(async () => {
  const said = document.getElementById('answer');
  try {
    const model = await tf.loadGraphModel('/version/model.json');
    const feeds = FEEDS;
    const inputs = Object.fromEntries(
      Object.entries(feeds).map(([name, {dtype, values}]) => [name, tf.tensor(values, undefined, dtype)]));
    const answer = await model.predictAsync(inputs);
    const numbers = await Promise.all(Object.entries(answer).map(async ([name, t]) => [name, [...(await t.data())]]));
    said.textContent = JSON.stringify({backend: tf.getBackend(), answer: Object.fromEntries(numbers)});
  } catch (error) {
    said.textContent = JSON.stringify({error: String(error)});
  }
})();
</script>
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Not into the test's output."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder over HTTP on the loopback."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def page(batch: Mapping[str, np.ndarray]) -> str:
    said = {
        name: {"dtype": "float32" if value.dtype.kind == "f" else "int32", "values": value.tolist()}
        for name, value in batch.items()
    }
    return PAGE.replace("FEEDS", json.dumps(said))


def test_a_page_in_chromium_gets_the_models_answers(work: Perform, tmp_path: Path) -> None:
    model = write(tmp_path / "model")
    examples = small.write_examples(tmp_path / "examples", small.rides(40))
    blessing = Artifact(ArtifactType.MODEL_BLESSING, "/nowhere", properties={"blessed": 1})
    inputs = {"model": model, "model_blessing": blessing, "infra_blessing": blessing, "examples": examples}
    target = {"target": "web", "kind": "tfjs", "path": str(tmp_path / "web")}
    (pushed,) = work("pusher", spec={"targets": ["web"]}, inputs=inputs, target=target)["pushed_model"]

    site = tmp_path / "site"
    site.mkdir()
    (site / "version").symlink_to(str(pushed.properties["pushed_destination"]))
    (site / "tfjs").symlink_to(Path(tfjs.runtime()[1], "@tensorflow"))
    (site / "page.html").write_text(page(feeds()))
    with served(site) as address:
        done = subprocess.run(
            [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"{address}/page.html"],
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    found = re.search(r'<pre id="answer">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    said = json.loads(found[1])
    assert said.get("backend") == "cpu", said
    for name, value in expected(model).items():
        np.testing.assert_allclose(said["answer"][name], value.ravel(), atol=1e-6)
