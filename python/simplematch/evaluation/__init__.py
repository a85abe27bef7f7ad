"""PCK under published protocols, evaluation of a model, and keypoint statistics."""

from .card import card_result
from .evaluate import Evaluation, Matcher, evaluate
from .geo_aware import GeoAwareResult, GeoAwareScores, format_geo_aware, geo_aware
from .pck import PCK, PCKResult, Scores
from .predictions import Prediction, Predictions, pck_curve, score_predictions
from .protocol import ALPHAS, PCKProtocol, default_protocols, preset
from .statistics import Fusion, format_statistics, statistics
from .tables import format_result, to_csv, to_json

__all__ = [
    "ALPHAS",
    "PCK",
    "Evaluation",
    "Fusion",
    "GeoAwareResult",
    "GeoAwareScores",
    "Matcher",
    "PCKProtocol",
    "PCKResult",
    "Prediction",
    "Predictions",
    "Scores",
    "card_result",
    "default_protocols",
    "evaluate",
    "format_geo_aware",
    "format_result",
    "format_statistics",
    "geo_aware",
    "pck_curve",
    "preset",
    "score_predictions",
    "statistics",
    "to_csv",
    "to_json",
]
