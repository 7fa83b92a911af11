"""The outer loop: `fit` and what it needs. Imports come after `estimator` and `evaluation`."""

from jaxmeta.training._checkpoint import restore_theta, save_theta
from jaxmeta.training._faults import Interrupted, NonFinite
from jaxmeta.training._loop import fit
from jaxmeta.training._optimiser import outer_adam, outer_muon
from jaxmeta.training._progress import Event, console, silent
from jaxmeta.training._state import Best, Fitted, Metric, TrainState, metric

__all__ = [
    "Best",
    "Event",
    "Fitted",
    "Interrupted",
    "Metric",
    "NonFinite",
    "TrainState",
    "console",
    "fit",
    "metric",
    "outer_adam",
    "outer_muon",
    "restore_theta",
    "save_theta",
    "silent",
]
