"""WHAT was learned: adaptation to held-out tasks, with intervals over episodes; and how near estimators come to the truth."""

from jaxmeta.evaluation._adaptation import Result, curve, evaluate
from jaxmeta.evaluation._gradients import Comparison, Road, compare
from jaxmeta.evaluation._statistics import Interval, interval, paired_difference

__all__ = ["Comparison", "Interval", "Result", "Road", "compare", "curve", "evaluate", "interval", "paired_difference"]
