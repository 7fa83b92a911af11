"""HOW the derivative of the outer loss returns to the bias. All estimators have one signature
(`jaxmeta.Estimator`)."""

from jaxmeta.estimator._auto import auto, plan
from jaxmeta.estimator._binomial import binomial
from jaxmeta.estimator._cost import flops
from jaxmeta.estimator._evolution import evolution, fresh, nres, persistent, pes, reused
from jaxmeta.estimator._forward import basis, forward, gaussian, rademacher
from jaxmeta.estimator._gradients import constant, finite_difference, linearising, recomputing
from jaxmeta.estimator._implicit import implicit, t1t2
from jaxmeta.estimator._in_training import in_training
from jaxmeta.estimator._linear import cg, direct, identity, neumann, nystrom
from jaxmeta.estimator._penalised import penalised
from jaxmeta.estimator._perturbed import perturbed
from jaxmeta.estimator._remat import each_step, offloading, rebuilding, saving, segments, storing
from jaxmeta.estimator._reptile import reptile
from jaxmeta.estimator._reversible import reversible
from jaxmeta.estimator._sama import sama
from jaxmeta.estimator._scheduled import scheduled, staged
from jaxmeta.estimator._truncated import one_step, truncated
from jaxmeta.estimator._unrolled import first_order, mixed, unrolled
from jaxmeta.estimator._windows import afresh, going_on

__all__ = [
    "afresh",
    "auto",
    "basis",
    "binomial",
    "cg",
    "constant",
    "direct",
    "each_step",
    "evolution",
    "finite_difference",
    "first_order",
    "flops",
    "forward",
    "fresh",
    "gaussian",
    "going_on",
    "identity",
    "implicit",
    "in_training",
    "linearising",
    "mixed",
    "neumann",
    "nres",
    "nystrom",
    "offloading",
    "one_step",
    "penalised",
    "persistent",
    "perturbed",
    "pes",
    "plan",
    "rademacher",
    "rebuilding",
    "recomputing",
    "reptile",
    "reused",
    "reversible",
    "sama",
    "saving",
    "scheduled",
    "segments",
    "staged",
    "storing",
    "t1t2",
    "truncated",
    "unrolled",
]
