"""Every named method: a configuration and its paper, nothing else.

Each returns an `Algorithm`: a bilevel problem and the estimator of its derivative. `over` says how tasks are mapped
(`jaxmeta.over_tasks`), `outer` how the end of learning is judged.
"""

from __future__ import annotations

from jaxmeta._pytree import Where, named
from jaxmeta.base import Algorithm, Bilevel, Learner, query_loss
from jaxmeta.bias import (
    compose,
    context,
    element,
    fixed,
    hierarchical,
    hyperparameters,
    initialisation,
    kronecker,
    preconditioner,
    proximal,
    representation,
    shared,
    step_sizes,
)
from jaxmeta.estimator import cg, first_order, implicit, penalised, unrolled
from jaxmeta.estimator import reptile as reptile_estimator
from jaxmeta.learner import prototypes, ridge
from jaxmeta.tying import along_tree


def maml(learner: Learner, over=None, outer=query_loss) -> Algorithm:
    """MAML: a learned initialisation (Finn, Abbeel and Levine, ICML 2017)."""
    return Algorithm(Bilevel(initialisation(), learner, outer), unrolled(over=over))


def fomaml(learner: Learner, over=None, outer=query_loss) -> Algorithm:
    """First-order MAML (Finn, Abbeel and Levine, ICML 2017, section 5.2)."""
    return Algorithm(Bilevel(initialisation(), learner, outer), first_order(over))


def reptile(learner: Learner, over=None, outer=query_loss) -> Algorithm:
    """Reptile: the initialisation follows where learning ends (Nichol, Achiam and Schulman, 2018)."""
    return Algorithm(Bilevel(initialisation(), learner, outer), reptile_estimator(over))


def anil(learner: Learner, head: Where = named("head"), over=None, outer=query_loss) -> Algorithm:
    """ANIL: almost no inner loop, only the head adapts (Raghu et al., ICLR 2020)."""
    bias = compose(shared(lambda path: not head(path)), initialisation())
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


def boil(learner: Learner, head: Where = named("head"), over=None, outer=query_loss) -> Algorithm:
    """BOIL: only the body adapts (Oh et al., ICLR 2021)."""
    return Algorithm(Bilevel(compose(shared(head), initialisation()), learner, outer), unrolled(over=over))


def meta_sgd(learner: Learner, over=None, outer=query_loss) -> Algorithm:
    """Meta-SGD: an initialisation and a step size for every element (Li et al., 2017)."""
    bias = compose(initialisation(), step_sizes(1.0, each=element))
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


def meta_curvature(learner: Learner, over=None, outer=query_loss) -> Algorithm:
    """Meta-Curvature: an initialisation and Kronecker factors on the gradient (Park and Oliva, NeurIPS 2019)."""
    bias = compose(initialisation(), preconditioner(kronecker))
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


def cavia(learner: Learner, size: int = 100, over=None, outer=query_loss) -> Algorithm:
    """CAVIA: context inputs adapt, weights are shared (Zintgraf et al., ICML 2019)."""
    return Algorithm(Bilevel(context(size), learner, outer), unrolled(over=over))


def imaml(learner: Learner, strength: float = 2.0, solver=cg(5), over=None, outer=query_loss) -> Algorithm:
    """iMAML: a learned initialisation that a proximal term holds on to, implicit (Rajeswaran et al., NeurIPS 2019).

    There the strength was 2, the inner steps 16 or 25, the conjugate gradients 5.
    """
    bias = compose(initialisation(), fixed(proximal(strength)))
    return Algorithm(Bilevel(bias, learner, outer), implicit(solver, over=over))


def tree_maml(learner: Learner, tree, scales=1.0, strength: float = 1.0, over=None, outer=query_loss) -> Algorithm:
    """Tree-MAML: MAML with an initialisation for every node of a tree, sums of differences along the path, and their prior
    times strength (ours, on Finn, Abbeel and Levine, ICML 2017).
    """
    tying = along_tree(tree, scales)
    return Algorithm(Bilevel(hierarchical(initialisation(), tying), learner, outer),
                     penalised(unrolled(over=over), tying.penalty, strength))


def protonet(encoder, ways: int, over=None, outer=query_loss) -> Algorithm:
    """Prototypical networks: a representation in which class means suffice (Snell, Swersky and Zemel, NeurIPS 2017)."""
    return Algorithm(Bilevel(representation(encoder), prototypes(ways), outer), unrolled(over=over))


def r2d2(encoder, ways: int, over=None, outer=query_loss) -> Algorithm:
    """R2-D2: a representation in which ridge regression suffices, its strength learned (Bertinetto et al., ICLR 2019)."""

    def head(**settings):
        return ridge(ways, **settings)

    bias = compose(hyperparameters(head, log_strength=0.0, log_scale=0.0, offset=0.0), representation(encoder))
    return Algorithm(Bilevel(bias, head(), outer), unrolled(over=over))
