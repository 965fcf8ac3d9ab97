"""The real daemon and a target that people meddle with: a version deleted by hand comes back, a rollback stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.site import Site, eventually

pytestmark = pytest.mark.e2e


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A pipeline that imports a model and pushes it to a folder."""
    made = Site(tmp_path, "light")
    for folder in ("specs", "deploy_targets"):
        (tmp_path / folder).mkdir()
    export(made, "one")
    nodes = "  model: {kind: importer, artifact: Model, path: ../model}\n"
    nodes += "  pusher: {kind: pusher, targets: [serving], require: []}\n"
    made.spec.write_text(f"pipeline: light\nnodes:\n{nodes}")
    (tmp_path / "deploy_targets/serving.yaml").write_text("target: serving\nkind: tf_serving\npath: ../serving\n")
    return made


def export(site: Site, text: str) -> None:
    """Another model in the place that is imported."""
    file = site.root / "model/saved_model.pb"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def live(site: Site, version: int) -> dict[str, object]:
    """What `ctd status` says of the target, once this version is there."""

    def there() -> dict[str, object]:
        said = json.loads(site.ctd("status", "--json", ok=(0, 1, 3)))["pipelines"][0]["live"][0]
        return said if said["version"] == version else {}

    found: dict[str, object] = eventually(f"version {version} is live", there)
    return found


def content(site: Site, version: int) -> str:
    return (site.root / f"serving/{version}/saved_model.pb").read_text()


def test_what_was_deleted_comes_back_and_what_was_rolled_back_stays_away(site: Site) -> None:
    with site.daemon() as daemon:
        live(site, 1)
        shutil.rmtree(site.root / "serving/1")
        assert daemon.wait_for("target changed")["because"] == "version 1 is gone"
        assert str(live(site, 2)["because"]).startswith("version 1 is gone on target serving: pushed again")
        assert content(site, 2) == "one"
        export(site, "bad")
        live(site, 3)
        said = site.ctd("rollback", "light", "serving", "--reason", "tips far too high")
        assert "goes back to a model from before" in said
        assert str(live(site, 4)["hold"]).startswith("rolled back to version 2 by ")
        assert (content(site, 3), content(site, 4)) == ("bad", "one")
    with site.daemon() as daemon:
        export(site, "two")
        assert live(site, 5)["hold"] == ""
        daemon.wait_for("execution ended", node="pusher", state="succeeded")
    assert content(site, 5) == "two"
    asked = [e for e in site.executions() if "tips far too high" in e.because]
    assert [(e.node, e.state.value) for e in asked] == [("pusher", "succeeded")]
