"""Bad input is normal: a clear error on the node, downstream waits with that reason, and the mended input is enough."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bad_modules import MODULE, SCHEMA, SPEC, TARGET
from tests.e2e.site import Daemon, Site, eventually

pytestmark = pytest.mark.e2e


def csv(seed: int = 1, rows: int = 90) -> str:
    rng = random.Random(seed)
    lines = [f"{rng.uniform(0.1, 20):.2f},{rng.uniform(0, 5):.2f}" for _ in range(rows)]
    return "\n".join(["trip_miles,tips", *lines, ""])


def put(site: Site, span: int, text: str | bytes, marker: bool = True) -> None:
    folder = site.root / "data" / str(span)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".part"
    temporary.write_bytes(text if isinstance(text, bytes) else text.encode())
    temporary.replace(folder / "trips.csv")
    if marker:
        (folder / "_SUCCESS").touch()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    root = tmp_path_factory.mktemp("bad")
    for name, text in {
        "specs/bad.yaml": SPEC,
        "deploy_targets/serving.yaml": TARGET,
        "model.py": MODULE,
        "schema.pbtxt": SCHEMA,
    }.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    return Site(root, pipeline="bad")


@pytest.fixture(scope="module")
def daemon(site: Site) -> Iterator[Daemon]:
    with site.daemon() as running:
        yield running


def behave(site: Site, how: str) -> None:
    """Save the module with another behaviour: code that is mended or broken."""
    (site.root / "model.py").write_text(MODULE.replace('BEHAVIOUR = "good"', f'BEHAVIOUR = "{how}"'))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("", "empty", id="empty file"),
        pytest.param("trip_miles,tips\n", "no examples", id="only a header"),
        pytest.param(bytes(range(256)) * 40, "trips.csv", id="binary garbage"),
        pytest.param("trip_miles,tips\n1.0,2.0\n1.0,2.0,3.0\n", "trips.csv:3", id="a row with too many cells"),
    ],
)
def test_a_span_that_cannot_be_read_is_named_and_its_mended_file_is_enough(
    site: Site, daemon: Daemon, content: str | bytes, said: str
) -> None:
    put(site, 1, content)
    seen = site.until("examples", "failed", "blocked", because=said)
    assert "span-1" in seen["because"]
    assert seen["hint"]
    assert said in site.until("trainer", "waiting", because=said)["because"]
    put(site, 1, csv(seed=len(said)))
    site.until("examples", "up to date")


def test_the_mended_span_reached_the_target(site: Site, daemon: Daemon) -> None:
    eventually("a model is pushed", site.versions)
    site.until("pusher", "up to date")
    # What is served is what was validated: the model stamped with the requests it was asked.
    assert (site.serving / str(max(site.versions())) / "assets.extra" / "tf_serving_warmup_requests").is_file()


def test_a_bad_span_beside_good_ones_holds_nothing_up(site: Site, daemon: Daemon) -> None:
    before = site.versions()
    put(site, 2, "")
    site.until("examples", "failed", "blocked", because="span-2")
    site.until("trainer", "waiting", "up to date", because="span-2")
    site.edit(site.spec, "at_most: 1000", "at_most: 900")
    eventually("the edited threshold was judged", lambda: "900" in str(site.ask("/explain/bad/evaluator")))
    assert site.versions() == before
    put(site, 2, csv(2))
    eventually("the mended span was trained on", lambda: site.versions() > before)


def test_other_columns_are_anomalies_that_name_them(site: Site, daemon: Daemon) -> None:
    put(site, 3, "miles,tips\n" + "\n".join(f"{n}.5,1.5" for n in range(60)) + "\n")
    ended = daemon.wait_for("execution ended", node="validator", key="span-3")
    assert "trip_miles" in ended["result"]
    put(site, 3, csv(3))
    before = site.versions()
    eventually("the corrected span was trained on", lambda: site.versions() > before)


def test_a_span_without_its_marker_waits_for_it(site: Site, daemon: Daemon) -> None:
    before = site.versions()
    put(site, 4, csv(4), marker=False)
    site.until("examples", "waiting", because="no _SUCCESS yet")
    assert site.node("trainer")["state"] == "up to date"
    (site.root / "data/4/_SUCCESS").touch()
    eventually("the completed span was trained on", lambda: site.versions() > before)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises", "the learning rate is a banana"),
        ("exits", "sys.exit(3)"),
        ("dies", "code 3"),
        ("saves nothing", "without saving a model"),
    ],
)
def test_code_that_fails_is_an_error_of_its_node(site: Site, daemon: Daemon, how: str, said: str) -> None:
    behave(site, how)
    seen = site.until("trainer", "failed", "blocked", because=said)
    assert seen["hint"]
    if how == "raises":
        line = next(n for n, text in enumerate(MODULE.splitlines(), 1) if "banana" in text)
        assert f"model.py:{line}" in seen["because"]
    site.until("pusher", "waiting", because=said)


def test_a_syntax_error_is_found_before_anything_runs(site: Site, daemon: Daemon) -> None:
    before = sum(e["event"] == "execution started" for e in daemon.events)
    (site.root / "model.py").write_text(MODULE + "\ndef broken(:\n")
    lines = MODULE.count("\n") + 2
    site.until("trainer", "failed", "blocked", because=f"model.py:{lines}")
    assert sum(e["event"] == "execution started" for e in daemon.events) == before


def test_a_model_that_answers_nan_is_not_blessed(site: Site, daemon: Daemon) -> None:
    before = site.versions()
    behave(site, "nan")
    ended = daemon.wait_for_result("infra", "not blessed")
    assert "nan" in ended["result"].lower()
    site.until("pusher", "blocked")
    assert site.versions() == before


def test_a_model_that_cannot_load_is_not_blessed(site: Site, daemon: Daemon) -> None:
    before = site.versions()
    behave(site, "cannot load")
    daemon.wait_for_result("infra", "not blessed: embedded server refused model")
    assert site.versions() == before


def test_the_mended_module_alone_makes_it_proceed(site: Site, daemon: Daemon) -> None:
    before = site.versions()
    (site.root / "model.py").write_text(MODULE.replace("0.1 *", "0.2 *"))
    eventually("the mended module's model is pushed", lambda: site.versions() > before)
    site.until("pusher", "up to date")


def test_a_target_that_cannot_be_written_is_tried_again_by_itself(site: Site, daemon: Daemon) -> None:
    moved = Path(f"{site.serving}.moved")
    site.serving.rename(moved)
    site.serving.write_text("a file where the folder should be")
    put(site, 5, csv(5))
    seen = site.until("pusher", "waiting", "failed", because=str(site.serving))
    assert "again in" in seen["because"]
    site.until("trainer", "up to date")  # the repair of what was pushed does not wait for it, nor it for the repair
    site.serving.unlink()
    moved.rename(site.serving)
    site.until("pusher", "up to date")
