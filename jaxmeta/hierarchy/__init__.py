"""Where concepts and tasks stand: trees of concepts, their space, how they are found and what they bring."""

from jaxmeta.hierarchy._count import (
    count,
    count_binary,
    enumerate_binary,
    enumerate_trees,
    rank,
    rank_binary,
    sample,
    sample_binary,
    unrank,
    unrank_binary,
)
from jaxmeta.hierarchy._dag import Dag, edges, leaf_log_probabilities
from jaxmeta.hierarchy._distances import (
    cophenetic_correlation,
    dasgupta_cost,
    robinson_foulds,
    triplet_agreement,
    triplet_kappa,
    triplet_table,
)
from jaxmeta.hierarchy._metrics import (
    HierarchicalScores,
    NodeAccuracy,
    NodeGain,
    Overlap,
    accuracy_by_level,
    h_loss,
    hierarchical_f1,
    lca_height,
    node_accuracy,
    node_gains,
    normalised_h_loss,
    scores,
    sibling_costs,
    unit_costs,
)
from jaxmeta.hierarchy._tree import Tree

__all__ = [
    "Dag", "HierarchicalScores", "NodeAccuracy", "NodeGain", "Overlap", "Tree", "accuracy_by_level", "cophenetic_correlation",
    "count", "count_binary", "dasgupta_cost", "edges", "enumerate_binary", "enumerate_trees", "h_loss", "hierarchical_f1",
    "lca_height", "leaf_log_probabilities", "node_accuracy", "node_gains", "normalised_h_loss", "rank", "rank_binary",
    "robinson_foulds", "sample", "sample_binary", "scores", "sibling_costs", "triplet_agreement", "triplet_kappa",
    "triplet_table", "unit_costs", "unrank", "unrank_binary",
]
