"""Where concepts and tasks stand: trees of concepts, their space, how they are found and what they bring."""

from jaxmeta.hierarchy._affinity import symmetrised, to_distance
from jaxmeta.hierarchy._agglomeration import (
    Scheme,
    agglomerate,
    average,
    centroid,
    complete,
    contract,
    flexible,
    lance_williams,
    linkage_tree,
    median,
    single,
    ward,
    weighted,
)
from jaxmeta.hierarchy._beam import Beam, beam_search
from jaxmeta.hierarchy._class_data import ByClass, by_class
from jaxmeta.hierarchy._classifier import (
    Classifier,
    Encoding,
    Layout,
    by_child,
    by_example,
    classifier,
    fit_nodes,
    layout,
    node_log_probabilities,
)
from jaxmeta.hierarchy._clustering import cluster, cluster_overlapping, cohesion, dispersion, k_means
from jaxmeta.hierarchy._confusion import confusion_affinity, confusion_counts, held_out_scores
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
from jaxmeta.hierarchy._cross_fit import (
    HeldOut,
    cross_fitted,
    nested,
    one_standard_error,
    path_log_probabilities,
    stratified_folds,
)
from jaxmeta.hierarchy._dag import Dag, edges, leaf_log_probabilities
from jaxmeta.hierarchy._decoding import beam, greedy, most_probable, path_product
from jaxmeta.hierarchy._derivation import Trials, best_of, confusion_tree, embedding_tree, nbdt_tree
from jaxmeta.hierarchy._distances import (
    cophenetic_correlation,
    dasgupta_cost,
    robinson_foulds,
    triplet_agreement,
    triplet_kappa,
    triplet_table,
)
from jaxmeta.hierarchy._embedding import class_means, embedding_affinity, linear_transfer_affinity, whitened
from jaxmeta.hierarchy._heads import Head, descent_head, hinge, linear_head, network_head, ridge_head
from jaxmeta.hierarchy._joint import hierarchical_cross_entropy, jointly, orthogonality, recursive_regularisation
from jaxmeta.hierarchy._lookahead import lookahead, lookahead_affinity
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
from jaxmeta.hierarchy._nodes import NodeLearner, empirical, lda, ridge, uniform
from jaxmeta.hierarchy._optimal import Ranked, gain, lower_bound, optimal, regret, score, standard_error
from jaxmeta.hierarchy._partitions import all_partitions, binary_partitions, count_nodes
from jaxmeta.hierarchy._performance import (
    examples_needed,
    explained_variance,
    exponential,
    over_scratch,
    scored,
    transfer_affinity,
)
from jaxmeta.hierarchy._refinement import Alternation, alternate, first_order, higher_order, node_encoding
from jaxmeta.hierarchy._scores import NodeScores, node_scores
from jaxmeta.hierarchy._soft_tree import soft_tree, soft_tree_loss
from jaxmeta.hierarchy._task2vec import fisher_affinity, fisher_embedding, task2vec_affinity
from jaxmeta.hierarchy._transfer import Autoencoder, Training, Transfers, dense_autoencoder, transfers
from jaxmeta.hierarchy._transferability import h_score, leep, log_me, nce, one_vs_rest, shrunk, transferability_affinity
from jaxmeta.hierarchy._tree import Tree

__all__ = [
    "Alternation", "Autoencoder", "Beam", "ByClass", "Classifier", "Dag", "Encoding", "Head", "HeldOut",
    "HierarchicalClassifier", "HierarchicalScores", "Layout", "NodeAccuracy", "NodeGain", "NodeLearner", "NodeScores",
    "Overlap", "Ranked", "Scheme", "Training", "Transfers", "Tree", "Trials", "accuracy_by_level", "agglomerate",
    "all_partitions", "alternate", "average", "beam", "beam_search", "best_of", "binary_partitions", "by_child",
    "by_class", "by_example", "centroid", "class_means", "classifier", "cluster", "cluster_overlapping", "cohesion",
    "complete", "confusion_affinity", "confusion_counts", "confusion_tree", "contract", "cophenetic_correlation", "count",
    "count_binary", "count_nodes", "cross_fitted", "dasgupta_cost", "dense_autoencoder", "descent_head", "dispersion",
    "edges", "embedding_affinity", "embedding_tree", "empirical", "enumerate_binary", "enumerate_trees",
    "examples_needed", "explained_variance", "exponential", "first_order", "fisher_affinity", "fisher_embedding",
    "fit_nodes", "flexible", "gain", "greedy", "h_loss", "h_score", "held_out_scores", "hierarchical_cross_entropy",
    "hierarchical_f1", "higher_order", "hinge", "jointly", "k_means", "lance_williams", "layout", "lca_height", "lda",
    "leaf_log_probabilities", "leep", "linear_head", "linear_transfer_affinity", "linkage_tree", "log_me", "lookahead",
    "lookahead_affinity", "lower_bound", "median", "most_probable", "nbdt_tree", "nce", "nested", "network_head",
    "node_accuracy", "node_encoding", "node_gains", "node_log_probabilities", "node_scores", "normalised_h_loss",
    "one_standard_error", "one_vs_rest", "optimal", "orthogonality", "over_scratch", "path_log_probabilities",
    "path_product", "rank", "rank_binary", "recursive_regularisation", "regret", "ridge", "ridge_head", "robinson_foulds",
    "sample", "sample_binary", "score", "scored", "scores", "shrunk", "sibling_costs", "single", "soft_tree",
    "soft_tree_loss", "standard_error",
    "stratified_folds", "symmetrised", "task2vec_affinity", "to_distance", "transfer_affinity",
    "transferability_affinity", "transfers", "triplet_agreement", "triplet_kappa", "triplet_table", "uniform",
    "unit_costs", "unrank", "unrank_binary", "ward", "weighted", "whitened",
]


def __getattr__(name: str):
    # Here, for scikit-learn takes a second to import.
    if name == "HierarchicalClassifier":
        from jaxmeta.hierarchy._sklearn import HierarchicalClassifier

        return HierarchicalClassifier
    raise AttributeError(f"module 'jaxmeta.hierarchy' has no attribute '{name}'")
