"""Error bars that hold their share of the truths, and the probability that a point has no match."""

from .conformal import conformal_quantile, fit_covariance
from .fit import LEVELS, fit_calibration
from .logistic import Logistic, area_under_curve, fit_logistic
from .record import FILE, LEVEL, Calibration
from .run import calibrate, measure
from .samples import Collected, Samples, collect, collect_samples

__all__ = [
    "FILE",
    "LEVEL",
    "LEVELS",
    "Calibration",
    "Collected",
    "Logistic",
    "Samples",
    "area_under_curve",
    "calibrate",
    "collect",
    "collect_samples",
    "conformal_quantile",
    "fit_calibration",
    "fit_covariance",
    "fit_logistic",
    "measure",
]
