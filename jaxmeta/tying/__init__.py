"""WHO shares weights: tyings, theta = T(phi), between the nodes of a hierarchy, between layers and
within a leaf."""

from jaxmeta._lazy import attach

TYPE_CHECKING = False

if TYPE_CHECKING:
    from jaxmeta.tying._along_tree import (
        along_tree as along_tree,
        along_tree_learned as along_tree_learned,
    )
    from jaxmeta.tying._branching import branching as branching
    from jaxmeta.tying._combinations import (
        low_rank as low_rank,
        templates as templates,
        unit_rows as unit_rows,
    )
    from jaxmeta.tying._gradient import value_and_grad as value_and_grad
    from jaxmeta.tying._mixture import harden_mixture as harden_mixture, mixture as mixture
    from jaxmeta.tying._models import (
        cross_stitch as cross_stitch,
        scan_layers as scan_layers,
        tied as tied,
    )
    from jaxmeta.tying._near_tree import (
        harden_near_tree as harden_near_tree,
        near_tree as near_tree,
    )
    from jaxmeta.tying._nodes import (
        across as across,
        by_group as by_group,
        free as free,
        laplacian as laplacian,
        partial as partial,
        shared as shared,
        universal as universal,
    )
    from jaxmeta.tying._null_space import (
        by_projection as by_projection,
        by_svd as by_svd,
        equivariant_basis as equivariant_basis,
        null_space as null_space,
    )
    from jaxmeta.tying._operator import (
        Operator as Operator,
        gather as gather,
        hashing as hashing,
        linear as linear,
        matrix as matrix,
        path_sums as path_sums,
        repeat as repeat,
        rows as rows,
    )
    from jaxmeta.tying._relaxed import relaxed as relaxed
    from jaxmeta.tying._reparameterised import (
        kronecker as kronecker,
        reparameterised as reparameterised,
    )
    from jaxmeta.tying._soft_groups import (
        Hardened as Hardened,
        assignment as assignment,
        assignment_entropy as assignment_entropy,
        harden_by_group as harden_by_group,
        harden_by_index as harden_by_index,
        soft_by_group as soft_by_group,
        soft_by_index as soft_by_index,
    )
    from jaxmeta.tying._soft_tree import (
        decided_tree as decided_tree,
        harden_along_tree as harden_along_tree,
        harden_branching as harden_branching,
        soft_along_tree as soft_along_tree,
        soft_ancestors as soft_ancestors,
        soft_branching as soft_branching,
    )
    from jaxmeta.tying._tying import (
        Tying as Tying,
        applied as applied,
        at_node as at_node,
        compose as compose,
        identity as identity,
        prefers_nothing as prefers_nothing,
        stacked as stacked,
    )
    from jaxmeta.tying._within import (
        by_index as by_index,
        hashed as hashed,
        inside as inside,
        orbit_labels as orbit_labels,
        orbits as orbits,
    )
else:
    __getattr__, __dir__, __all__ = attach(__name__, __file__)
