"""The page that Prometheus fetches."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from ctd.serving.errors import Code
from ctd.serving.metrics import Metrics


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample of the page by name and labels."""
    families = text_string_to_metric_families(metrics.page().decode())
    return {
        f"{sample.name}{{{','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))}}}": sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_are_counted_by_model_and_status_under_tensorflow_servings_name() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.answered("taxi", "Predict", "GRPC", Code.OK, 0.001)
    metrics.answered("taxi", "Predict", "REST", Code.INVALID_ARGUMENT, 0.001)
    page = metrics.page().decode()
    assert "# TYPE :tensorflow:serving:request_count counter" in page
    assert ':tensorflow:serving:request_count{model_name="taxi",status="OK"} 3.0' in page
    assert ':tensorflow:serving:request_count{model_name="taxi",status="INVALID_ARGUMENT"} 1.0' in page
    assert "_created" not in page


def test_latencies_are_in_microseconds_and_only_of_what_succeeded() -> None:
    metrics = Metrics()
    metrics.answered("taxi", "Predict", "GRPC", Code.OK, 0.000015)
    metrics.answered("taxi", "Predict", "GRPC", Code.NOT_FOUND, 99.0)
    metrics.ran("taxi", "Predict", 0.000012)
    metrics.warmed_up("/models/taxi/1", Code.OK, 2.0)
    found = samples(metrics)
    where = "API=Predict,entrypoint=GRPC"
    assert found[f":tensorflow:serving:request_latency_count{{{where},model_name=taxi}}"] == 1
    assert found[f":tensorflow:serving:request_latency_bucket{{{where},le=10.0,model_name=taxi}}"] == 0
    assert found[f":tensorflow:serving:request_latency_bucket{{{where},le=18.0,model_name=taxi}}"] == 1
    assert round(found[":tensorflow:serving:runtime_latency_sum{API=Predict,model_name=taxi,runtime=TF1}"]) == 12
    assert found[":tensorflow:serving:model_warmup_latency_sum{model_path=/models/taxi/1,status=OK}"] == 2_000_000


def test_examples_are_counted() -> None:
    metrics = Metrics()
    metrics.examples("taxi", 3)
    metrics.examples("taxi", 5)
    found = samples(metrics)
    assert found[":tensorflow:serving:request_example_counts_sum{model=taxi}"] == 8
    assert found[":tensorflow:serving:request_example_count_total{model=taxi}"] == 8
