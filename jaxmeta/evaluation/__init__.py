"""WHAT was learned: adaptation to held-out tasks, with intervals over episodes; how near estimators
come to the truth; what is universal in what was learned, and how well-conditioned learning it
is."""

from jaxmeta._curvature import gauss_newton, hessian
from jaxmeta.evaluation._adaptation import Result, curve, evaluate
from jaxmeta.evaluation._calibration import Calibration, calibration
from jaxmeta.evaluation._collapse import hierarchical_collapse, neural_collapse
from jaxmeta.evaluation._conditioning import conditioning, spectrum
from jaxmeta.evaluation._connectivity import barrier, permuted, sequential_axes, weight_matching
from jaxmeta.evaluation._gradients import Comparison, Road, compare
from jaxmeta.evaluation._recovery import group_agreement, subspace_distance
from jaxmeta.evaluation._relative import equivariance_error, relative_representation, stitching
from jaxmeta.evaluation._similarity import (
    biased_hsic,
    cka,
    controls,
    mutual_neighbours,
    svcca,
    unbiased_hsic,
)
from jaxmeta.evaluation._statistics import Interval, interval, paired_difference

__all__ = [
    "Calibration",
    "Comparison",
    "Interval",
    "Result",
    "Road",
    "barrier",
    "biased_hsic",
    "calibration",
    "cka",
    "compare",
    "conditioning",
    "controls",
    "curve",
    "equivariance_error",
    "evaluate",
    "gauss_newton",
    "group_agreement",
    "hessian",
    "hierarchical_collapse",
    "interval",
    "mutual_neighbours",
    "neural_collapse",
    "paired_difference",
    "permuted",
    "relative_representation",
    "sequential_axes",
    "spectrum",
    "stitching",
    "subspace_distance",
    "svcca",
    "unbiased_hsic",
    "weight_matching",
]
