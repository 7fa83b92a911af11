"""What the same episodes give without meta-learning."""

from __future__ import annotations

import numpy as np
import optax

from jaxmeta.base import Bias, Bilevel
from jaxmeta.bias import representation
from jaxmeta.evaluation import curve
from jaxmeta.experiment._build import Evaluation, model
from jaxmeta.experiment._configuration import Configuration
from jaxmeta.learner import gradient, prototypes
from jaxmeta.models import Model

_RATE = 1e-2  # of Adam
_MOST = 20  # steps that are tried
_EPISODES = 48  # that they are tried on


def from_scratch(key, configuration: Configuration, practice: Evaluation, over=None) -> Bilevel:
    """The same net, drawn anew for each episode and trained on its support by Adam, for as long as serves best.

    The number of steps is the one, up to 20, after which the accuracy on episodes of `practice` is highest: the
    best that early stopping can do without knowing the test.

    Args:
      key: Of those episodes.
      configuration: Gives the net.
      practice: Where the number of steps is found; as many ways as the test.
      over: How tasks are mapped.

    Returns:
      A `Bilevel` whose theta is `()`.
    """
    net = model(configuration)(configuration.evaluation_ways)
    nothing = Bias(lambda key, task, learner: (), lambda theta, task, learner: learner)
    bilevel = Bilevel(nothing, gradient(net, update=optax.adam(_RATE), steps=_MOST), practice.bilevel.outer)
    tried = curve(key, bilevel, (), practice.sample, _EPISODES, _MOST, over).values["accuracy"]
    return bilevel._replace(learner=bilevel.learner._replace(steps=int(np.argmax(tried.mean(0)))))


def raw_means(configuration: Configuration) -> Bilevel:
    """The nearest class mean of the raw inputs, without any model; its theta is `{}`."""
    raw = Model(lambda key, x: {}, lambda params, x, reference=None: x.reshape(len(x), -1))
    return Bilevel(representation(raw), prototypes(configuration.evaluation_ways))
