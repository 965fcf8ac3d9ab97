"""The evaluator's metrics by what a converted model answers, computed as the evaluator computes them."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_model_analysis as tfma
from google.protobuf import json_format
from numpy.typing import NDArray
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.proto import config_pb2

from ctd.components.api import SERVING_DIR, user_code
from ctd.components.evaluation_batches import Batching, Extracts
from ctd.components.evaluation_data import Inference, Subject
from ctd.components.evaluation_examples import Examples
from ctd.components.evaluation_labels import MissingValues, labelled
from ctd.components.evaluation_metrics import Computations, measure, spec_name, spec_names
from ctd.components.evaluation_records import Records
from ctd.core.artifacts import Artifact
from ctd.core.errors import BadInput
from ctd.deploy.conversion import Feeds

_CONFIG_FILE = "eval_config.json"  # TFMA's, of an evaluation


@dataclass(frozen=True)
class Yardstick:
    """Metrics of the evaluator, on all examples that it is given, of one output of a model."""

    config: tfma.EvalConfig
    output: str
    where: str

    @classmethod
    def of(cls, where: str, metrics: Sequence[str], evaluation: Artifact | None) -> Yardstick:
        """As an evaluation was configured. Raises BadInput without one, and for a metric that it does not have."""
        if evaluation is None:
            raise BadInput(
                f"{where}: parity.metrics are an evaluator's, and the pusher is given no evaluation",
                hint="Add an evaluator to the pipeline; of several, name one: `inputs: {evaluation: evaluator}`.",
            )
        said = json_format.Parse(Path(evaluation.uri, _CONFIG_FILE).read_text(), config_pb2.EvalRun()).eval_config
        known = {spec_name(metric): metric for spec in said.metrics_specs for metric in spec.metrics}
        unknown = [name for name in metrics if name not in known]
        if unknown:
            raise BadInput(
                f"{where}: parity.metrics: the evaluator does not measure {', '.join(unknown)}, only "
                f"{', '.join(sorted(known))}",
                hint="Add it to `metrics:` of the evaluator, without limits if need be, or mend the target's file.",
            )
        model = next(spec for spec in said.model_specs if not spec.is_baseline)
        output, model.name, model.prediction_key = model.prediction_key, "", ""
        config = tfma.EvalConfig(
            model_specs=[model],
            metrics_specs=[tfma.MetricsSpec(metrics=[known[name] for name in metrics], model_names=[""])],
        )
        if Computations.of(config, None).needs_pipeline:
            raise BadInput(
                f"{where}: parity.metrics: {', '.join(metrics)} need more of an example than label and prediction",
                hint="Name metrics such as BinaryAccuracy or AUC there.",
            )
        return cls(config, output, where)

    @property
    def classes(self) -> Mapping[str, str]:
        """The metrics' classes, by what the evaluator calls them."""
        return {spec_name(metric): metric.class_name for spec in self.config.metrics_specs for metric in spec.metrics}

    def labels_in(self, records: Sequence[bytes]) -> list[Extracts]:
        """Batches of examples that have the label among their features. Raises BadInput if they have not."""
        examples, spec = Examples.of(Records.of(records), None), self.config.model_specs[0]
        return self._complete(labelled(spec, batch, examples.features) for batch in examples.decoded())

    def labels_by(self, model: Artifact, records: Sequence[bytes]) -> list[Extracts]:
        """Batches of raw examples, with the label as the model's preprocessing makes it, or their own.

        Raises BadInput if there is none.
        """
        subject = Subject(f"model #{model.id}", Path(model.uri, SERVING_DIR), self.config.model_specs[0], {})
        with user_code(f"{self.where}: the label of parity.metrics, made by model #{model.id}"):
            examples = Examples.of(Records.of(records), None)
            inference = Inference(subject, examples.features)
            return self._complete(Batching().each(inference.labelled, examples.decoded()))

    def _complete(self, batches: Iterable[Extracts]) -> list[Extracts]:
        """The batches. Raises BadInput if an example has no label or weight."""
        found, missing = list(batches), MissingValues(self.config.model_specs[0])
        for batch in found:
            missing.add(batch)
        missing.check()
        return found

    def measure(self, batches: Sequence[Extracts], answers: Sequence[Feeds]) -> Mapping[str, float | None]:
        """The metrics by their names; None is no finite number. Both arguments are of the same examples, in order."""
        predicted = self._predictions(answers, sum(len(batch[constants.INPUT_KEY]) for batch in batches))
        judged, begin = [], 0
        for batch in batches:
            end = begin + len(batch[constants.INPUT_KEY])
            judged.append({**batch, constants.PREDICTIONS_KEY: predicted[begin:end]})
            begin = end
        with user_code(f"{self.where}: computing parity.metrics", hint="The evaluator computes the same metrics."):
            computations = Computations.of(self.config, None)
            (found,) = measure(judged, self.config, computations).values()
            names = spec_names(self.config)
        return {_name(key, names): _finite(value) for key, value in found.items() if key.name in names}

    def _predictions(self, answers: Sequence[Feeds], examples: int) -> NDArray[Any]:
        """The answers to all examples. Raises BadInput for an output that has not one of one shape for each."""
        name = self._output(answers[0])
        found = [np.asarray(answer[name]) for answer in answers]
        if len({part.shape[1:] for part in found}) == 1 and sum(len(p) for p in found if p.ndim) == examples:
            return np.concatenate(found)
        raise BadInput(
            f"{self.where}: parity.metrics: output {name!r} has not one answer of one shape for each example, but "
            f"shapes such as {found[-1].shape}",
            hint="Name another output with `prediction_key:` of the evaluator, or take `metrics` out of the target.",
        )

    def _output(self, answer: Feeds) -> str:
        """The output that labels are compared with."""
        if self.output in answer:
            return self.output
        if len(answer) == 1 and not self.output:
            return next(iter(answer))
        there = ", ".join(sorted(answer))
        raise BadInput(
            f"{self.where}: parity.metrics are of the output {self.output!r}, and the signature has only {there}"
            if self.output
            else f"{self.where}: parity.metrics: it cannot be told which of the outputs {there} they are of",
            hint="Name it with `prediction_key:` of the evaluator, and give it the same name in each signature.",
        )


def _name(key: tfma.metrics.MetricKey, names: Mapping[str, str]) -> str:
    name = names.get(key.name, key.name)
    return f"{name} {key.sub_key}" if key.sub_key else name


def _finite(value: object) -> float | None:
    """The value as a number; nothing if it is none."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    return float(value) if isinstance(value, numbers.Real) and math.isfinite(value) else None
