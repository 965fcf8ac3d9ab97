"""What a metric's class tells of its value: whether it is one number, and which way it improves. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COMPARISONS = frozenset(
    {
        *("SymmetricPredictionDifference", "ModelCosineSimilarity", "SymmetricFlipRate", "BooleanFlipRates"),
        *("NegToNegFlipRate", "NegToPosFlipRate", "PosToNegFlipRate", "PosToPosFlipRate"),
    }
)
"""Metrics of two models' answers side by side: without a baseline there is nothing to measure."""

MORE_IS_BETTER = frozenset(
    {
        *("AUC", "Recall", "TruePositives", "TP", "TrueNegatives", "TN", "Specificity", "TPR", "TNR", "PPV", "NPV"),
        *("NegativePredictiveValue", "PrecisionAtRecall", "RecallAtPrecision", "RecallAtFalsePositiveRate"),
        *("SensitivityAtSpecificity", "SpecificityAtSensitivity", "AUCPrecisionRecall", "FowlkesMallowsIndex"),
        *("MatthewsCorrelationCoefficient", "Informedness", "Markedness", "DiagnosticOddsRatio"),
        *("PositiveLikelihoodRatio", "ExactMatch", "CosineSimilarity", "SquaredPearsonCorrelation", "MaxRecall"),
        *("SetMatchRecall", "CoefficientOfDiscrimination", "RelativeCoefficientOfDiscrimination"),
        *("COCOMeanAverageRecall", "COCOAverageRecall", "ObjectDetectionRecall", "ObjectDetectionMaxRecall"),
        *("ObjectDetectionPrecisionAtRecall", "SemanticSegmentationTruePositive"),
    }
)
LESS_IS_BETTER = frozenset(
    {
        *("FalsePositives", "FP", "FalseNegatives", "FN", "FPR", "FNR", "FallOut", "MissRate", "FalseDiscoveryRate"),
        *("FalseOmissionRate", "NegativeLikelihoodRatio", "KLDivergence", "Poisson"),
        "SemanticSegmentationFalsePositive",
    }
)
_MORE_ENDINGS = ("Accuracy", "Precision", "Score", "IoU")
_LESS_ENDINGS = ("Error", "Loss", "Crossentropy", "CrossEntropy", "Hinge")

_SHOWN = "Take the limits out: it is computed and shown all the same."
_EACH = "Ask for each by a name of your own, as `{lower}_a: {{metric: {metric}, config: {{{key}: {one}}}}}`."
_NO_NUMBER = {
    "ConfusionMatrixAtThresholds": ("is a table of numbers", "Limit FalsePositives, FNR and the like instead."),
    "MultiClassConfusionMatrixAtThresholds": ("is a table of numbers", _SHOWN),
    "SemanticSegmentationConfusionMatrix": ("is a table of numbers", _SHOWN),
    "BooleanFlipRates": (
        "is five numbers",
        "Limit SymmetricFlipRate, PosToNegFlipRate and the like: each is one of them.",
    ),
    "Bleu": ("is a score with its parts", _SHOWN),
    "Rouge": ("is three numbers", _SHOWN),
    "FalseNegativeFeatureSampler": ("is a sample of examples", _SHOWN),
    "FalsePositiveFeatureSampler": ("is a sample of examples", _SHOWN),
}
# Where thresholds are the points of a curve, which has one number.
_CURVES = ("AUC", "AUCPrecisionRecall")


def more_is_better(metric: str) -> bool | None:
    """Which way a metric improves, by its TFMA or Keras class; nothing if there is no better, as for a mean."""
    if metric in MORE_IS_BETTER or metric.endswith(_MORE_ENDINGS):
        return True
    if metric in LESS_IS_BETTER or metric.endswith(_LESS_ENDINGS):
        return False
    return None


def never_number(metric: str) -> tuple[str, str] | None:
    """Why a metric of a class is not one number, whatever its arguments, and what to do for a limit."""
    return ("is a plot", _SHOWN) if metric.endswith("Plot") else _NO_NUMBER.get(metric)


def no_number(metric: str, config: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why a metric with these arguments is not one number, and what to do for a limit; nothing if it is one."""
    if never := never_number(metric):
        return never
    if metric == "FBetaScore" and config.get("average") is None:
        return "without `average` is a number for each class", "Write `config: {average: macro}`, micro or weighted."
    key = "class_ids" if metric.startswith("SemanticSegmentation") else "thresholds"
    several = config.get(key)
    curve = metric in _CURVES or metric.endswith("AtRecall")
    if not curve and isinstance(several, list | tuple) and len(several) > 1:
        one = [several[0]] if key == "class_ids" else several[0]
        return f"with several {key} is a number for each", _EACH.format(
            lower=metric.lower(), metric=metric, key=key, one=one
        )
    return None


def no_direction(metric: str) -> tuple[str, str] | None:
    """Why a metric of a class cannot be worse than the baseline's, and what to do; nothing if it can."""
    if metric in COMPARISONS:
        return f"{metric} compares with the baseline by itself", "Use at_most or at_least for this metric."
    if more_is_better(metric) is None:
        return f"for {metric} neither more nor less is better", "Use at_least and at_most for this metric."
    return None
