"""Learning without meta-learning, on the same episodes."""

from __future__ import annotations

import optax

from jaxmeta.base import Bias, Bilevel
from jaxmeta.bias import representation
from jaxmeta.experiment._build import model
from jaxmeta.experiment._configuration import Configuration
from jaxmeta.learner import gradient, prototypes
from jaxmeta.models import Model

_RATE = 1e-2  # of Adam: on glyphs the best of 0.003, 0.01 and 0.03


def from_scratch(configuration: Configuration, steps: int) -> Bilevel:
    """The same net, drawn anew for each episode and trained on its support by Adam; theta is
    `()`."""
    net = model(configuration)(configuration.evaluation_ways)
    nothing = Bias(lambda key, task, learner: (), lambda theta, task, learner: learner)
    return Bilevel(nothing, gradient(net, update=optax.adam(_RATE), steps=steps))


def raw_means(configuration: Configuration) -> Bilevel:
    """The nearest class mean of the raw inputs, without any model; theta is `{}`."""
    raw = Model(lambda key, x: {}, lambda params, x, reference=None: x.reshape(len(x), -1))
    return Bilevel(representation(raw), prototypes(configuration.evaluation_ways))
