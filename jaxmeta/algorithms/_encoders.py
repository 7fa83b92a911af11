"""Methods that learn a representation, and a head for each task on it."""

from __future__ import annotations

import functools
import math

import optax

from jaxmeta import models
from jaxmeta.algorithms._method import method
from jaxmeta.base import Algorithm, Bilevel, query_loss
from jaxmeta.bias import (
    channel,
    comparison,
    compose,
    drawn_code,
    hyperparameters,
    in_context,
    latent,
    mean_code,
    pretrained,
    representation,
    step_sizes,
)
from jaxmeta.estimator import in_training, unrolled
from jaxmeta.learner import (
    cosine,
    linear,
    local_matching,
    matching,
    prototypes,
    ridge,
    support_vectors,
)
from jaxmeta.objective import regularised

# Where a head's learned scale begins. Its scores are about 1 apart, so that unscaled no softmax
# over many classes is sure of any, and until the scale has grown the loss does not say how good the
# representation is.
_LOG_SCALE = 2.0


@method
def protonet(encoder, ways: int, *, over=None, outer=query_loss) -> Algorithm:
    """Prototypical networks: a representation in which class means suffice (Snell, Swersky and
    Zemel, NeurIPS 2017)."""
    return Algorithm(Bilevel(representation(encoder), prototypes(ways), outer), unrolled(over=over))


@method
def scaled_protonet(encoder, ways: int, *, over=None, outer=query_loss) -> Algorithm:
    """Prototypical networks with a learned scale of the distances (Oreshkin, Rodriguez Lopez and
    Lacoste, NeurIPS 2018).

    Squared distances grow with the number of features, and a softmax of large ones is sure of
    whatever is nearest. The scale begins at e^-3, where those of Conv4's features leave a doubt
    (ours). The paper's conditioning on the task and its second training problem are not here.
    """
    head = functools.partial(prototypes, ways)
    bias = compose(hyperparameters(head, log_scale=-3.0), representation(encoder))
    return Algorithm(Bilevel(bias, head(), outer), unrolled(over=over))


@method
def matching_net(encoder, ways: int, *, over=None, outer=query_loss) -> Algorithm:
    """Matching networks: a representation for attention over the support (Vinyals et al., NeurIPS
    2016).

    Without full context embeddings; cosines are scaled by 10 (ours), where the paper's attention
    takes them as they are.
    """
    return Algorithm(Bilevel(representation(encoder), matching(ways), outer), unrolled(over=over))


@method
def local_matching_net(
    encoder, ways: int, reach: int = 1, *, over=None, outer=query_loss
) -> Algorithm:
    """A representation of places that are matched with places nearby (ours, after DN4 of Li et al.,
    CVPR 2019).

    DN4 sums the cosines of the three places most alike among all of a class; here places are
    explained by mixtures in squared distances, nearby and in both directions, see
    `jaxmeta.learner.local_matching`.
    """
    return Algorithm(
        Bilevel(representation(encoder), local_matching(ways, reach), outer), unrolled(over=over)
    )


@method
def relation_net(encoder, comparator, ways: int, *, over=None, outer=query_loss) -> Algorithm:
    """Relation networks: a representation and a net that compares (Sung et al., CVPR 2018).

    The criterion is cross entropy (ours; theirs the squared error of a relation from 0 to 1), and
    the comparator is given features; theirs is two convolution blocks on the maps of an encoder
    that pools twice.
    """
    return Algorithm(
        Bilevel(comparison(encoder, comparator, ways), prototypes(ways), outer), unrolled(over=over)
    )


@method
def black_box(encoder, reader, ways: int, *, over=None, outer=query_loss) -> Algorithm:
    """A net that reads the support in context, such as a transformer (Kirsch et al., 2022).

    With `jaxmeta.models.in_context_transformer`, blocks, training and budget are ours; Kirsch et
    al. find what such nets need to learn to learn at all. The support is read in an order drawn for
    each task.
    """
    return Algorithm(
        Bilevel(in_context(encoder, reader, ways), prototypes(ways), outer), unrolled(over=over)
    )


@method
def snail(encoder, ways: int, reader=None, *, over=None, outer=query_loss) -> Algorithm:
    """SNAIL: causal convolutions and attention read the support, then the query (Mishra et al.,
    ICLR 2018).

    `reader` is `jaxmeta.models.snail(ways)` where it is None. The paper's has as many dilations as
    its episodes need, ours 6; encoder, optimiser and budget are whatever is given.
    """
    reader = models.snail(ways) if reader is None else reader
    return Algorithm(
        Bilevel(in_context(encoder, reader, ways), prototypes(ways), outer), unrolled(over=over)
    )


@method
def metaoptnet(
    encoder,
    ways: int,
    cost: float = 0.1,
    learned=(("log_scale", _LOG_SCALE),),
    *,
    over=None,
    outer=query_loss,
) -> Algorithm:
    """MetaOptNet: a representation for a support vector machine (Lee et al., CVPR 2019).

    As published, the machine is solved and its cost is fixed at 0.1; the scale of its scores is
    learned. That it begins at e^2 is ours, theirs at 1, so `learned={"log_scale": 0.0}`; a cost
    that is learned too is ours, `learned={"log_scale": 2.0, "log_cost": math.log(0.1)}`.
    """
    head = functools.partial(support_vectors, ways, log_cost=math.log(cost))
    bias = compose(hyperparameters(head, **dict(learned)), representation(encoder))
    return Algorithm(Bilevel(bias, head(), outer), unrolled(over=over))


@method
def r2d2(encoder, ways: int, *, over=None, outer=query_loss, head=ridge) -> Algorithm:
    """R2-D2: a representation in which ridge regression suffices, its strength learned (Bertinetto
    et al., ICLR 2019).

    `head` is the paper's equation, or with `jaxmeta.learner.mean_ridge` the authors' code, which
    has a bias and a strength for each example. That the scale begins at e^2 is ours.
    """
    head = functools.partial(head, ways)
    bias = compose(
        hyperparameters(head, log_strength=0.0, log_scale=_LOG_SCALE, offset=0.0),
        representation(encoder),
    )
    return Algorithm(Bilevel(bias, head(), outer), unrolled(over=over))


@method
def leo(
    encoder,
    relation,
    decoder,
    ways: int,
    rate: float = 1.0,
    steps: int = 10,
    latent_steps: int = 5,
    divergence: float = 1e-3,
    drift: float = 1e-9,
    fine_rate: float = 1e-3,
    *,
    over=None,
    outer=query_loss,
) -> Algorithm:
    """LEO: latent codes of the classes adapt, and are decoded to the weights of a linear head (Rusu
    et al., ICLR 2019).

    The first `latent_steps` steps move the codes, what is left of `steps` the weights, at a learned
    rate for each latent dimension, begun at `rate`, and for each feature, begun at `fine_rate`.
    Codes are drawn in training, which descends the codes' divergence and drift too; evaluation
    takes the mean codes and is judged by `outer`. All of these are the authors'; the encoder is
    trained with the rest, theirs is pretrained, and what else is ours is said in
    `jaxmeta.bias.latent`.
    """
    turns = {
        "latent": lambda count: count < latent_steps,
        "offset": lambda count: count >= latent_steps,
    }
    update = optax.partition(
        {
            name: optax.sgd(lambda count, turn=turn: 1.0 * turn(count))
            for name, turn in turns.items()
        },
        {name: name for name in turns},
    )
    rates = step_sizes({"latent": rate, "offset": fine_rate}, each=channel)
    bias, trained = (
        compose(latent(encoder, relation, decoder, ways, divergence, drift, code), rates)
        for code in (mean_code, drawn_code)
    )

    bias.shape.drawing = trained  # by which it is known, also where it was pickled

    def drawing(bilevel):
        drawn = getattr(bilevel.bias.shape, "drawing", None)
        if drawn is None:
            raise ValueError(
                "leo's estimator draws codes for leo's own bias, got another; compose what you "
                "add with jaxmeta.bias.latent(..., code=drawn_code) and estimate that with "
                "unrolled()"
            )
        return bilevel._replace(bias=drawn, outer=regularised(bilevel.outer))

    return Algorithm(
        Bilevel(bias, linear(ways, update, steps), outer), in_training(unrolled(over=over), drawing)
    )


@method
def baseline_plus_plus(
    encoder,
    classes: int,
    ways: int,
    rate: float = 1.0,
    steps: int = 20,
    scale: float | None = None,
    *,
    over=None,
    outer=query_loss,
    update: optax.GradientTransformation | None = None,
) -> Algorithm:
    """Baseline++: ordinary learning of an encoder and a cosine classifier of all training classes;
    a new task learns a new head by gradient steps, the encoder frozen (Chen et al., ICLR 2019).

    To be trained on `jaxmeta.tasks.labelled`, with labels below `classes`, and evaluated on
    episodes; see `jaxmeta.bias.pretrained`. Trained on episodes, its encoder would be one that
    fine-tuning is differentiated through.

    The scale of the cosines is the authors' (`jaxmeta.learner.cosine`). Fine-tuning by 20 steps at
    `rate` on the whole support is ours, and heads have no learned norms. The authors take 100
    epochs of batches of 4, of 5 examples 200 steps:
    `update=jaxmeta.learner.dampened_sgd(), steps=200`, and
    `jaxmeta.compose(jaxmeta.minibatches(4), algorithm.bilevel.bias)` for the bias of the bilevel
    problem that is evaluated.
    """
    head = cosine(ways, scale, optax.sgd(rate) if update is None else update, steps)
    return Algorithm(
        Bilevel(pretrained(encoder, cosine(classes, scale)), head, outer), unrolled(over=over)
    )
