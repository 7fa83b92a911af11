"""What was learned, against what the same episodes give without it."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxmeta.evaluation import curve, evaluate, interval, paired_difference
from jaxmeta.experiment._baseline import from_scratch, raw_means
from jaxmeta.experiment._build import Evaluation, Experiment, mapper, shapes, trained
from jaxmeta.experiment._configuration import Configuration
from jaxmeta.experiment._heads import at_other_ways
from jaxmeta.experiment._predict import predictions

_CURVE = 200  # episodes of the curves over inner steps


def at_evaluation(configuration: Configuration, theta, bilevel):
    """Theta with the head that evaluation's ways need (see `at_other_ways`)."""
    before = trained(configuration).bilevel, shapes(configuration, configuration.ways)
    return at_other_ways(theta, before, (bilevel, shapes(configuration, configuration.evaluation_ways)))


def judge(key, configuration: Configuration, experiment: Experiment, theta, episodes: int = 600) -> dict[str, Any]:
    """Accuracy on test episodes of theta, of an untrained theta, and of learning without meta-learning.

    All see the same episodes.

    Args:
      key: Of all that is random.
      configuration: A complete one.
      experiment: As `build` makes it.
      theta: As trained.
      episodes: How many.

    Returns:
      JSON values: for 'trained', 'untrained', 'from_scratch' and 'raw_means' the 'accuracy' and the 'half' of its 95 %
      interval; 'gain', trained less the better of the last two, in pairs; 'curves' over inner steps, where there are any.
    """
    over = mapper()
    key_init, key_scratch, key_test = jax.random.split(key, 3)
    bilevel, sample = experiment.test
    untrained = experiment.algorithm.bilevel.init(key_init, experiment.sample(key_init))
    theta, untrained = (at_evaluation(configuration, each, bilevel) for each in (theta, untrained))
    scratch = from_scratch(key_scratch, configuration, experiment.familiar, over)
    raw = raw_means(configuration)
    values = {name: evaluate(key_test, problem, start, sample, episodes, over).values["accuracy"] for name, problem, start in (
        ("trained", bilevel, theta), ("untrained", bilevel, untrained), ("from_scratch", scratch, ()), ("raw_means", raw, {}))}
    without = max(("from_scratch", "raw_means"), key=lambda name: values[name].mean())
    judged = {name: _json(interval(each)) for name, each in values.items()}
    judged["from_scratch"]["steps"] = scratch.learner.steps
    steps = max(2 * configuration.evaluation_steps, 5)
    curves = {} if not configuration.evaluation_steps else {
        name: [point.mean for point in curve(
            key_test, bilevel, start, sample, min(episodes, _CURVE), steps, over).summary["accuracy"]]
        for name, start in (("trained", theta), ("untrained", untrained))}
    return {"ways": configuration.evaluation_ways, "shots": configuration.evaluation_shots, "episodes": episodes, **judged,
            "gain": {"over": without, **_json(paired_difference(values["trained"], values[without]))}, "curves": curves}


def play(key, configuration: Configuration, test: Evaluation, theta) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One test episode class by class: support `[W, S, ...]`, query `[W, Q, ...]` and what the queries were taken for."""
    ways = configuration.evaluation_ways
    task = test.sample(key)
    theta = at_evaluation(configuration, theta, test.bilevel)
    predicted = jax.jit(lambda theta, task: predictions(key, test.bilevel, theta, task, ways))(theta, task)
    return tuple(np.asarray(part).reshape(ways, -1, *part.shape[1:]) for part in (task.support.x, task.query.x, predicted))


def _json(of) -> dict[str, float]:
    return {"accuracy": of.mean, "half": of.half}
