"""WHO shares weights: tyings, theta = T(phi), between the nodes of a hierarchy, between layers and
within a leaf."""

from jaxmeta.tying._along_tree import along_tree, along_tree_learned
from jaxmeta.tying._branching import branching
from jaxmeta.tying._combinations import low_rank, templates, unit_rows
from jaxmeta.tying._gradient import value_and_grad
from jaxmeta.tying._mixture import harden_mixture, mixture
from jaxmeta.tying._models import cross_stitch, scan_layers, tied
from jaxmeta.tying._near_tree import harden_near_tree, near_tree
from jaxmeta.tying._nodes import (
    across,
    by_group,
    free,
    laplacian,
    partial,
    shared,
    universal,
)
from jaxmeta.tying._null_space import by_projection, by_svd, equivariant_basis, null_space
from jaxmeta.tying._operator import (
    Operator,
    gather,
    hashing,
    linear,
    matrix,
    path_sums,
    repeat,
    rows,
)
from jaxmeta.tying._relaxed import relaxed
from jaxmeta.tying._reparameterised import kronecker, reparameterised
from jaxmeta.tying._soft_groups import (
    Hardened,
    assignment,
    assignment_entropy,
    harden_by_group,
    harden_by_index,
    soft_by_group,
    soft_by_index,
)
from jaxmeta.tying._soft_tree import (
    decided_tree,
    harden_along_tree,
    harden_branching,
    soft_along_tree,
    soft_ancestors,
    soft_branching,
)
from jaxmeta.tying._tying import (
    Tying,
    applied,
    at_node,
    compose,
    identity,
    prefers_nothing,
    stacked,
)
from jaxmeta.tying._within import by_index, hashed, inside, orbit_labels, orbits

__all__ = [
    "Hardened",
    "Operator",
    "Tying",
    "across",
    "along_tree",
    "along_tree_learned",
    "applied",
    "assignment",
    "assignment_entropy",
    "at_node",
    "branching",
    "by_group",
    "by_index",
    "by_projection",
    "by_svd",
    "compose",
    "cross_stitch",
    "decided_tree",
    "equivariant_basis",
    "free",
    "gather",
    "harden_along_tree",
    "harden_branching",
    "harden_by_group",
    "harden_by_index",
    "harden_mixture",
    "harden_near_tree",
    "hashed",
    "hashing",
    "identity",
    "inside",
    "kronecker",
    "laplacian",
    "linear",
    "low_rank",
    "matrix",
    "mixture",
    "near_tree",
    "null_space",
    "orbit_labels",
    "orbits",
    "partial",
    "path_sums",
    "prefers_nothing",
    "relaxed",
    "reparameterised",
    "repeat",
    "rows",
    "scan_layers",
    "shared",
    "soft_along_tree",
    "soft_ancestors",
    "soft_branching",
    "soft_by_group",
    "soft_by_index",
    "stacked",
    "templates",
    "tied",
    "unit_rows",
    "universal",
    "value_and_grad",
]
