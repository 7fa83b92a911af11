"""HOW the derivative of the outer loss returns to the bias. All estimators have one signature
(`jaxmeta.Estimator`)."""

from jaxmeta._lazy import attach

TYPE_CHECKING = False

if TYPE_CHECKING:
    from jaxmeta.estimator._auto import auto as auto, plan as plan
    from jaxmeta.estimator._binomial import binomial as binomial
    from jaxmeta.estimator._cost import flops as flops
    from jaxmeta.estimator._estimate import closeness as closeness
    from jaxmeta.estimator._evolution import (
        evolution as evolution,
        fresh as fresh,
        nres as nres,
        persistent as persistent,
        pes as pes,
        reused as reused,
    )
    from jaxmeta.estimator._forward import (
        basis as basis,
        forward as forward,
        gaussian as gaussian,
        rademacher as rademacher,
    )
    from jaxmeta.estimator._gradients import (
        constant as constant,
        finite_difference as finite_difference,
        linearising as linearising,
        recomputing as recomputing,
    )
    from jaxmeta.estimator._implicit import implicit as implicit, t1t2 as t1t2
    from jaxmeta.estimator._in_training import in_training as in_training
    from jaxmeta.estimator._linear import (
        cg as cg,
        direct as direct,
        identity as identity,
        neumann as neumann,
        nystrom as nystrom,
    )
    from jaxmeta.estimator._penalised import penalised as penalised
    from jaxmeta.estimator._perturbed import perturbed as perturbed
    from jaxmeta.estimator._remat import (
        each_step as each_step,
        offloading as offloading,
        rebuilding as rebuilding,
        saving as saving,
        segments as segments,
        storing as storing,
    )
    from jaxmeta.estimator._reptile import reptile as reptile
    from jaxmeta.estimator._reversible import reversible as reversible
    from jaxmeta.estimator._sama import sama as sama
    from jaxmeta.estimator._scheduled import scheduled as scheduled, staged as staged
    from jaxmeta.estimator._truncated import one_step as one_step, truncated as truncated
    from jaxmeta.estimator._unrolled import (
        first_order as first_order,
        mixed as mixed,
        unrolled as unrolled,
    )
    from jaxmeta.estimator._windows import afresh as afresh, going_on as going_on
else:
    __getattr__, __dir__, __all__ = attach(__name__, __file__)
