"""Every named method: a configuration and its paper, nothing else.

Each returns an `Algorithm`: a bilevel problem and the estimator of its derivative. `over` says how
tasks are mapped (`jaxmeta.over_tasks`), `outer` how the end of learning is judged.
"""

from jaxmeta.algorithms._adapting import (
    alfa,
    anil,
    boil,
    bootstrapped_maml,
    cavia,
    fomaml,
    imaml,
    l2f,
    maml,
    maml_plus_plus,
    meta_curvature,
    meta_sgd,
    proto_maml,
    reptile,
)
from jaxmeta.algorithms._encoders import (
    baseline_plus_plus,
    black_box,
    leo,
    local_matching_net,
    matching_net,
    metaoptnet,
    protonet,
    r2d2,
    relation_net,
    scaled_protonet,
    snail,
)
from jaxmeta.algorithms._tied import msr, soft_tree_maml, t_net, tree_maml

__all__ = [
    "alfa",
    "anil",
    "baseline_plus_plus",
    "black_box",
    "boil",
    "bootstrapped_maml",
    "cavia",
    "fomaml",
    "imaml",
    "l2f",
    "leo",
    "local_matching_net",
    "maml",
    "maml_plus_plus",
    "matching_net",
    "meta_curvature",
    "meta_sgd",
    "metaoptnet",
    "msr",
    "proto_maml",
    "protonet",
    "r2d2",
    "relation_net",
    "reptile",
    "scaled_protonet",
    "snail",
    "soft_tree_maml",
    "t_net",
    "tree_maml",
]
