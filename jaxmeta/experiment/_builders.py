"""What the records of methods and models name: `(model, level, over, outer) -> Algorithm`, where
`model(outputs)` makes the net, and `(outputs, width, norm) -> Model`."""

from __future__ import annotations

import optax

from jaxmeta import algorithms, models
from jaxmeta._pytree import named
from jaxmeta.estimator import cg
from jaxmeta.experiment._method import Level
from jaxmeta.learner import gradient, linear
from jaxmeta.tasks import labelled
from jaxmeta.training import outer_adam


def of_learner(algorithm, zero=None, **more):
    def build(model, level: Level, over, outer):
        learner = gradient(
            model(level.ways), update=optax.sgd(level.rate), steps=level.steps, zero=zero
        )
        return algorithm(learner, over=over, outer=outer, **more)

    return build


def of_encoder(algorithm):
    def build(model, level: Level, over, outer):
        return algorithm(model(None), level.ways, over=over, outer=outer)

    return build


def reptile(model, level: Level, over, outer):
    learner = gradient(model(level.ways), update=optax.adam(level.rate, b1=0.0), steps=level.steps)
    return algorithms.reptile(learner, min(10, level.ways * level.shots), over=over, outer=outer)


def anil(model, level: Level, over, outer):
    return algorithms.anil(
        model(None), linear(level.ways, optax.sgd(level.rate), level.steps), over=over, outer=outer
    )


def cavia(model, level: Level, over, outer):
    return of_learner(algorithms.cavia)(
        lambda ways: models.film(model(None), ways, 100), level, over, outer
    )


def clipped_by_element(rate, steps):
    return optax.chain(optax.clip(10.0), optax.adam(rate))


def proto_maml(model, level: Level, over, outer):
    return of_learner(algorithms.proto_maml, encoder=model(None))(model, level, over, outer)


def relation_net(model, level: Level, over, outer):
    return algorithms.relation_net(
        model(None), models.mlp((64,), 1), level.ways, over=over, outer=outer
    )


def black_box(model, level: Level, over, outer):
    return algorithms.black_box(
        model(None), models.in_context_transformer(level.ways), level.ways, over=over, outer=outer
    )


def leo(model, level: Level, over, outer):
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


def baseline_plus_plus(model, level: Level, over, outer):
    return algorithms.baseline_plus_plus(
        model(None), level.classes, level.ways, level.rate, level.steps, over=over, outer=outer
    )


def batches(pool, ways, shots, queries, **variants):
    """Labelled examples of all classes, as many as an episode has."""
    return labelled(pool, ways * (shots + queries), **variants)


def constant_adam(rate, steps):
    """Adam at one rate."""
    return outer_adam(rate)


def annealed_sgd(rate, steps):
    """Descent whose rate falls evenly to 0."""
    return optax.sgd(optax.linear_schedule(rate, 0.0, steps))


maml = of_learner(algorithms.maml)
fomaml = of_learner(algorithms.fomaml)
boil = of_learner(algorithms.boil)
meta_sgd = of_learner(algorithms.meta_sgd)
meta_curvature = of_learner(algorithms.meta_curvature)
t_net = of_learner(algorithms.t_net)
cavia_conv4 = of_learner(algorithms.cavia)
imaml = of_learner(algorithms.imaml, solver=cg(5, damping=22.0))
maml_plus_plus = of_learner(
    algorithms.maml_plus_plus, zero=named("head"), by_step=lambda path: "norm" in path
)
alfa = of_learner(algorithms.alfa)
l2f = of_learner(algorithms.l2f)
bootstrapped_maml = of_learner(algorithms.bootstrapped_maml)
protonet = of_encoder(algorithms.protonet)
scaled_protonet = of_encoder(algorithms.scaled_protonet)
matching_net = of_encoder(algorithms.matching_net)
local_matching_net = of_encoder(algorithms.local_matching_net)
snail = of_encoder(algorithms.snail)
metaoptnet = of_encoder(algorithms.metaoptnet)
r2d2 = of_encoder(algorithms.r2d2)


def conv4_margin(outputs, width, norm):
    return models.conv4(outputs, width, norm=norm, margin=2)


def conv4_film(outputs, width, norm):
    return models.conv4_film(outputs, filters=width, norm=norm)


def resnet12(outputs, width, norm):
    widths = (width, 2 * width, 4 * width, 8 * width)
    return models.resnet12(outputs, widths=widths, norm=norm)


def mlp(outputs, width, norm):
    return models.mlp([width, width], outputs)  # it has no normalisation
