"""Every named method: a configuration and its paper, nothing else.

Each returns an `Algorithm`: a bilevel problem and the estimator of its derivative. `over` says how tasks are mapped
(`jaxmeta.over_tasks`), `outer` how the end of learning is judged.
"""

from __future__ import annotations

import functools

import optax
from jax.lax import stop_gradient

from jaxmeta import _check
from jaxmeta._pytree import Where, excluding, named
from jaxmeta.base import Algorithm, Bilevel, Learner, query_loss
from jaxmeta.bias import (
    adaptive_rates,
    as_published,
    as_wide,
    attenuated,
    channel,
    comparison,
    compose,
    context,
    drawn_code,
    element,
    fixed,
    hierarchical,
    hyperparameters,
    in_context,
    initialisation,
    kronecker,
    last_begun,
    latent,
    leaf,
    mean_code,
    preconditioner,
    pretrained,
    prototype_head,
    proximal,
    representation,
    shared,
    step_sizes,
    tied,
)
from jaxmeta.estimator import cg, first_order, implicit, in_training, penalised, perturbed, scheduled, staged, unrolled
from jaxmeta.estimator import reptile as reptile_estimator
from jaxmeta.learner import cosine, linear, local_matching, matching, prototypes, ridge, support_vectors
from jaxmeta.objective import annealed_weights, bootstrapped, multi_step, regularised, squared_distance
from jaxmeta.tying import Tying, along_tree, applied, identity, soft_along_tree
from jaxmeta.tying import kronecker as kronecker_tying

# Where a head's learned scale begins. Its scores are about 1 apart, so that unscaled no softmax over many classes is sure of
# any, and until the scale has grown the loss does not say how good the representation is.
_LOG_SCALE = 2.0

_method = _check.takes(
    {"learner": _check.learner, **dict.fromkeys(("encoder", "comparator", "reader", "relation"), _check.model)},
    **dict.fromkeys(("lr", "rate", "learning_rate", "inner_lr", "inner_rate", "inner_steps", "steps"),
                    "it is the learner's: jaxmeta.gradient(model, loss, optax.sgd(0.01), steps=5)"))


@_method
def maml(learner: Learner, over=None, outer=query_loss) -> Algorithm:
    """MAML: a learned initialisation (Finn, Abbeel and Levine, ICML 2017)."""
    return Algorithm(Bilevel(initialisation(), learner, outer), unrolled(over=over))


@_method
def fomaml(learner: Learner, over=None, outer=query_loss) -> Algorithm:
    """First-order MAML (Finn, Abbeel and Levine, ICML 2017, section 5.2)."""
    return Algorithm(Bilevel(initialisation(), learner, outer), first_order(over))


@_method
def reptile(learner: Learner, over=None, outer=query_loss) -> Algorithm:
    """Reptile: the initialisation follows where learning ends (Nichol, Achiam and Schulman, 2018)."""
    return Algorithm(Bilevel(initialisation(), learner, outer), reptile_estimator(over))


@_method
def anil(encoder, head: Learner, over=None, outer=query_loss) -> Algorithm:
    """ANIL: almost no inner loop, only the head adapts, on features that are computed once (Raghu et al., ICLR 2020)."""
    return Algorithm(Bilevel(compose(representation(encoder), initialisation()), head, outer), unrolled(over=over))


@_method
def boil(learner: Learner, head: Where = named("head"), over=None, outer=query_loss) -> Algorithm:
    """BOIL: only the body adapts (Oh et al., ICLR 2021)."""
    return Algorithm(Bilevel(compose(shared(head), initialisation()), learner, outer), unrolled(over=over))


@_method
def maml_plus_plus(learner: Learner, by_step: Where | None = None, anneal: int = 1000, second_order_after: int = 0,
                   floor: float = 0.03, place=last_begun, over=None, outer=query_loss) -> Algorithm:
    """MAML++: a rate for each leaf and step, parameters of normalisation by step, every step judged at first and the last alone
    after `anneal` estimates, first order until `second_order_after` (Antoniou, Edwards and Storkey, ICLR 2019).

    `by_step` says which leaves are shared and have a value for each step, `lambda path: "norm" in path` for those of
    normalisation; None for none. As in the authors' code there are K sets of them and a query after step k is judged with the
    set that step k used, and while losses are annealed an earlier step keeps `floor / K`; `place=jaxmeta.bias.next_one` has a
    set for the query itself (ours), `floor=0` is the paper's text. The outer rate follows a cosine:
    `jaxmeta.training.outer_adam(rate, steps)`. At test the problem's own `outer` judges, of one theta: the published numbers are
    of an ensemble of five.
    """
    steps = learner.steps
    bias = compose(*([] if by_step is None else [shared(by_step, steps, place)]), initialisation(),
                   step_sizes(1.0, each=leaf, steps=max(1, steps)))

    def stage(begin):
        def change(count, bilevel):
            weights = annealed_weights(steps, (begin + count) / anneal, floor)
            return bilevel._replace(outer=multi_step(weights, bilevel.outer))

        order = first_order(over) if begin < second_order_after else unrolled(over=over)
        return scheduled(order, change) if begin < anneal else order  # once the last step counts alone, no other is judged

    begins = sorted({0, second_order_after, anneal})
    return Algorithm(Bilevel(bias, learner, outer), staged([stage(begin) for begin in begins], begins[1:]))


@_method
def alfa(learner: Learner, net=as_wide, generated=as_published, through=stop_gradient, over=None, outer=query_loss) -> Algorithm:
    """ALFA: an initialisation, and a net that sets each step's rates and decays (Baik et al., NeurIPS 2020).

    As in the authors' code, but that normalisation moves too, see `jaxmeta.bias.adaptive_rates`; `net=begun_at(0.0),
    generated=around_one, through=lambda means: means` of `jaxmeta.bias` is ours.
    """
    bias = compose(initialisation(), adaptive_rates(net, max(1, learner.steps), generated, through))
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


@_method
def l2f(learner: Learner, net=as_wide, through=stop_gradient, over=None, outer=query_loss) -> Algorithm:
    """L2F: an initialisation, and a net that says how much of it to forget (Baik et al., CVPR 2020).

    As in the authors' code, but that normalisation is scaled and moves too, see `jaxmeta.bias.attenuated`; `net=begun_at(3.0)`
    of `jaxmeta.bias` begins near the initialisation (ours).
    """
    bias = compose(initialisation(), attenuated(net, through))
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


@_method
def bootstrapped_maml(learner: Learner, steps: int = 5, over=None, outer=query_loss, distance=squared_distance) -> Algorithm:
    """Bootstrapped metagradients for an initialisation: towards where `steps` more lead (Flennerhag et al., ICLR 2022).

    What training descends is `distance`, by default that of the parameters, or `jaxmeta.objective.divergence`, the paper's for
    predictions; evaluation and predictions are those of MAML, judged by `outer`.
    """
    def drawn(bilevel):
        return bilevel._replace(outer=bootstrapped(steps, distance, bilevel.outer))

    return Algorithm(Bilevel(initialisation(), learner, outer), in_training(unrolled(over=over), drawn))


@_method
def proto_maml(learner: Learner, encoder, head: str = "head", over=None, outer=query_loss) -> Algorithm:
    """ProtoMAML: the body's initialisation; the head begins at prototypes (Triantafillou et al., ICLR 2020)."""
    bias = compose(initialisation(excluding(head)), prototype_head(encoder, head))
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


@_method
def meta_sgd(learner: Learner, over=None, outer=query_loss) -> Algorithm:
    """Meta-SGD: an initialisation and a step size for every element (Li et al., 2017)."""
    bias = compose(initialisation(), step_sizes(1.0, each=element))
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


@_method
def meta_curvature(learner: Learner, over=None, outer=query_loss) -> Algorithm:
    """Meta-Curvature: an initialisation and Kronecker factors on the gradient (Park and Oliva, NeurIPS 2019)."""
    bias = compose(initialisation(), preconditioner(kronecker))
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


@_method
def cavia(learner: Learner, size: int = 100, over=None, outer=query_loss) -> Algorithm:
    """CAVIA: context inputs adapt, weights are shared; of a model `jaxmeta.models.film`, as on the paper's images, the context
    modulates features (Zintgraf et al., ICML 2019).
    """
    return Algorithm(Bilevel(context(size), learner, outer), unrolled(over=over))


@_method
def imaml(learner: Learner, strength: float = 2.0, solver=cg(5), over=None, outer=query_loss) -> Algorithm:
    """iMAML: a learned initialisation that a proximal term holds on to, implicit (Rajeswaran et al., NeurIPS 2019).

    There the strength was 2, the inner steps 16 or 25, the conjugate gradients 5.
    """
    bias = compose(initialisation(), fixed(proximal(strength)))
    return Algorithm(Bilevel(bias, learner, outer), implicit(solver, over=over))


@_method
def tree_maml(learner: Learner, tree, scales=1.0, strength: float = 1.0, over=None, outer=query_loss) -> Algorithm:
    """Tree-MAML: MAML with an initialisation for every node of a tree, sums of differences along the path, and their prior
    times strength (ours, on Finn, Abbeel and Levine, ICML 2017).
    """
    tying = along_tree(tree, scales)
    return Algorithm(Bilevel(hierarchical(initialisation(), tying), learner, outer),
                     penalised(unrolled(over=over), tying.penalty, strength))


@_method
def msr(learner: Learner, tying: Tying, rate: float = 1.0, over=None, outer=query_loss) -> Algorithm:
    """MSR: symmetries by reparameterisation, vec W = U v; U is learned across tasks, v within each from a learned start with a
    learned rate for each leaf, which begins at `rate` times the learner's (Zhou, Knowles and Finn, ICLR 2021). The tying is
    `jaxmeta.tying.reparameterised` or `kronecker`, placed by `applied`; others with leaves named structure do as well.
    """
    bias = compose(tied(tying), shared(named("structure")), initialisation(), step_sizes(rate, each=leaf))
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


@_method
def t_net(learner: Learner, where: Where = named("kernel"), over=None, outer=query_loss) -> Algorithm:
    """T-Nets, WarpGrad's linear form: the outputs of every layer are warped by a matrix, W = V T; the low level moves V from a
    learned start, in the metric that T, learned across tasks and begun at the identity, makes of its gradients (Lee and Choi,
    ICML 2018; Flennerhag et al., Meta-learning with warped gradient descent, ICLR 2020).

    `where` says which leaves are warped, by a matrix of their last axis: of a convolution its filters. Biases are not.
    """
    warped = applied({where: kronecker_tying(modes=slice(-1, None))}, rest=identity())
    bias = compose(tied(warped), shared(named("structure")), initialisation())
    return Algorithm(Bilevel(bias, learner, outer), unrolled(over=over))


@_method
def soft_tree_maml(learner: Learner, nodes: int, widths, scales=1.0, strength: float = 1.0, temperature: float = 1.0, over=None,
                   outer=query_loss) -> Algorithm:
    """Tree-MAML whose tree is learned with it, routes being Gumbel-softmax (ours, on Finn, Abbeel and Levine, ICML 2017, and
    Yao et al., Hierarchically structured meta-learning, ICML 2019).

    `widths` are the most nodes of each level below the root; `jaxmeta.tying.harden_along_tree` gives the tree.
    """
    tying = soft_along_tree(nodes, widths, scales, temperature)
    return Algorithm(Bilevel(hierarchical(initialisation(), tying), learner, outer),
                     perturbed(penalised(unrolled(over=over), tying.penalty, strength), where=named("structure")))


@_method
def protonet(encoder, ways: int, over=None, outer=query_loss) -> Algorithm:
    """Prototypical networks: a representation in which class means suffice (Snell, Swersky and Zemel, NeurIPS 2017)."""
    return Algorithm(Bilevel(representation(encoder), prototypes(ways), outer), unrolled(over=over))


@_method
def scaled_protonet(encoder, ways: int, over=None, outer=query_loss) -> Algorithm:
    """Prototypical networks with a learned scale of the distances (Oreshkin, Rodriguez Lopez and Lacoste, NeurIPS 2018).

    Squared distances grow with the number of features, and a softmax of large ones is sure of whatever is nearest. The scale
    begins at e^-3, where those of Conv4's features leave a doubt.
    """
    head = functools.partial(prototypes, ways)
    bias = compose(hyperparameters(head, log_scale=-3.0), representation(encoder))
    return Algorithm(Bilevel(bias, head(), outer), unrolled(over=over))


@_method
def matching_net(encoder, ways: int, over=None, outer=query_loss) -> Algorithm:
    """Matching networks: a representation for attention over the support (Vinyals et al., NeurIPS 2016).

    Without full context embeddings; cosines are scaled by 10 (ours), where the paper's attention takes them as they are.
    """
    return Algorithm(Bilevel(representation(encoder), matching(ways), outer), unrolled(over=over))


@_method
def local_matching_net(encoder, ways: int, reach: int = 1, over=None, outer=query_loss) -> Algorithm:
    """A representation of places that are matched with places nearby (ours, after DN4 of Li et al., CVPR 2019).

    DN4 sums the cosines of the three places most alike among all of a class; here places are explained by mixtures in squared
    distances, nearby and in both directions, see `jaxmeta.learner.local_matching`.
    """
    return Algorithm(Bilevel(representation(encoder), local_matching(ways, reach), outer), unrolled(over=over))


@_method
def relation_net(encoder, comparator, ways: int, over=None, outer=query_loss) -> Algorithm:
    """Relation networks: a representation and a net that compares (Sung et al., CVPR 2018).

    The criterion is cross entropy (ours; theirs the squared error of a relation from 0 to 1), and the comparator is given
    features; theirs is two convolution blocks on the maps of an encoder that pools twice.
    """
    return Algorithm(Bilevel(comparison(encoder, comparator, ways), prototypes(ways), outer), unrolled(over=over))


@_method
def black_box(encoder, reader, ways: int, over=None, outer=query_loss) -> Algorithm:
    """A net that reads the support in context, as SNAIL's (Mishra et al., ICLR 2018) or a transformer's."""
    return Algorithm(Bilevel(in_context(encoder, reader, ways), prototypes(ways), outer), unrolled(over=over))


@_method
def metaoptnet(encoder, ways: int, sweeps: int = 15, over=None, outer=query_loss) -> Algorithm:
    """MetaOptNet: a representation for a support vector machine, its scale and cost learned (Lee et al., CVPR 2019)."""
    head = functools.partial(support_vectors, ways, sweeps)
    bias = compose(hyperparameters(head, log_cost=0.0, log_scale=_LOG_SCALE), representation(encoder))
    return Algorithm(Bilevel(bias, head(), outer), unrolled(over=over))


@_method
def r2d2(encoder, ways: int, over=None, outer=query_loss) -> Algorithm:
    """R2-D2: a representation in which ridge regression suffices, its strength learned (Bertinetto et al., ICLR 2019)."""
    head = functools.partial(ridge, ways)
    bias = compose(hyperparameters(head, log_strength=0.0, log_scale=_LOG_SCALE, offset=0.0), representation(encoder))
    return Algorithm(Bilevel(bias, head(), outer), unrolled(over=over))


@_method
def leo(encoder, relation, decoder, ways: int, rate: float = 1.0, steps: int = 10, latent_steps: int = 5,
        divergence: float = 1e-3, drift: float = 1e-9, fine_rate: float = 1e-3, over=None, outer=query_loss) -> Algorithm:
    """LEO: latent codes of the classes adapt, and are decoded to the weights of a linear head (Rusu et al., ICLR 2019).

    The first `latent_steps` steps move the codes, what is left of `steps` the weights, at a learned rate for each latent
    dimension, begun at `rate`, and for each feature, begun at `fine_rate`. Codes are drawn in training, which descends the
    codes' divergence and drift too; evaluation takes the mean codes and is judged by `outer`. All of these are the authors';
    the encoder is trained with the rest, theirs is pretrained, and what else is ours is said in `jaxmeta.bias.latent`.
    """
    turns = {"latent": lambda count: count < latent_steps, "offset": lambda count: count >= latent_steps}
    update = optax.partition({name: optax.sgd(lambda count, turn=turn: 1.0 * turn(count)) for name, turn in turns.items()},
                             {name: name for name in turns})
    rates = step_sizes({"latent": rate, "offset": fine_rate}, each=channel)
    bias, trained = (compose(latent(encoder, relation, decoder, ways, divergence, drift, code), rates)
                     for code in (mean_code, drawn_code))

    def drawing(bilevel):
        if bilevel.bias != bias:
            raise ValueError("leo's estimator draws codes for leo's own bias, got another; compose what you add with "
                             "jaxmeta.bias.latent(..., code=drawn_code) and estimate that with unrolled()")
        return bilevel._replace(bias=trained, outer=regularised(bilevel.outer))

    return Algorithm(Bilevel(bias, linear(ways, update, steps), outer), in_training(unrolled(over=over), drawing))


@_method
def baseline_plus_plus(encoder, classes: int, ways: int, rate: float = 1.0, steps: int = 20, scale: float = 10.0, over=None,
                       outer=query_loss) -> Algorithm:
    """Baseline++: ordinary learning of an encoder and a cosine classifier of all training classes; a new task learns a new head
    by gradient steps at `rate`, the encoder frozen (Chen et al., ICLR 2019).

    To be trained on `jaxmeta.tasks.labelled`, with labels below `classes`, and evaluated on episodes; see
    `jaxmeta.bias.pretrained`. Trained on episodes, its encoder would be one that fine-tuning is differentiated through.
    """
    head = cosine(ways, scale, optax.sgd(rate), steps)
    return Algorithm(Bilevel(pretrained(encoder, cosine(classes, scale)), head, outer), unrolled(over=over))
