"""Every named method: a configuration and its paper, nothing else.

Each returns an `Algorithm`: a bilevel problem and the estimator of its derivative. `over` says how
tasks are mapped (`jaxmeta.over_tasks`), `outer` how the end of learning is judged.
"""

from jaxmeta._lazy import attach

TYPE_CHECKING = False

if TYPE_CHECKING:
    from jaxmeta.algorithms._adapting import (
        alfa as alfa,
        anil as anil,
        boil as boil,
        bootstrapped_maml as bootstrapped_maml,
        cavia as cavia,
        fomaml as fomaml,
        imaml as imaml,
        l2f as l2f,
        maml as maml,
        maml_plus_plus as maml_plus_plus,
        meta_curvature as meta_curvature,
        meta_sgd as meta_sgd,
        proto_maml as proto_maml,
        reptile as reptile,
    )
    from jaxmeta.algorithms._encoders import (
        baseline_plus_plus as baseline_plus_plus,
        black_box as black_box,
        leo as leo,
        local_matching_net as local_matching_net,
        matching_net as matching_net,
        metaoptnet as metaoptnet,
        protonet as protonet,
        r2d2 as r2d2,
        relation_net as relation_net,
        scaled_protonet as scaled_protonet,
        snail as snail,
    )
    from jaxmeta.algorithms._tied import (
        msr as msr,
        soft_tree_maml as soft_tree_maml,
        t_net as t_net,
        tree_maml as tree_maml,
    )
else:
    __getattr__, __dir__, __all__ = attach(__name__, __file__)
