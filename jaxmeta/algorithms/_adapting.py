"""Methods that adapt a model by inner steps."""

from __future__ import annotations

from jax.lax import stop_gradient

from jaxmeta._pytree import Where, excluding, named
from jaxmeta.algorithms._method import method
from jaxmeta.base import Algorithm, Bias, Bilevel, Estimator, Learner, query_loss
from jaxmeta.bias import (
    adaptive_rates,
    as_published,
    as_wide,
    attenuated,
    compose,
    context,
    element,
    fixed,
    initialisation,
    kronecker,
    last_begun,
    leaf,
    minibatches,
    preconditioner,
    prototype_head,
    proximal,
    representation,
    shared,
    step_sizes,
)
from jaxmeta.estimator import (
    cg,
    first_order,
    implicit,
    in_training,
    reptile as reptile_estimator,
    scheduled,
    staged,
    unrolled,
)
from jaxmeta.objective import annealed_weights, bootstrapped, multi_step, squared_distance


@method
def maml(learner: Learner, *, over=None, outer=query_loss) -> Algorithm:
    """MAML: a learned initialisation (Finn, Abbeel and Levine, ICML 2017).

    All of the learner moves. In the authors' code normalisation's parameters do not, as
    `jaxmeta.compose(jaxmeta.shared(lambda path: "norm" in path), jaxmeta.initialisation())` has it.
    """
    return Algorithm(Bilevel(initialisation(), learner, outer), unrolled(over=over))


@method
def fomaml(learner: Learner, *, over=None, outer=query_loss) -> Algorithm:
    """First-order MAML (Finn, Abbeel and Levine, ICML 2017, section 5.2)."""
    return Algorithm(Bilevel(initialisation(), learner, outer), first_order(over))


@method
def reptile(learner: Learner, size: int | None = None, *, over=None, outer=query_loss) -> Algorithm:
    """Reptile: the initialisation follows where learning ends (Nichol, Achiam and Schulman, 2018).

    In training every inner step sees `size` examples of the support, drawn anew without replacement
    (the authors go through shuffled rounds), or all of it where that is None; evaluation learns
    from the whole support. The authors' 5-way Omniglot has supports of 10 shots in training,
    `size=10`, five inner steps of Adam without momentum, `optax.adam(1e-3, b1=0.0)` (they keep its
    memory from task to task, here each task begins anew), outer steps by
    `optax.sgd(optax.linear_schedule(1.0, 0.0, steps))`, and 50 inner steps in evaluation.
    """
    estimator = reptile_estimator(over)
    return Algorithm(
        Bilevel(initialisation(), learner, outer),
        estimator if size is None else _as_trained(estimator, minibatches(size)),
    )


@method
def anil(encoder, head: Learner, *, over=None, outer=query_loss) -> Algorithm:
    """ANIL: almost no inner loop, only the head adapts, on features that are computed once (Raghu
    et al., ICLR 2020).

    A head `jaxmeta.learner.linear` has no offset and begins at zero (ours); the paper's is a linear
    layer as a model draws it.
    """
    return Algorithm(
        Bilevel(compose(representation(encoder), initialisation()), head, outer),
        unrolled(over=over),
    )


@method
def boil(
    learner: Learner, head: Where = named("head"), *, over=None, outer=query_loss
) -> Algorithm:
    """BOIL: only the body adapts (Oh et al., ICLR 2021)."""
    return Algorithm(
        Bilevel(compose(shared(head), initialisation()), learner, outer), unrolled(over=over)
    )


@method
def maml_plus_plus(
    learner: Learner,
    by_step: Where | None = None,
    anneal: int = 1000,
    second_order_after: int = 0,
    floor: float = 0.03,
    place=last_begun,
    *,
    over=None,
    outer=query_loss,
) -> Algorithm:
    """MAML++: a rate for each leaf and step, parameters of normalisation by step, every step judged
    at first and the last alone after `anneal` estimates, first order until `second_order_after`
    (Antoniou, Edwards and Storkey, ICLR 2019).

    `by_step` says which leaves are shared and have a value for each step,
    `lambda path: "norm" in path` for those of normalisation; None for none. As in the authors' code
    there are K sets of them and a query after step k is judged with the set that step k used, and
    while losses are annealed an earlier step keeps `floor / K`; `place=jaxmeta.bias.next_one` has a
    set for the query itself (ours), `floor=0` is the paper's text. The outer rate follows a cosine:
    `jaxmeta.training.outer_adam(rate, steps)`. At test the problem's own `outer` judges one theta;
    the published numbers are of an ensemble of five.
    """
    steps = learner.steps
    bias = compose(
        *([] if by_step is None else [shared(by_step, steps, place)]),
        initialisation(),
        step_sizes(1.0, each=leaf, steps=max(1, steps)),
    )

    def stage(begin):
        def change(count, bilevel):
            weights = annealed_weights(steps, (begin + count) / anneal, floor)
            return bilevel._replace(outer=multi_step(weights, bilevel.outer))

        order = first_order(over) if begin < second_order_after else unrolled(over=over)
        return (
            scheduled(order, change) if begin < anneal else order
        )  # once the last step counts alone, no other is judged

    begins = sorted({0, second_order_after, anneal})
    return Algorithm(
        Bilevel(bias, learner, outer), staged([stage(begin) for begin in begins], begins[1:])
    )


@method
def alfa(
    learner: Learner,
    net=as_wide,
    generated=as_published,
    through=stop_gradient,
    *,
    over=None,
    outer=query_loss,
) -> Algorithm:
    """ALFA: an initialisation, and a net that sets each step's rates and decays (Baik et al.,
    NeurIPS 2020).

    As in the authors' code, but that normalisation moves too, see `jaxmeta.bias.adaptive_rates`;
    `net=begun_at(0.0), generated=around_one, through=lambda means: means` of `jaxmeta.bias` is
    ours.
    """
    bias = compose(initialisation(), adaptive_rates(net, max(1, learner.steps), generated, through))
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


@method
def l2f(
    learner: Learner, net=as_wide, through=stop_gradient, *, over=None, outer=query_loss
) -> Algorithm:
    """L2F: an initialisation, and a net that says how much of it to forget (Baik et al., CVPR
    2020).

    As in the authors' code, but that normalisation is scaled and moves too, see
    `jaxmeta.bias.attenuated`; `net=begun_at(3.0)` of `jaxmeta.bias` begins near the initialisation
    (ours).
    """
    bias = compose(initialisation(), attenuated(net, through))
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


@method
def bootstrapped_maml(
    learner: Learner, steps: int = 5, *, over=None, outer=query_loss, distance=squared_distance
) -> Algorithm:
    """Bootstrapped metagradients for an initialisation: towards where `steps` more lead (Flennerhag
    et al., ICLR 2022).

    What training descends is `distance`, by default that of the parameters, or
    `jaxmeta.objective.divergence`, the paper's for predictions; evaluation and predictions are
    those of MAML, judged by `outer`.
    """

    def drawn(bilevel):
        return bilevel._replace(outer=bootstrapped(steps, distance, bilevel.outer))

    return Algorithm(
        Bilevel(initialisation(), learner, outer), in_training(unrolled(over=over), drawn)
    )


@method
def proto_maml(
    learner: Learner, encoder, head: str = "head", *, over=None, outer=query_loss
) -> Algorithm:
    """ProtoMAML: the body's initialisation; the head begins at prototypes (Triantafillou et al.,
    ICLR 2020).

    All of the body moves; the authors' code can leave normalisation's parameters alone.
    """
    bias = compose(initialisation(excluding(head)), prototype_head(encoder, head))
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


@method
def meta_sgd(learner: Learner, *, over=None, outer=query_loss) -> Algorithm:
    """Meta-SGD: an initialisation and a step size for every element (Li et al., 2017).

    Learned are factors of the learner's rate that begin at 1 (ours); the paper draws the rates from
    0.005 to 0.1.
    """
    bias = compose(initialisation(), step_sizes(1.0, each=element))
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


@method
def meta_curvature(learner: Learner, *, over=None, outer=query_loss) -> Algorithm:
    """Meta-Curvature: an initialisation and Kronecker factors on the gradient (Park and Oliva,
    NeurIPS 2019).

    A vector has one mode and so a full matrix; the port of learn2learn has a diagonal there.
    """
    bias = compose(initialisation(), preconditioner(kronecker))
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


@method
def cavia(learner: Learner, size: int = 100, *, over=None, outer=query_loss) -> Algorithm:
    """CAVIA: context inputs adapt, weights are shared (Zintgraf et al., ICML 2019).

    `jaxmeta.models.conv4_film` is the authors' net of images, and `optax.clip(10.0)` before the
    outer optimiser theirs too. Of a model `jaxmeta.models.film` the context modulates the last
    features, after the nonlinearity, by `1 + gamma` and beta (ours).
    """
    return Algorithm(Bilevel(context(size), learner, outer), unrolled(over=over))


@method
def imaml(
    learner: Learner, strength: float = 2.0, solver=cg(5), *, over=None, outer=query_loss
) -> Algorithm:
    """iMAML: an initialisation that learning is held to in training, differentiated where learning
    ends (Rajeswaran et al., NeurIPS 2019).

    Training minimises `L(phi) + strength / 2 |phi - theta|^2`, and the derivative is right where it
    does: the inner rate and steps must lead there, which the estimator's "stationarity", "residual"
    and "converged" tell, the first two also in a run's records. Evaluation learns without that
    term, as in the authors' code; to keep it, compose `fixed(proximal(strength))` with the bias.
    The paper has strength 2, 16 to 25 steps and 5 conjugate gradients. The authors' code solves
    with `2 I + H / 12`, which is `cg(5, damping=22.0)` up to a factor, and applies the term once,
    after plain steps.
    """
    return Algorithm(
        Bilevel(initialisation(), learner, outer),
        _as_trained(implicit(solver, over=over), fixed(proximal(strength))),
    )


def _as_trained(estimator: Estimator, bias: Bias) -> Estimator:
    """The estimator of the problem whose low level is, in training alone, as a bias that learns
    nothing makes it."""

    def trained(bilevel):
        return bilevel._replace(learner=bias.shape((), None, bilevel.learner))

    return in_training(estimator, trained)
