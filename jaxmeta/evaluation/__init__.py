"""WHAT was learned: adaptation to held-out tasks, with intervals over episodes; how near estimators
come to the truth; what is universal in what was learned, and how well-conditioned learning it
is."""

from jaxmeta._lazy import attach

TYPE_CHECKING = False

if TYPE_CHECKING:
    from jaxmeta._curvature import gauss_newton as gauss_newton, hessian as hessian
    from jaxmeta.evaluation._adaptation import (
        Result as Result,
        curve as curve,
        evaluate as evaluate,
        summarised as summarised,
    )
    from jaxmeta.evaluation._calibration import (
        Calibration as Calibration,
        calibration as calibration,
    )
    from jaxmeta.evaluation._collapse import (
        hierarchical_collapse as hierarchical_collapse,
        neural_collapse as neural_collapse,
    )
    from jaxmeta.evaluation._conditioning import conditioning as conditioning, spectrum as spectrum
    from jaxmeta.evaluation._connectivity import (
        barrier as barrier,
        permuted as permuted,
        sequential_axes as sequential_axes,
        weight_matching as weight_matching,
    )
    from jaxmeta.evaluation._gradients import (
        Comparison as Comparison,
        Road as Road,
        compare as compare,
    )
    from jaxmeta.evaluation._recovery import (
        group_agreement as group_agreement,
        subspace_distance as subspace_distance,
    )
    from jaxmeta.evaluation._relative import (
        equivariance_error as equivariance_error,
        relative_representation as relative_representation,
        stitching as stitching,
    )
    from jaxmeta.evaluation._similarity import (
        biased_hsic as biased_hsic,
        cka as cka,
        controls as controls,
        mutual_neighbours as mutual_neighbours,
        svcca as svcca,
        unbiased_hsic as unbiased_hsic,
    )
    from jaxmeta.evaluation._statistics import (
        Interval as Interval,
        interval as interval,
        paired_difference as paired_difference,
        t_interval as t_interval,
    )
else:
    __getattr__, __dir__, __all__ = attach(__name__, __file__)
