"""The Pusher with a real model server behind the target: what is pushed is what answers."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.errors import BadInput, ComponentFailed, OtherAnswers, StorageUnavailable
from ctd.serving import warmup
from ctd.serving.client import Client, predict_request
from tests.components import evaluation_models as small
from tests.components.conftest import Perform
from tests.components.serving_process import Running, certificate, publish, running_server

pytestmark = pytest.mark.tf

Push = Callable[..., Artifact]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    """Three models that are sure in different degrees."""
    folder = tmp_path_factory.mktemp("models")
    return [small.write_model(folder / str(n), small.probabilities(float(n)), n) for n in (1, 2, 3)]


def blessing(kind: ArtifactType, *, says: int = 1) -> Artifact:
    return Artifact(kind, "/nowhere", properties={"blessed": says, "reason": "not blessed: too bad"})


@pytest.fixture
def push(work: Perform, tmp_path: Path) -> Push:
    def perform(
        model: Artifact,
        server: Running | None = None,
        served_as: str | None = None,
        said: dict[str, Any] | None = None,
        **more: Artifact,
    ) -> Artifact:
        target = {"target": "serving", "kind": "tf_serving", "path": str(tmp_path / "serving" / "{pipeline}")}
        asked = {"grpc": server.grpc, "timeout": "100s", "model": served_as, **(said or {})} if server else None
        inputs = {
            "model": model,
            "model_blessing": blessing(ArtifactType.MODEL_BLESSING),
            "infra_blessing": blessing(ArtifactType.INFRA_BLESSING),
            **more,
        }
        spec = {"targets": ["serving"]}
        made = work("pusher", spec=spec, inputs=inputs, target={**target, "server": asked})
        (pushed,) = made["pushed_model"]
        return pushed

    return perform


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return small.write_examples(tmp_path_factory.mktemp("examples"), small.rides(20))


def properties(pushed: Artifact, *names: str) -> tuple[Any, ...]:
    return tuple(pushed.properties[name] for name in names)


def test_a_push_without_a_server_is_noted_as_not_verified(push: Push, models: list[Artifact], tmp_path: Path) -> None:
    pushed = push(models[0])
    assert properties(pushed, "pushed", "pushed_version", "verified", "model_id") == (1, 1, 0, 1)
    assert pushed.properties["pushed_destination"] == str(tmp_path / "serving" / "test" / "1")
    assert [path.name for path in Path(pushed.uri).iterdir()] == ["pushed.json"]
    assert json.loads(Path(pushed.uri, "pushed.json").read_text())["model_id"] == 1
    assert (tmp_path / "serving" / "test" / "1" / "saved_model.pb").is_file()


@pytest.mark.parametrize("key", ["model_blessing", "infra_blessing"])
def test_nothing_that_is_not_blessed_is_pushed(push: Push, models: list[Artifact], tmp_path: Path, key: str) -> None:
    refused = blessing(ArtifactType.MODEL_BLESSING, says=0)
    with pytest.raises(BadInput, match="too bad"):
        push(models[0], **{key: refused})
    assert not (tmp_path / "serving").exists()


def test_the_model_that_was_stamped_is_pushed_and_once_only(push: Push, models: list[Artifact], tmp_path: Path) -> None:
    def stamped(name: str) -> Artifact:
        copy = tmp_path / name / "stamped_model"
        shutil.copytree(Path(models[0].uri, "Format-Serving"), copy)
        (copy / "assets.extra").mkdir()
        (copy / "assets.extra" / "tf_serving_warmup_requests").write_text(name)
        return Artifact(ArtifactType.INFRA_BLESSING, str(copy.parent), properties={"blessed": 1, "has_model": 1})

    pushed = [push(models[0], infra_blessing=stamped(name)) for name in ("first", "again")]
    assert [artifact.properties["pushed_version"] for artifact in pushed] == [1, 1]
    records = tmp_path / "serving" / "test" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    assert records.read_text() == "first"


def test_a_stamped_model_with_the_id_of_another_is_pushed(push: Push, models: list[Artifact], tmp_path: Path) -> None:
    """Ids begin anew when the metadata store is lost; what was pushed stays."""

    def stamped(number: int) -> Artifact:
        copy = tmp_path / f"stamped-{number}" / "stamped_model"
        shutil.copytree(Path(models[number].uri, "Format-Serving"), copy)
        return Artifact(ArtifactType.INFRA_BLESSING, str(copy.parent), properties={"blessed": 1, "has_model": 1})

    push(models[0], infra_blessing=stamped(0))
    pushed = push(replace(models[1], id=models[0].id), infra_blessing=stamped(1))
    assert pushed.properties["pushed_version"] == 2
    served, model = (tmp_path / "serving" / "test" / "2", Path(models[1].uri, "Format-Serving"))
    weights = Path("variables", "variables.data-00000-of-00001")
    assert (served / weights).read_bytes() == (model / weights).read_bytes()


def test_a_server_answers_with_every_version_that_is_pushed(
    push: Push, models: list[Artifact], examples: Artifact, tmp_path: Path
) -> None:
    base = tmp_path / "serving" / "test"
    base.mkdir(parents=True)
    push(models[0])
    flags = (f"--model_base_path={base}", "--model_name=test")
    with running_server(tmp_path / "server", *flags) as server, Client(server.grpc) as client:
        again, second = push(models[0], server, examples=examples), push(models[1], server, examples=examples)
        assert properties(again, "pushed_version", "verified") == (1, 1)
        assert properties(second, "pushed_version", "verified") == (2, 1)
        assert "5 golden requests, answers at most" in second.properties["reason"]
        rides = small.rides(1)
        feeds = {"examples": small.serialized(*small.records(rides))}
        answer = client.ask("test", "serving_default", feeds, timeout=100)
        assert answer.version == client.answering("test", 30) == 2
        assert answer.outputs["probabilities"][0, 0] == pytest.approx(small.sigmoid(2 * rides["x"])[0], abs=1e-6)


def test_without_examples_the_warm_up_requests_are_the_golden_ones_and_without_both_it_says_so(
    push: Push, models: list[Artifact], tmp_path: Path
) -> None:
    base = tmp_path / "serving" / "test"
    stamped = tmp_path / "blessing" / "stamped_model"
    shutil.copytree(Path(models[0].uri, "Format-Serving"), stamped)
    feeds = [{"examples": small.serialized(record)} for record in small.records(small.rides(3))]
    warmup.write(stamped, [predict_request("test", "", each) for each in feeds])
    properties_of = {"blessed": 1, "has_model": 1}
    infra = Artifact(ArtifactType.INFRA_BLESSING, str(stamped.parent), properties=properties_of)
    push(models[0], infra_blessing=infra)
    with running_server(tmp_path / "server", f"--model_base_path={base}", "--model_name=test") as server:
        with_requests, without = push(models[0], server, infra_blessing=infra), push(models[1], server)
    assert "3 golden requests, answers at most" in with_requests.properties["reason"]
    assert properties(without, "pushed_version", "verified") == (2, 1)
    assert "not compared: there is no example or warm-up request that fits" in without.properties["reason"]


def test_a_server_with_another_model_behind_the_name_verifies_nothing_and_condemns_nothing(
    push: Push, models: list[Artifact], examples: Artifact, tmp_path: Path
) -> None:
    base = tmp_path / "serving" / "test"
    publish(Path(models[2].uri, "Format-Serving"), tmp_path / "test", 1)
    for version in (1, 5):
        publish(Path(models[0].uri, "Format-Serving"), tmp_path / "twins", version)
    configs = [
        f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" '
        "model_version_policy { all {} } }"
        for name in ("test", "twins")
    ]
    (tmp_path / "models.config").write_text(f"model_config_list {{ {' '.join(configs)} }}")
    with running_server(tmp_path / "server", f"--model_config_file={tmp_path / 'models.config'}") as server:
        with pytest.raises(OtherAnswers) as failed:
            push(models[0], server, examples=examples)
        for part in (server.grpc, "version 1 ", "signature 'serving_default', example", "output 'probabilities' is 0."):
            assert part in failed.value.message
        assert re.search(r"says 0\.\d+, 0\.\d+ apart; 5 of 5 golden requests", failed.value.message)
        # The right model under the right number, but those who name no version get another one.
        with pytest.raises(OtherAnswers, match="name no version are answered by version 5"):
            push(models[0], server, served_as="twins", examples=examples)
    assert sorted(path.name for path in base.iterdir()) == [".ctd", "1"]


def test_a_version_that_answers_otherwise_in_the_server_than_here_is_quarantined(
    push: Push, models: list[Artifact], examples: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a server of another build: the same files, and other numbers. Here a file that each process has its own
    of plays the part of the kernels."""

    def predict(raw: dict[str, Any]) -> dict[str, tf.Tensor]:
        return {"probabilities": raw["x"] * tf.strings.to_number(tf.io.read_file("factor"))}

    base, here, there = tmp_path / "serving" / "test", tmp_path / "here", tmp_path / "there"
    for folder, factor in ((here, "1.0"), (there, "1.001")):
        folder.mkdir()
        (folder / "factor").write_text(factor)
    other = small.write_model(tmp_path / "other", predict, 9)
    push(models[0])
    monkeypatch.chdir(there)
    with running_server(tmp_path / "server", f"--model_base_path={base}", "--model_name=test") as server:
        monkeypatch.chdir(here)
        push(models[0], server, examples=examples)
        with pytest.raises(
            ComponentFailed, match="answers with version 2 otherwise than the model: signature"
        ) as failed:
            push(other, server, examples=examples)
        assert ".ctd-quarantine-2" in failed.value.hint
        assert server.states("test")[1] == "AVAILABLE"
    assert sorted(p.name for p in base.iterdir() if p.name != ".ctd") == [".ctd-quarantine-2", "1"]


def test_a_model_that_the_server_cannot_load_is_quarantined_and_the_old_one_stays(
    push: Push, models: list[Artifact], tmp_path: Path
) -> None:
    base = tmp_path / "serving" / "test"
    push(models[0])
    shutil.copytree(models[2].uri, tmp_path / "bad")
    (tmp_path / "bad" / "Format-Serving" / "saved_model.pb").write_bytes(b"no model")
    with running_server(tmp_path / "server", f"--model_base_path={base}", "--model_name=test") as server:
        push(models[0], server)
        with pytest.raises(ComponentFailed, match="cannot load version 2"):
            push(small.model_artifact(tmp_path / "bad", 3), server)
        assert server.states("test")[1] == "AVAILABLE"
        assert properties(push(models[1], server), "pushed_version", "verified") == (3, 1)
    assert sorted(p.name for p in base.iterdir() if p.name != ".ctd") == [".ctd-quarantine-2", "1", "3"]


def test_a_server_is_asked_through_a_socket(
    push: Push, models: list[Artifact], examples: Artifact, tmp_path: Path
) -> None:
    flags = (f"--model_base_path={tmp_path / 'serving' / 'test'}", "--model_name=test")
    with running_server(tmp_path / "server", *flags, f"--grpc_socket_path={tmp_path / 'door'}") as server:
        pushed = push(models[0], server, said={"grpc": f"unix:{tmp_path / 'door'}"}, examples=examples)
    assert properties(pushed, "pushed_version", "verified") == (1, 1)
    assert "5 golden requests, answers at most" in pushed.properties["reason"]


def test_a_server_that_speaks_tls_is_asked_with_the_certificates_of_the_target(
    push: Push, models: list[Artifact], examples: Artifact, tmp_path: Path
) -> None:
    certificate(tmp_path, "ca")
    for name in ("server", "me"):
        certificate(tmp_path, name, "ca")
    pem = {"server_key": "server.key", "server_cert": "server.pem", "custom_ca": "ca.pem"}
    lines = [f"{field}: {json.dumps((tmp_path / file).read_text())}" for field, file in pem.items()]
    (tmp_path / "ssl").write_text("\n".join(lines))
    (tmp_path / "ssl_both").write_text("\n".join([*lines, "client_verify: true"]))
    flags = (f"--model_base_path={tmp_path / 'serving' / 'test'}", "--model_name=test")
    ca = {"ca": str(tmp_path / "ca.pem")}
    both = {**ca, "cert": str(tmp_path / "me.pem"), "key": str(tmp_path / "me.key")}
    for version, config, tls in ((1, "ssl", ca), (2, "ssl_both", both)):
        with running_server(tmp_path / "server", *flags, f"--ssl_config_file={tmp_path / config}") as server:
            pushed = push(models[version - 1], server, said={"tls": tls}, examples=examples)
        assert properties(pushed, "pushed_version", "verified") == (version, 1)
        assert "5 golden requests, answers at most" in pushed.properties["reason"]


def test_certificates_that_cannot_be_read_stop_a_push_before_it_begins(
    push: Push, models: list[Artifact], tmp_path: Path
) -> None:
    base = tmp_path / "serving" / "test"
    with running_server(tmp_path / "server", f"--model_base_path={base}", "--model_name=test") as server:
        with pytest.raises(StorageUnavailable, match=r"server\.tls\.ca: .*nowhere\.pem"):
            push(models[0], server, said={"tls": {"ca": str(tmp_path / "nowhere.pem")}})
        assert server.states("test") == {}
    assert [path.name for path in base.iterdir()] == [".ctd"]


def test_a_server_that_is_away_leaves_the_push_unverified(push: Push, models: list[Artifact], tmp_path: Path) -> None:
    base = tmp_path / "serving" / "test"
    push(models[0])
    with running_server(tmp_path / "server", f"--model_base_path={base}", "--model_name=test") as server:
        gone = server
    assert properties(push(models[1], gone), "pushed_version", "verified") == (2, 0)
