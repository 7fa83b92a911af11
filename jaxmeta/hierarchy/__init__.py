"""Where concepts and tasks stand: trees of concepts, their space, how they are found and what they
bring."""

from jaxmeta._lazy import attach

TYPE_CHECKING = False

if TYPE_CHECKING:
    from jaxmeta.hierarchy._affinity import symmetrised as symmetrised, to_distance as to_distance
    from jaxmeta.hierarchy._agglomeration import (
        Scheme as Scheme,
        agglomerate as agglomerate,
        average as average,
        centroid as centroid,
        complete as complete,
        contract as contract,
        flexible as flexible,
        lance_williams as lance_williams,
        linkage_tree as linkage_tree,
        median as median,
        single as single,
        ward as ward,
        weighted as weighted,
    )
    from jaxmeta.hierarchy._autoencoder import (
        Autoencoder as Autoencoder,
        dense_autoencoder as dense_autoencoder,
    )
    from jaxmeta.hierarchy._beam import Beam as Beam, beam_search as beam_search
    from jaxmeta.hierarchy._class_data import ByClass as ByClass, by_class as by_class
    from jaxmeta.hierarchy._classifier import (
        Classifier as Classifier,
        Encoding as Encoding,
        Layout as Layout,
        by_child as by_child,
        by_example as by_example,
        classifier as classifier,
        fit_nodes as fit_nodes,
        layout as layout,
        node_log_probabilities as node_log_probabilities,
    )
    from jaxmeta.hierarchy._clustering import (
        cluster as cluster,
        cluster_overlapping as cluster_overlapping,
        cohesion as cohesion,
        dispersion as dispersion,
        k_means as k_means,
    )
    from jaxmeta.hierarchy._confusion import (
        confusion_affinity as confusion_affinity,
        confusion_counts as confusion_counts,
        held_out_scores as held_out_scores,
    )
    from jaxmeta.hierarchy._count import (
        count as count,
        count_binary as count_binary,
        enumerate_binary as enumerate_binary,
        enumerate_trees as enumerate_trees,
        rank as rank,
        rank_binary as rank_binary,
        sample as sample,
        sample_binary as sample_binary,
        unrank as unrank,
        unrank_binary as unrank_binary,
    )
    from jaxmeta.hierarchy._cross_fit import (
        HeldOut as HeldOut,
        cross_fitted as cross_fitted,
        nested as nested,
        one_standard_error as one_standard_error,
        path_log_probabilities as path_log_probabilities,
        stratified_folds as stratified_folds,
    )
    from jaxmeta.hierarchy._dag import Dag as Dag
    from jaxmeta.hierarchy._decoding import (
        beam as beam,
        greedy as greedy,
        most_probable as most_probable,
        path_product as path_product,
    )
    from jaxmeta.hierarchy._derivation import (
        Trials as Trials,
        best_of as best_of,
        confusion_tree as confusion_tree,
        embedding_tree as embedding_tree,
        nbdt_tree as nbdt_tree,
    )
    from jaxmeta.hierarchy._distances import (
        cophenetic_correlation as cophenetic_correlation,
        dasgupta_cost as dasgupta_cost,
        robinson_foulds as robinson_foulds,
        triplet_agreement as triplet_agreement,
        triplet_kappa as triplet_kappa,
        triplet_table as triplet_table,
    )
    from jaxmeta.hierarchy._embedding import (
        class_means as class_means,
        embedding_affinity as embedding_affinity,
        linear_transfer_affinity as linear_transfer_affinity,
        whitened as whitened,
    )
    from jaxmeta.hierarchy._heads import (
        Head as Head,
        descent_head as descent_head,
        hinge as hinge,
        linear_head as linear_head,
        network_head as network_head,
        ridge_head as ridge_head,
    )
    from jaxmeta.hierarchy._joint import (
        hierarchical_cross_entropy as hierarchical_cross_entropy,
        jointly as jointly,
        orthogonality as orthogonality,
        recursive_regularisation as recursive_regularisation,
    )
    from jaxmeta.hierarchy._leaf_probabilities import (
        edges as edges,
        leaf_log_probabilities as leaf_log_probabilities,
    )
    from jaxmeta.hierarchy._lookahead import (
        lookahead as lookahead,
        lookahead_affinity as lookahead_affinity,
    )
    from jaxmeta.hierarchy._metrics import (
        HierarchicalScores as HierarchicalScores,
        NodeAccuracy as NodeAccuracy,
        NodeGain as NodeGain,
        Overlap as Overlap,
        accuracy_by_level as accuracy_by_level,
        h_loss as h_loss,
        hierarchical_f1 as hierarchical_f1,
        lca_height as lca_height,
        node_accuracy as node_accuracy,
        node_gains as node_gains,
        normalised_h_loss as normalised_h_loss,
        scores as scores,
        sibling_costs as sibling_costs,
        unit_costs as unit_costs,
    )
    from jaxmeta.hierarchy._nodes import (
        NodeLearner as NodeLearner,
        empirical as empirical,
        lda as lda,
        ridge as ridge,
        uniform as uniform,
    )
    from jaxmeta.hierarchy._optimal import (
        Ranked as Ranked,
        gain as gain,
        lower_bound as lower_bound,
        optimal as optimal,
        regret as regret,
        score as score,
        standard_error as standard_error,
    )
    from jaxmeta.hierarchy._partitions import (
        all_partitions as all_partitions,
        binary_partitions as binary_partitions,
        count_nodes as count_nodes,
    )
    from jaxmeta.hierarchy._performance import (
        examples_needed as examples_needed,
        explained_variance as explained_variance,
        exponential as exponential,
        over_scratch as over_scratch,
        scored as scored,
        transfer_affinity as transfer_affinity,
    )
    from jaxmeta.hierarchy._refinement import (
        Alternation as Alternation,
        alternate as alternate,
        first_order as first_order,
        higher_order as higher_order,
        node_encoding as node_encoding,
    )
    from jaxmeta.hierarchy._scores import NodeScores as NodeScores, node_scores as node_scores
    from jaxmeta.hierarchy._sklearn import HierarchicalClassifier as HierarchicalClassifier
    from jaxmeta.hierarchy._soft_tree import (
        soft_tree as soft_tree,
        soft_tree_loss as soft_tree_loss,
    )
    from jaxmeta.hierarchy._task2vec import (
        fisher_affinity as fisher_affinity,
        fisher_embedding as fisher_embedding,
        task2vec_affinity as task2vec_affinity,
    )
    from jaxmeta.hierarchy._transfer import (
        Training as Training,
        Transfers as Transfers,
        transfers as transfers,
    )
    from jaxmeta.hierarchy._transferability import (
        h_score as h_score,
        leep as leep,
        log_me as log_me,
        nce as nce,
        one_vs_rest as one_vs_rest,
        shrunk as shrunk,
        transferability_affinity as transferability_affinity,
    )
    from jaxmeta.hierarchy._tree import Tree as Tree
else:
    __getattr__, __dir__, __all__ = attach(__name__, __file__)
