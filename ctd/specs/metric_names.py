"""The metrics an evaluator can be asked for: the classes of TFMA and of Keras 2, by which TFMA knows them.

Kept here as text, since specs are read where neither is imported; a test holds the list against both.
"""

from __future__ import annotations

import difflib

_NAMES = """
    AUC AUCPrecisionRecall Accuracy BalancedAccuracy BinaryAccuracy BinaryCrossEntropy BinaryCrossentropy BinaryIoU
    Bleu BooleanFlipRates COCOAveragePrecision COCOAverageRecall COCOMeanAveragePrecision COCOMeanAverageRecall
    Calibration CalibrationPlot CategoricalAccuracy CategoricalCrossEntropy CategoricalCrossentropy CategoricalHinge
    CoefficientOfDiscrimination ConfusionMatrixAtThresholds ConfusionMatrixPlot CosineSimilarity DiagnosticOddsRatio
    ExactMatch ExampleCount F1Score FBetaScore FN FNR FP FPR FallOut FalseDiscoveryRate FalseNegativeFeatureSampler
    FalseNegatives FalseOmissionRate FalsePositiveFeatureSampler FalsePositives FowlkesMallowsIndex Hinge
    Informedness IoU KLDivergence LogCoshError Markedness MatthewsCorrelationCoefficient MaxRecall MeanAbsoluteError
    MeanAbsolutePercentageError MeanIoU MeanLabel MeanPrediction MeanRelativeError MeanSquaredError
    MeanSquaredLogarithmicError MissRate ModelCosineSimilarity MultiClassConfusionMatrixAtThresholds
    MultiClassConfusionMatrixPlot MultiLabelConfusionMatrixPlot NPV NegToNegFlipRate NegToPosFlipRate
    NegativeLikelihoodRatio NegativePredictiveValue ObjectDetectionConfusionMatrixPlot ObjectDetectionMaxRecall
    ObjectDetectionPrecision ObjectDetectionPrecisionAtRecall ObjectDetectionRecall ObjectDetectionThresholdAtRecall
    OneHotIoU OneHotMeanIoU PPV Poisson PosToNegFlipRate PosToPosFlipRate PositiveLikelihoodRatio Precision
    PrecisionAtRecall PredictedPositiveRate Prevalence PrevalenceThreshold Recall RecallAtFalsePositiveRate
    RecallAtPrecision RelativeCoefficientOfDiscrimination RootMeanSquaredError Rouge ScoreDistributionPlot
    SemanticSegmentationConfusionMatrix SemanticSegmentationFalsePositive SemanticSegmentationTruePositive
    SensitivityAtSpecificity SetMatchPrecision SetMatchRecall SparseCategoricalAccuracy
    SparseCategoricalCrossentropy SparseTopKCategoricalAccuracy Specificity SpecificityAtSensitivity SquaredHinge
    SquaredPearsonCorrelation SymmetricFlipRate SymmetricPredictionDifference TN TNR TP TPR ThreatScore
    ThresholdAtRecall TopKCategoricalAccuracy TrueNegatives TruePositives WeightedExampleCount
"""
METRICS = frozenset(_NAMES.split())

OWN_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
"""What a user may call a metric; it is never a class, whose names begin with a capital letter."""

ALWAYS_MEASURED = frozenset({"ExampleCount"})
"""What every evaluation has, asked for or not."""

NAN_PREDICTIONS, INFINITE_PREDICTIONS = "NanPredictions", "InfinitePredictions"
"""How many predictions are no numbers: a slice has them beside its metrics where there are any."""

_GROUPS = "is of groups of examples, and an evaluator has no key of groups"
_ATTRIBUTIONS = "is of attributions, which no signature gives"
UNMEASURABLE = {
    **dict.fromkeys(("NDCG", "QueryStatistics", "MinLabelPosition"), _GROUPS),
    **dict.fromkeys(
        (f"{how}Attributions" for how in ("Mean", "MeanAbsolute", "Total", "TotalAbsolute")), _ATTRIBUTIONS
    ),
}
"""TFMA's metrics that an evaluator has not what they need for, and why."""

INSTEAD = {
    "MAE": "MeanAbsoluteError",
    "MSE": "MeanSquaredError",
    "RMSE": "RootMeanSquaredError",
    "MCC": "MatthewsCorrelationCoefficient",
    "LogLoss": "BinaryCrossentropy",
    "FDR": "FalseDiscoveryRate",
    "FOR": "FalseOmissionRate",
    # TFMA cannot put its parts together where examples come in more than one batch or slice.
    "R2Score": "SquaredPearsonCorrelation",
    # An add-on of TFMA's, which shows such metrics together.
    "FairnessIndicators": "FPR and FNR, each limited on every slice",
}
"""What to ask for instead of what people write that is none of them."""


def no_metric(name: str) -> tuple[str, str]:
    """Message and hint for a name that none of them has."""
    if name in UNMEASURABLE:
        return f"{name} cannot be measured: it {UNMEASURABLE[name]}", "Take it out."
    similar = {known.lower(): known for known in METRICS}
    close = difflib.get_close_matches(name.lower().replace("_", ""), similar, n=1)
    meant = INSTEAD.get(name) or (similar[close[0]] if close else "")
    meant = f"Did you mean {meant}? " if meant else ""
    hint = f"{meant}Metrics are named by their class in TFMA or Keras, such as BinaryAccuracy."
    return f"there is no metric {name!r}", hint
