"""HOW the derivative of the outer loss returns to the bias. All estimators have one signature (`jaxmeta.Estimator`)."""

from jaxmeta.estimator._evolution import evolution, fresh, nres, persistent, pes, reused
from jaxmeta.estimator._forward import basis, forward, gaussian, rademacher
from jaxmeta.estimator._implicit import implicit, t1t2
from jaxmeta.estimator._linear import cg, direct, identity, neumann, nystrom
from jaxmeta.estimator._reptile import reptile
from jaxmeta.estimator._sama import sama
from jaxmeta.estimator._truncated import one_step, truncated
from jaxmeta.estimator._unrolled import first_order, unrolled
from jaxmeta.estimator._windows import afresh, going_on

__all__ = [
    "afresh", "basis", "cg", "direct", "evolution", "first_order", "forward", "fresh", "gaussian", "going_on", "identity",
    "implicit", "neumann", "nres", "nystrom", "one_step", "persistent", "pes", "rademacher", "reptile", "reused", "sama",
    "t1t2", "truncated", "unrolled",
]
