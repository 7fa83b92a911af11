"""What was learned, against what the same episodes give without it."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxmeta.evaluation import curve, interval, paired_difference
from jaxmeta.experiment._baseline import from_scratch, raw_means
from jaxmeta.experiment._build import Evaluation, Experiment, mapper, shapes, trained
from jaxmeta.experiment._configuration import Configuration
from jaxmeta.experiment._heads import at_other_ways
from jaxmeta.experiment._predict import predictions

_SCRATCH = 20  # steps of Adam, from scratch
_SHOWN = 5  # inner steps that a curve goes to at least


def at_evaluation(configuration: Configuration, theta, bilevel):
    """Theta with the head that evaluation's ways need (see `at_other_ways`)."""
    before = trained(configuration).bilevel, shapes(configuration, configuration.ways)
    return at_other_ways(
        theta, before, (bilevel, shapes(configuration, configuration.evaluation_ways))
    )


def judge(
    key, configuration: Configuration, experiment: Experiment, theta, episodes: int = 600
) -> dict[str, Any]:
    """Accuracy on test episodes of theta, of an untrained theta, and of learning without
    meta-learning.

    All see the same episodes, and each learns from their support alone:

      trained: theta as trained, with evaluation's inner steps.
      untrained: another theta as training starts from, with the same steps.
      from_scratch: the same net, drawn anew for each episode and trained by Adam; of 0 to 20 steps
        the number that turns out best on these very episodes, which is in its favour.
      raw_means: the nearest class mean of the raw inputs.

    Args:
      key: Of all that is random.
      configuration: A complete one.
      experiment: As `build` makes it.
      theta: As trained.
      episodes: How many.

    Returns:
      JSON values: for each of the four the 'accuracy' and the 'half' of its 95 % interval; 'gain',
      the first less the better of the last two, in pairs; 'curves', accuracies after 0, 1, ...
      inner steps.
    """
    over = mapper()
    key_init, key_test = jax.random.split(key)
    bilevel, sample = experiment.test
    untrained = jax.jit(experiment.algorithm.bilevel.init)(key_init, experiment.sample(key_init))
    steps = configuration.evaluation_steps

    def walk(problem, start, most):
        return curve(key_test, problem, start, sample, episodes, most, over).values["accuracy"]

    walks = {"from_scratch": walk(from_scratch(configuration, _SCRATCH), (), _SCRATCH)}
    for name, start in {"trained": theta, "untrained": untrained}.items():
        walks[name] = walk(
            bilevel,
            at_evaluation(configuration, start, bilevel),
            max(2 * steps, _SHOWN) if steps else 0,
        )
    best = int(walks["from_scratch"].mean(0).argmax())
    values = {
        "trained": walks["trained"][:, steps],
        "untrained": walks["untrained"][:, steps],
        "from_scratch": walks["from_scratch"][:, best],
        "raw_means": walk(raw_means(configuration), {}, 0)[:, 0],
    }
    without = max(("from_scratch", "raw_means"), key=lambda name: values[name].mean())
    judged = {name: _json(interval(each)) for name, each in values.items()}
    judged["from_scratch"]["steps"] = best
    return {
        "ways": configuration.evaluation_ways,
        "shots": configuration.evaluation_shots,
        "inner_steps": steps,
        "episodes": episodes,
        **judged,
        "gain": {"over": without, **_json(paired_difference(values["trained"], values[without]))},
        "curves": {name: each.mean(0).tolist() for name, each in walks.items()},
    }


def play(
    key, configuration: Configuration, test: Evaluation, theta
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One test episode class by class: support `[W, S, ...]`, query `[W, Q, ...]` and what the
    queries were taken for."""
    ways = configuration.evaluation_ways
    task = test.sample(key)
    theta = at_evaluation(configuration, theta, test.bilevel)
    predicted = jax.jit(lambda theta, task: predictions(key, test.bilevel, theta, task))(
        theta, task
    )
    return tuple(
        np.asarray(part).reshape(ways, -1, *part.shape[1:])
        for part in (task.support.x, task.query.x, predicted)
    )


def _json(of) -> dict[str, float]:
    return {"accuracy": of.mean, "half": of.half}
