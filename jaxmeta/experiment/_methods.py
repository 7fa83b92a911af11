"""The tables: every method, model and normalisation that a configuration can name, with its
defaults."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import optax

from jaxmeta import algorithms, models
from jaxmeta._pytree import named
from jaxmeta.estimator import cg
from jaxmeta.learner import gradient, linear
from jaxmeta.tasks import episodes, labelled
from jaxmeta.training import outer_adam


class Level(NamedTuple):
    """The low level of a method: `ways`, the inner `rate`, the inner `steps`; `classes` and `shots`
    there are in training."""

    ways: int
    rate: float
    steps: int
    classes: int
    shots: int


class Method(NamedTuple):
    """A named algorithm as the command line knows it.

    Args:
      build: `(model, level, over, outer) -> Algorithm`, where `model(outputs)` makes the net.
      learned: What the high level owns, in words.
      derivative: How the outer loss's derivative reaches it, in words.
      paper: Where it was published.
      ours: What deviates from the paper or its authors' code, in a sentence or two; "" where
        nothing is known to. What all have in common is not repeated: outer rates, budgets and tasks
        a meta-batch are ours, and normalisation is by the data at hand.
      inner_rate: Default step size of the low level on images and on windows; 0 where it takes no
        steps.
      inner_steps: Default inner steps in training.
      evaluation_steps: Default inner steps in evaluation.
      tasks: Default episodes a meta-batch.
      shots: Default support examples a class in training on images and on windows; evaluation has 1
        unless told.
      outer_rate: Default step size of the high level.
      optimiser: The outer optimiser, `(rate, steps) -> optax transformation`.
      image_model: Default model of images.
      norm: Default normalisation.
      extends: Whether a head can be given more outputs than it was trained with (see
        `at_other_ways`).
      sample: The sampler of training tasks,
        `(pool, ways, shots, queries, **variants) -> (key -> Task)`.
    """

    build: Callable
    learned: str
    derivative: str
    paper: str
    ours: str
    inner_rate: tuple[float, float] = (0.4, 0.1)
    inner_steps: int = 1
    evaluation_steps: int = 3
    tasks: int = 16
    shots: tuple[int, int] = (1, 1)
    outer_rate: float = 2e-3
    optimiser: Callable[[float, int], optax.GradientTransformation] = lambda rate, steps: (
        outer_adam(rate)
    )
    image_model: str = "conv4"
    norm: str = "batch"
    extends: bool = True
    sample: Callable = episodes


def _of_learner(algorithm, zero=None, **more):
    def build(model, level: Level, over, outer):
        learner = gradient(
            model(level.ways), update=optax.sgd(level.rate), steps=level.steps, zero=zero
        )
        return algorithm(learner, over=over, outer=outer, **more)

    return build


def _of_encoder(algorithm):
    def build(model, level: Level, over, outer):
        return algorithm(model(None), level.ways, over=over, outer=outer)

    return build


def _reptile(model, level: Level, over, outer):
    learner = gradient(model(level.ways), update=optax.adam(level.rate, b1=0.0), steps=level.steps)
    return algorithms.reptile(learner, min(10, level.ways * level.shots), over=over, outer=outer)


def _anil(model, level: Level, over, outer):
    return algorithms.anil(
        model(None), linear(level.ways, optax.sgd(level.rate), level.steps), over=over, outer=outer
    )


def _cavia(model, level: Level, over, outer):
    return _of_learner(algorithms.cavia)(
        lambda ways: models.film(model(None), ways, 100), level, over, outer
    )


def _clipped_by_element(rate, steps):
    return optax.chain(optax.clip(10.0), optax.adam(rate))


def _proto_maml(model, level: Level, over, outer):
    return _of_learner(algorithms.proto_maml, encoder=model(None))(model, level, over, outer)


def _relation_net(model, level: Level, over, outer):
    return algorithms.relation_net(
        model(None), models.mlp((64,), 1), level.ways, over=over, outer=outer
    )


def _black_box(model, level: Level, over, outer):
    return algorithms.black_box(
        model(None), models.in_context_transformer(level.ways), level.ways, over=over, outer=outer
    )


def _leo(model, level: Level, over, outer):
    return algorithms.leo(
        model(None),
        models.mlp((64, 64), 32),
        lambda outputs: models.mlp((), outputs),
        level.ways,
        level.rate,
        level.steps,
        over=over,
        outer=outer,
    )


def _baseline_plus_plus(model, level: Level, over, outer):
    return algorithms.baseline_plus_plus(
        model(None), level.classes, level.ways, level.rate, level.steps, over=over, outer=outer
    )


def _batches(pool, ways, shots, queries, **variants):
    """Labelled examples of all classes, as many as an episode has."""
    return labelled(pool, ways * (shots + queries), **variants)


_UNROLLED = "through all inner steps"
_CONTEXT = dict(inner_rate=(1.0, 1.0), inner_steps=2, evaluation_steps=2, extends=False)
_SOLVED = dict(inner_rate=(0.0, 0.0), inner_steps=0, evaluation_steps=0)

METHODS = {
    "maml": Method(
        _of_learner(algorithms.maml),
        "initialisation",
        _UNROLLED,
        "Finn et al., ICML 2017",
        ours=(
            "Normalisation's scale and offset move in the inner loop, in the authors' code they "
            "do not; their net strides where ours pools."
        ),
    ),
    "fomaml": Method(
        _of_learner(algorithms.fomaml),
        "initialisation",
        "first order: inner gradients held constant",
        "Finn et al., ICML 2017",
        ours="As for MAML.",
    ),
    "reptile": Method(
        _reptile,
        "initialisation",
        "none: towards where learning ends",
        "Nichol et al., 2018",
        ours=(
            "Minibatches are drawn anew for each step and not in shuffled rounds, and the memory "
            "of Adam begins anew in every task."
        ),
        inner_rate=(1e-3, 1e-3),
        inner_steps=5,
        evaluation_steps=50,
        tasks=5,
        shots=(10, 1),
        outer_rate=1.0,
        optimiser=lambda rate, steps: optax.sgd(optax.linear_schedule(rate, 0.0, steps)),
    ),
    "anil": Method(
        _anil,
        "representation, initialisation of the head",
        _UNROLLED,
        "Raghu et al., ICLR 2020",
        ours="The head has no offset and begins at zero.",
        inner_steps=3,
    ),
    "boil": Method(
        _of_learner(algorithms.boil),
        "initialisation of the body, shared head",
        _UNROLLED,
        "Oh et al., ICLR 2021",
        ours="",
        evaluation_steps=1,
        extends=False,
    ),
    "meta_sgd": Method(
        _of_learner(algorithms.meta_sgd),
        "initialisation, a step size for each element",
        _UNROLLED,
        "Li et al., 2017",
        ours=(
            "Rates are learned factors, begun at 1, of the learner's; the paper draws rates from "
            "0.005 to 0.1."
        ),
        evaluation_steps=1,
    ),
    "meta_curvature": Method(
        _of_learner(algorithms.meta_curvature),
        "initialisation, Kronecker factors on the gradient",
        _UNROLLED,
        "Park and Oliva, NeurIPS 2019",
        ours="A vector's gradient has a full matrix, in the common port a diagonal one.",
        evaluation_steps=1,
    ),
    "t_net": Method(
        _of_learner(algorithms.t_net),
        "initialisation, a warp of the outputs of each layer",
        _UNROLLED,
        "Lee and Choi, ICML 2018",
        ours=(
            "Offsets are not warped, in the authors' code they are; normalisation moves in the "
            "inner loop. WarpGrad's own objective, over the points of all paths, is not what is "
            "descended."
        ),
    ),
    "cavia": Method(
        _cavia,
        "all weights; a context that modulates features adapts",
        _UNROLLED,
        "after Zintgraf et al., ICML 2019",
        ours=(
            "The context modulates the last features, after the nonlinearity, by 1 + gamma; "
            "cavia_conv4 is the authors'."
        ),
        **_CONTEXT,
    ),
    "cavia_conv4": Method(
        _of_learner(algorithms.cavia),
        "all weights; a context that modulates the third layer adapts",
        _UNROLLED,
        "Zintgraf et al., ICML 2019",
        ours="Context and rate are the paper's of miniImageNet; it has no Omniglot.",
        image_model="conv4_film",
        optimiser=_clipped_by_element,
        **_CONTEXT,
    ),
    "imaml": Method(
        _of_learner(algorithms.imaml, solver=cg(5, damping=22.0)),
        "initialisation, to which adaptation is held",
        "where learning ends, by the implicit function theorem",
        "Rajeswaran et al., NeurIPS 2019",
        ours=(
            "The proximal term acts in every inner step of training, as in the paper; the "
            "authors' code applies it once, after plain steps. Its damping is taken, the outer "
            "rate is ours."
        ),
        inner_rate=(0.1, 0.05),
        inner_steps=16,
        evaluation_steps=16,
        outer_rate=5e-3,
        optimiser=outer_adam,
    ),
    "maml_plus_plus": Method(
        _of_learner(
            algorithms.maml_plus_plus, zero=named("head"), by_step=lambda path: "norm" in path
        ),
        "initialisation, rates and normalisation by step",
        "through all inner steps, each judged at first",
        "Antoniou et al., ICLR 2019",
        ours=(
            "The head begins at zero, losses are annealed by estimate and not by epoch, and one "
            "net is judged and not an ensemble of five."
        ),
        inner_rate=(0.1, 0.05),
        inner_steps=5,
        evaluation_steps=5,
        optimiser=outer_adam,
    ),
    "alfa": Method(
        _of_learner(algorithms.alfa),
        "initialisation, a net that sets rates and decays",
        _UNROLLED,
        "Baik et al., NeurIPS 2020",
        ours=(
            "Normalisation moves in the inner loop too, which has 1 step; theirs leaves it alone "
            "and has 5."
        ),
        evaluation_steps=1,
    ),
    "l2f": Method(
        _of_learner(algorithms.l2f),
        "initialisation, a net that says what to forget",
        _UNROLLED,
        "Baik et al., CVPR 2020",
        ours=(
            "Normalisation's scale and offset are attenuated and move, theirs are left alone; "
            "theirs may learn rates besides."
        ),
    ),
    "bootstrapped_maml": Method(
        _of_learner(algorithms.bootstrapped_maml),
        "initialisation",
        "towards where more steps lead, that target held constant",
        "Flennerhag et al., ICLR 2022",
        ours="The distance to the target is that of the parameters; that of predictions, which the "
        "paper has too, is an argument.",
    ),
    "proto_maml": Method(
        _proto_maml,
        "initialisation of the body; the head begins at prototypes",
        _UNROLLED,
        "Triantafillou et al., ICLR 2020",
        ours=(
            "Normalisation's scale and offset move in the inner loop; Meta-Dataset's code can "
            "leave them alone."
        ),
        inner_rate=(0.05, 0.02),
    ),
    "protonet": Method(
        _of_encoder(algorithms.protonet),
        "representation",
        "no inner steps: class means",
        "Snell et al., NeurIPS 2017",
        ours="Training has the ways that are judged; the paper has more, on Omniglot 60.",
        **_SOLVED,
    ),
    "scaled_protonet": Method(
        _of_encoder(algorithms.scaled_protonet),
        "representation, scale of the distances",
        "no inner steps: class means",
        "Oreshkin et al., NeurIPS 2018",
        ours=(
            "Of the paper there is the scale alone, begun at e^-3, and neither its conditioning "
            "on the task nor its training on a second problem."
        ),
        **_SOLVED,
    ),
    "matching_net": Method(
        _of_encoder(algorithms.matching_net),
        "representation",
        "no inner steps: attention over the support",
        "Vinyals et al., NeurIPS 2016",
        ours="There are no full context embeddings, and cosines are scaled by 10.",
        **_SOLVED,
    ),
    "local_matching_net": Method(
        _of_encoder(algorithms.local_matching_net),
        "representation of places",
        "no inner steps: places matched with places nearby",
        "after Li et al., CVPR 2019",
        ours="All but the aim: DN4 sums the cosines of the 3 places most alike, anywhere; here "
        "mixtures in squared distances explain places by places nearby, in both directions.",
        image_model="conv_places",
        **_SOLVED,
    ),
    "relation_net": Method(
        _relation_net,
        "representation and comparator",
        "no inner steps: a net compares",
        "Sung et al., CVPR 2018",
        ours=(
            "The criterion is cross entropy, theirs the squared error; the comparator is one "
            "hidden layer on the features, theirs two convolutions on maps."
        ),
        **_SOLVED,
    ),
    "black_box": Method(
        _black_box,
        "a transformer that reads the support",
        "no inner steps: in context",
        "after Kirsch et al., 2022",
        ours=(
            "All but the idea: a transformer without positions on an encoder's features, labels "
            "one-hot and as many as the ways; theirs reads raw data with inputs and labels "
            "projected at random."
        ),
        extends=False,
        **_SOLVED,
    ),
    "snail": Method(
        _of_encoder(algorithms.snail),
        "convolutions and attention that read the support",
        "no inner steps: in context",
        "Mishra et al., ICLR 2018",
        ours=(
            "Its convolutions look back over 64 places, the paper's over an episode's length; its "
            "encoder is whatever is given."
        ),
        extends=False,
        **_SOLVED,
    ),
    "leo": Method(
        _leo,
        "encoder and decoder of the classes' latent codes, a rate for each dimension",
        _UNROLLED,
        "Rusu et al., ICLR 2019",
        ours=(
            "The encoder is trained with the rest, theirs is pretrained; weights are decoded "
            "without a variance, the divergence is exact, and there is no penalty on the nets. "
            "See jaxmeta.bias.latent."
        ),
        inner_rate=(1.0, 1.0),
        inner_steps=10,
        evaluation_steps=10,
    ),
    "baseline_plus_plus": Method(
        _baseline_plus_plus,
        "encoder and cosine classifier of all training classes",
        "no inner steps: ordinary learning, fine-tuned in evaluation",
        "Chen et al., ICLR 2019",
        ours=(
            "Fine-tuning by 20 steps of rate 1 on the whole support, on heads without learned "
            "norms; theirs is 100 epochs of batches of 4, of rate 0.01, with momentum and decay."
        ),
        inner_rate=(1.0, 1.0),
        inner_steps=20,
        evaluation_steps=20,
        sample=_batches,
    ),
    "metaoptnet": Method(
        _of_encoder(algorithms.metaoptnet),
        "representation, scale of the machine's logits",
        "through the optimum of a support vector machine",
        "Lee et al., CVPR 2019",
        ours=(
            "The scale begins at e^2, theirs at 1. Solved otherwise than by their interior point "
            "method, to the same optimum."
        ),
        **_SOLVED,
    ),
    "r2d2": Method(
        _of_encoder(algorithms.r2d2),
        "representation, strength of the ridge",
        "through the closed form of ridge regression",
        "Bertinetto et al., ICLR 2019",
        ours=(
            "As the paper's equation; the authors' code (head=mean_ridge) has a bias in it and a "
            "strength by example, and draws ways and shots in training."
        ),
        **_SOLVED,
    ),
}


def _mlp(outputs, width, norm):
    return models.mlp([width, width], outputs)  # it has no normalisation


def _conv4_film(outputs, width, norm):
    return models.conv4_film(outputs, filters=width, norm=norm)


def _resnet12(outputs, width, norm):
    return models.resnet12(outputs, widths=(width, 2 * width, 4 * width, 8 * width), norm=norm)


class Net(NamedTuple):
    """A model as a configuration names it: `make(outputs, width, norm=norm)`, for inputs of so many
    `axes` without n."""

    make: Callable
    axes: tuple[int, ...]


MODELS = {
    "conv4": Net(models.conv4, (3,)),
    "conv4_margin": Net(functools.partial(models.conv4, margin=2), (3,)),
    "conv4_film": Net(_conv4_film, (3,)),
    "conv_places": Net(models.conv_places, (3,)),
    "resnet12": Net(_resnet12, (3,)),
    "conv1d": Net(models.conv1d, (2,)),
    "mlp": Net(_mlp, (2, 3)),
}

NORMS = {"batch": models.batch_norm, "layer": models.layer_norm, "none": models.none}
