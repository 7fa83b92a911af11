"""HOW the derivative of the outer loss returns to the bias. All estimators have one signature (`jaxmeta.Estimator`)."""

from jaxmeta.estimator._reptile import reptile
from jaxmeta.estimator._unrolled import first_order, unrolled

__all__ = ["first_order", "reptile", "unrolled"]
