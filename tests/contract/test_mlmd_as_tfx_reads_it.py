"""What TFX's readers look for in a store: contexts, typed properties, live outputs by key, the latest blessed model.

They know nothing of ctd: everything here goes through ML Metadata's own interface, as TFX's launcher, resolvers and
notebooks do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

import pytest
from ml_metadata.metadata_store.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from ctd.core.artifacts import Artifact, ArtifactType
from ctd.core.executions import Execution, Failure, Outcome, State
from ctd.core.requests import OperatorRequest, Verb
from ctd.core.timing import ManualClock
from ctd.metadata.mlmd import MlmdStore

CLOCK = ManualClock()
SPLITS = '["train","eval"]'


def run(store: MlmdStore, node: str, inputs: Mapping[str, tuple[Artifact, ...]], **outputs: Artifact) -> Execution:
    """One attempt of a node that succeeds with one artifact for each output key."""
    ids = {key: tuple(a.id for a in artifacts) for key, artifacts in inputs.items()}
    name = f"{node}-{sorted(ids.items())}-{sorted(o.uri for o in outputs.values())}"
    begun = store.begin(Execution("taxi", node, node, name, "f" * 64, CLOCK.now(), inputs=ids))
    CLOCK.forward(seconds=1)
    made = {key: (artifact,) for key, artifact in outputs.items()}
    return store.finish(begun.with_outcome(Outcome(State.SUCCEEDED, made), CLOCK.now()))


@pytest.fixture(scope="module")
def tfx(tmp_path_factory: pytest.TempPathFactory) -> MetadataStore:
    """Two spans; two models, of which the older is blessed; a refused push; one span deleted."""
    path = tmp_path_factory.mktemp("state") / "metadata.sqlite"
    store = MlmdStore(path, CLOCK)
    spans = []
    for span in (41, 42):
        examples = Artifact(ArtifactType.EXAMPLES, f"/r/{span}", "ab", span, 2, {"split_names": SPLITS})
        spans += run(store, "example_gen", {}, examples=examples).output("examples")
        statistics = Artifact(ArtifactType.STATISTICS, f"/s/{span}", "cd", span, 2, {"split_names": SPLITS})
        run(store, "statistics_gen", {"examples": (spans[-1],)}, statistics=statistics)
    for blessed in (1, 0):
        window = tuple(reversed(spans))
        trained = run(store, "trainer", {"examples": window}, model=Artifact(ArtifactType.MODEL, f"/m/{blessed}"))
        (model,) = trained.output("model")
        verdict = {"blessed": blessed, "current_model": model.uri, "current_model_id": model.id}
        blessing = Artifact(ArtifactType.MODEL_BLESSING, f"/b/{blessed}", properties=verdict)
        run(store, "evaluator", {"model": (model,), "examples": (spans[-1],)}, blessing=blessing)
    failing = store.begin(Execution("taxi", "pusher", "pusher", "push", "f" * 64, CLOCK.now()))
    refused = Outcome(State.FAILED, failure=Failure("TargetUnavailable", "/srv is read-only", retryable=True))
    store.finish(failing.with_outcome(refused, CLOCK.now() + timedelta(seconds=1)))
    lost = store.begin(Execution("taxi", "pusher", "pusher", "lost", "f" * 64, CLOCK.now()))
    store.finish(replace(lost, state=State.ABANDONED, ended=CLOCK.now()))
    store.record_request(OperatorRequest(Verb.RETRY, "taxi", "ana", CLOCK.now(), "pusher"))  # which TFX never sees
    store.delete_artifact(spans[0])
    store.close()
    config = pb.ConnectionConfig()
    config.sqlite.filename_uri = str(path)
    config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READONLY
    return MetadataStore(config)


def of_node(tfx: MetadataStore, node: str) -> list[pb.Execution]:
    context = tfx.get_context_by_type_and_name("node", f"taxi.{node}")
    return sorted(tfx.get_executions_by_context(context.id), key=lambda e: e.id)


def live_outputs(tfx: MetadataStore, node: str, key: str) -> list[pb.Artifact]:
    """The channel rule: executions of the node's context, their OUTPUT events with the key, LIVE artifacts."""
    ids = [e.id for e in of_node(tfx, node)]
    events = [
        e for e in tfx.get_events_by_execution_ids(ids) if e.type == pb.Event.OUTPUT and e.path.steps[0].key == key
    ]
    found = tfx.get_artifacts_by_id([e.artifact_id for e in events])
    return sorted((a for a in found if a.state == pb.Artifact.LIVE), key=lambda a: a.id)


def test_a_pipeline_is_a_context_and_so_is_each_node(tfx: MetadataStore) -> None:
    pipeline = tfx.get_context_by_type_and_name("pipeline", "taxi")
    assert len(tfx.get_executions_by_context(pipeline.id)) == 10
    nodes = {c.name for c in tfx.get_contexts_by_type("node")}
    assert nodes == {f"taxi.{n}" for n in ("example_gen", "statistics_gen", "trainer", "evaluator", "pusher")}


def test_outputs_belong_to_the_contexts_of_their_execution(tfx: MetadataStore) -> None:
    (model, _) = live_outputs(tfx, "trainer", "model")
    assert {(c.type, c.name) for c in tfx.get_contexts_by_artifact(model.id)} == {
        ("pipeline", "taxi"),
        ("node", "taxi.trainer"),
    }


def test_execution_types_are_ours_and_base_types_are_tfxs(tfx: MetadataStore) -> None:
    names = [t.name for t in tfx.get_execution_types()]
    kinds = ("evaluator", "example_gen", "pusher", "request", "statistics_gen", "trainer")
    assert sorted(names) == [f"ctd.{kind}" for kind in kinds]
    assert tfx.get_execution_type("ctd.trainer").base_type == pb.ExecutionType.TRAIN
    assert tfx.get_execution_type("ctd.pusher").base_type == pb.ExecutionType.DEPLOY


def test_artifact_types_have_tfxs_typed_properties(tfx: MetadataStore) -> None:
    examples = tfx.get_artifact_type("Examples")
    assert dict(examples.properties) == {"span": pb.INT, "version": pb.INT, "split_names": pb.STRING}
    assert examples.base_type == pb.ArtifactType.DATASET
    assert dict(tfx.get_artifact_type("ExampleStatistics").properties) == {"span": pb.INT, "split_names": pb.STRING}
    assert dict(tfx.get_artifact_type("Model").properties) == {}
    assert tfx.get_artifact_type("Model").base_type == pb.ArtifactType.MODEL


def test_only_what_is_left_of_the_examples_is_live(tfx: MetadataStore) -> None:
    (examples,) = live_outputs(tfx, "example_gen", "examples")
    assert examples.uri == "/r/42"
    assert [a.uri for a in tfx.get_artifacts_by_type("Examples") if a.state == pb.Artifact.DELETED] == ["/r/41"]


def test_span_version_and_splits_are_typed_and_custom(tfx: MetadataStore) -> None:
    (examples,) = live_outputs(tfx, "example_gen", "examples")
    assert examples.properties["span"].int_value == 42
    assert examples.properties["version"].int_value == 2
    assert json.loads(examples.properties["split_names"].string_value) == ["train", "eval"]
    assert examples.custom_properties["span"].int_value == 42
    assert examples.custom_properties["version"].int_value == 2


def test_the_properties_that_tfx_always_writes_are_there(tfx: MetadataStore) -> None:
    (examples,) = live_outputs(tfx, "example_gen", "examples")
    assert examples.custom_properties["tfx_version"].string_value == "1.16.0"
    assert examples.custom_properties["is_external"].int_value == 0
    assert examples.custom_properties["is_external"].WhichOneof("value") == "int_value"
    assert examples.custom_properties["digest"].string_value == "ab"
    assert not examples.name


def test_events_say_key_and_index(tfx: MetadataStore) -> None:
    trained = of_node(tfx, "trainer")[0]
    events = tfx.get_events_by_execution_ids([trained.id])
    read = [
        (e.type, e.path.steps[0].key, e.path.steps[1].index, tfx.get_artifacts_by_id([e.artifact_id])[0].uri)
        for e in events
    ]
    assert sorted(read) == [
        (pb.Event.INPUT, "examples", 0, "/r/42"),
        (pb.Event.INPUT, "examples", 1, "/r/41"),
        (pb.Event.OUTPUT, "model", 0, "/m/1"),
    ]


def test_the_latest_blessed_model_is_found_by_its_blessing(tfx: MetadataStore) -> None:
    models = live_outputs(tfx, "trainer", "model")
    blessed = {
        b.custom_properties["current_model_id"].int_value
        for b in live_outputs(tfx, "evaluator", "blessing")
        if b.custom_properties["blessed"].int_value == 1
    }
    latest = max((m for m in models if m.id in blessed), key=lambda m: m.id)
    assert latest.uri == "/m/1"
    assert models[-1].uri == "/m/0", "the newest model is not blessed"


def test_states_and_results_are_in_tfxs_words(tfx: MetadataStore) -> None:
    assert {e.last_known_state for e in of_node(tfx, "trainer")} == {pb.Execution.COMPLETE}
    failed, lost = of_node(tfx, "pusher")
    assert failed.last_known_state == pb.Execution.FAILED
    result = json.loads(failed.custom_properties["__execution_result__"].string_value)
    assert result == {"resultMessage": "TargetUnavailable: /srv is read-only", "code": 14}
    assert lost.last_known_state == pb.Execution.FAILED
    assert lost.custom_properties["abandoned"].int_value == 1
    assert "abandoned" not in failed.custom_properties
