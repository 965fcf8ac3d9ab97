"""One run of TFX on the spans below a folder, in a process of its own: what `make bench-peer` compares ctd with.

`tfx_run.py --root DIR --data DIR --schema FILE --module FILE --steps 500 --at-least 0.7 --since UNIX_TIME
--report FILE`, with the Python of the peer's own environment; `since` is when the process was started. The report is
JSON: seconds of the parts of the process, of each component by the times that TFX writes to ML Metadata, and what was
pushed.
"""

import argparse
import json
import time
from pathlib import Path

import tensorflow_model_analysis as tfma
from ml_metadata.metadata_store import MetadataStore
from tfx import v1 as tfx

IMPORTED = time.time()


def eval_config(at_least):
    """AUC and accuracy over everything and by hour; the limits hold overall, as in ctd's spec."""

    def judged(name, lower, worse):
        threshold = tfma.MetricThreshold(
            value_threshold=tfma.GenericValueThreshold(lower_bound={"value": lower}),
            change_threshold=tfma.GenericChangeThreshold(
                absolute={"value": -worse}, direction=tfma.MetricDirection.HIGHER_IS_BETTER
            ),
        )
        overall = tfma.PerSliceMetricThreshold(slicing_specs=[tfma.SlicingSpec()], threshold=threshold)
        return tfma.MetricConfig(class_name=name, per_slice_thresholds=[overall])

    metrics = [
        tfma.MetricConfig(class_name="ExampleCount"),
        judged("BinaryAccuracy", at_least, 0.05),
        judged("AUC", 0.6, 0.05),
    ]
    return tfma.EvalConfig(
        model_specs=[
            tfma.ModelSpec(
                model_type="tf_generic",  # otherwise TFMA tries Keras first
                signature_name="serving_default",
                label_key="tips_xf",
                preprocessing_function_names=["transform_features"],
            )
        ],
        slicing_specs=[tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=["trip_start_hour"])],
        metrics_specs=[tfma.MetricsSpec(metrics=metrics)],
        options=tfma.Options(include_default_metrics={"value": False}),
    )


def pipeline(said):
    """The components in the order of TFX's own taxi example. InfraValidator is left out: it needs Docker."""
    proto = tfx.proto
    split = proto.SplitConfig(
        splits=[
            proto.SplitConfig.Split(name="train", hash_buckets=2),
            proto.SplitConfig.Split(name="eval", hash_buckets=1),
        ]
    )
    examples = tfx.components.CsvExampleGen(
        input_base=str(said.data),
        input_config=proto.Input(splits=[proto.Input.Split(name="spans", pattern="span-{SPAN}/*.csv")]),
        output_config=proto.Output(split_config=split),
    )
    statistics = tfx.components.StatisticsGen(examples=examples.outputs["examples"])
    schema = tfx.components.ImportSchemaGen(schema_file=str(said.schema))
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    transform = tfx.components.Transform(
        examples=examples.outputs["examples"], schema=schema.outputs["schema"], module_file=str(said.module)
    )
    trainer = tfx.components.Trainer(
        module_file=str(said.module),
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema.outputs["schema"],
        train_args=proto.TrainArgs(num_steps=said.steps),
        eval_args=proto.EvalArgs(),
    )
    resolver = tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
    ).with_id("Resolver")
    evaluator = tfx.components.Evaluator(
        examples=examples.outputs["examples"],
        model=trainer.outputs["model"],
        baseline_model=resolver.outputs["model"],
        eval_config=eval_config(said.at_least),
    )
    pusher = tfx.components.Pusher(
        model=trainer.outputs["model"],
        model_blessing=evaluator.outputs["blessing"],
        push_destination=proto.PushDestination(
            filesystem=proto.PushDestination.Filesystem(base_directory=str(said.root / "serving"))
        ),
    )
    return tfx.dsl.Pipeline(
        pipeline_name="taxi",
        pipeline_root=str(said.root / "artifacts"),
        metadata_connection_config=metadata(said.root),
        components=[examples, statistics, schema, validator, transform, trainer, resolver, evaluator, pusher],
        enable_cache=True,
    )


def metadata(root):
    return tfx.orchestration.metadata.sqlite_metadata_connection_config(str(root / "metadata.sqlite"))


def steps(root, since):
    """Of this run: component, seconds from being recorded to being published, and how it ended (COMPLETE, CACHED)."""
    store = MetadataStore(metadata(root))
    types = {each.id: each.name.rpartition(".")[2] for each in store.get_execution_types()}
    found = []
    for execution in store.get_executions():
        began, ended = execution.create_time_since_epoch / 1000, execution.last_update_time_since_epoch / 1000
        if ended >= since:
            state = execution.last_known_state
            name = next(name for name, value in type(execution).State.items() if value == state)
            found.append({"component": types[execution.type_id], "seconds": max(0.0, ended - began), "state": name})
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("root", "data", "schema", "module", "report"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--at-least", type=float, required=True)
    parser.add_argument("--since", type=float, required=True)
    said = parser.parse_args()
    said.root.mkdir(parents=True, exist_ok=True)
    made = pipeline(said)
    built = time.time()
    tfx.orchestration.LocalDagRunner().run(made)
    ended = time.time()
    serving = said.root / "serving"
    report = {
        "process": {
            "start and imports": IMPORTED - said.since,
            "building the pipeline": built - IMPORTED,
            "running": ended - built,
        },
        "steps": steps(said.root, IMPORTED),
        "versions": sorted(path.name for path in serving.iterdir()) if serving.is_dir() else [],
    }
    said.report.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
