"""Methods that tie the parameters which adapt, within a model or along a tree."""

from __future__ import annotations

from jaxmeta._pytree import Where, named
from jaxmeta.algorithms._method import method
from jaxmeta.base import Algorithm, Bilevel, Learner, query_loss
from jaxmeta.bias import compose, hierarchical, initialisation, leaf, shared, step_sizes, tied
from jaxmeta.estimator import penalised, perturbed, unrolled
from jaxmeta.tying import Tying, along_tree, applied, identity, kronecker, soft_along_tree


@method
def tree_maml(
    learner: Learner, tree, scales=1.0, strength: float = 1.0, *, over=None, outer=query_loss
) -> Algorithm:
    """Tree-MAML: MAML with an initialisation for every node of a tree, sums of differences along
    the path, and their prior times strength (ours, on Finn, Abbeel and Levine, ICML 2017).
    """
    tying = along_tree(tree, scales)
    return Algorithm(
        Bilevel(hierarchical(initialisation(), tying), learner, outer),
        penalised(unrolled(over=over), tying.penalty, strength),
    )


@method
def msr(
    learner: Learner, tying: Tying, rate: float = 1.0, *, over=None, outer=query_loss
) -> Algorithm:
    """MSR: symmetries by reparameterisation, vec W = U v; U is learned across tasks, v within each
    from a learned start with a learned rate for each leaf, which begins at `rate` times the
    learner's (Zhou, Knowles and Finn, ICLR 2021). The tying is `jaxmeta.tying.reparameterised` or
    `kronecker`, placed by `applied`; others with leaves named structure do as well.
    """
    bias = compose(
        tied(tying), shared(named("structure")), initialisation(), step_sizes(rate, each=leaf)
    )
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


@method
def t_net(
    learner: Learner, where: Where = named("kernel"), *, over=None, outer=query_loss
) -> Algorithm:
    """T-Nets, WarpGrad's linear form: the outputs of every layer are warped by a matrix, W = V T;
    the low level moves V from a learned start, in the metric that T, learned across tasks and begun
    at the identity, makes of its gradients (Lee and Choi, ICML 2018; Flennerhag et al.,
    Meta-learning with warped gradient descent, ICLR 2020).

    `where` says which leaves are warped, by a matrix of their last axis: of a convolution its
    filters. Offsets are not, in the authors' code of T-Nets they are. Of WarpGrad there is the
    architecture alone: what is descended is the query's loss after the last step, through all of
    them, and not its own objective over the points of all paths.
    """
    warped = applied({where: kronecker(modes=slice(-1, None))}, rest=identity())
    bias = compose(tied(warped), shared(named("structure")), initialisation())
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


@method
def soft_tree_maml(
    learner: Learner,
    nodes: int,
    widths,
    scales=1.0,
    strength: float = 1.0,
    temperature: float = 1.0,
    *,
    over=None,
    outer=query_loss,
) -> Algorithm:
    """Tree-MAML whose tree is learned with it, routes being Gumbel-softmax (ours, on Finn, Abbeel
    and Levine, ICML 2017, and Yao et al., Hierarchically structured meta-learning, ICML 2019).

    `widths` are the most nodes of each level below the root; `jaxmeta.tying.harden_along_tree`
    gives the tree.
    """
    tying = soft_along_tree(nodes, widths, scales, temperature)
    return Algorithm(
        Bilevel(hierarchical(initialisation(), tying), learner, outer),
        perturbed(
            penalised(unrolled(over=over), tying.penalty, strength), where=named("structure")
        ),
    )
