"""WHAT was learned: adaptation to held-out tasks, with intervals over episodes."""

from jaxmeta.evaluation._adaptation import Result, curve, evaluate
from jaxmeta.evaluation._statistics import Interval, interval, paired_difference

__all__ = ["Interval", "Result", "curve", "evaluate", "interval", "paired_difference"]
