"""The within-alphabet one-shot protocol: the official runs, and trials of its form. Axes: `R` runs,
`W` ways."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from jaxmeta import _check
from jaxmeta.base import Bilevel, Examples, Task
from jaxmeta.data import Dataset, OneShotRuns
from jaxmeta.evaluation import Interval, interval
from jaxmeta.experiment._predict import label_losses
from jaxmeta.tasks import augmented, to_float, warps


class OneShotErrors(NamedTuple):
    """Shares of the queries that were taken for another class, of each run, `[R]`, and their mean
    with its 95 % interval.

    Args:
      alone: Each query taken for its most probable class.
      assigned: The queries of a run dealt out to its classes one to one, at the least sum of
        losses: what a run knows of its own form, a transduction that is reported apart.
    """

    alone: tuple[np.ndarray, Interval]
    assigned: tuple[np.ndarray, Interval]


def one_shot_errors(
    key, bilevel: Bilevel, theta, runs: OneShotRuns, views: int = 1
) -> OneShotErrors:
    """The errors of theta on runs.

    Args:
      key: Of what the learner draws, and of the views.
      bilevel: For as many ways as the runs have.
      theta: As trained.
      runs: From `jaxmeta.data.one_shot_runs`, or `one_shot_trials`.
      views: How often each run is judged, losses being averaged: once as it is, then with all of
        its images bent anew by `jaxmeta.tasks.warps`.

    Raises:
      ValueError: For fewer views than 1.
    """
    _check.whole_number("views", views, least=1)
    ways = runs.support.shape[1]
    losses = np.asarray(_losses(key, theta, runs[:3], bilevel=bilevel, ways=ways, views=views))
    alone = (losses.argmin(2) != runs.targets).mean(1)
    dealt = np.stack([linear_sum_assignment(each)[1] for each in losses])
    assigned = (dealt != runs.targets).mean(1)
    return OneShotErrors((alone, interval(alone)), (assigned, interval(assigned)))


def one_shot_trials(dataset: Dataset, runs: int, ways: int = 20, seed: int = 0) -> OneShotRuns:
    """Trials in the protocol's form, but for the people: classes of one group, an example of each,
    and another to classify.

    The official runs have all examples by one person and all queries by another; data sets do not
    say who drew what, so that here each drawing is by anyone.

    Args:
      dataset: Of whose groups (alphabets) trials are drawn in turns; a trial's name is its group's
        and three digits.
      runs: R.
      ways: W.
      seed: Of all draws.

    Raises:
      ValueError: where no group has as many classes, or not every class two examples.
    """
    rng, counts = np.random.default_rng(seed), dataset.counts()
    groups = np.flatnonzero((counts > 0).sum(1) >= ways)
    if not groups.size or counts[groups][counts[groups] > 0].min() < 2:
        raise ValueError(
            f"trials need groups of at least {ways} classes with two examples each, got at most "
            f"{int((counts > 0).sum(1).max())} classes in a group of '{dataset.name}'; take fewer "
            "ways"
        )
    found = []
    for run in range(runs):
        group = groups[run % len(groups)]
        classes = rng.permutation(np.flatnonzero(counts[group]))[:ways]
        rows = [
            rng.permutation(np.flatnonzero((dataset.groups == group) & (dataset.labels == label)))[
                :2
            ]
            for label in classes
        ]
        order = rng.permutation(ways)
        first, second = np.stack(rows).T
        found.append((dataset.inputs[first], dataset.inputs[second[order]], order.astype(np.int32)))
    names = tuple(
        f"{dataset.group_names[groups[run % len(groups)]]}{run // len(groups):03d}"
        for run in range(runs)
    )
    return OneShotRuns(*(np.stack(part) for part in zip(*found)), names)


@functools.partial(jax.jit, static_argnames=("bilevel", "ways", "views"))
def _losses(key, theta, runs, *, bilevel, ways, views):
    """`[R, W, W]`, of every query the loss if it were of each class."""

    def one(run):
        support, query, targets = run
        labels = jnp.arange(ways), targets.astype(int)
        task = Task(
            *(Examples(to_float(x), y) for x, y in zip((support, query), labels)),
            jnp.zeros((), int),
        )
        losses = label_losses(key, bilevel, theta, task)

        def add_view(losses, view):
            key_view, key_losses = jax.random.split(view)
            return losses + label_losses(
                key_losses, bilevel, theta, augmented(lambda _: task, warps())(key_view)
            ), None

        return jax.lax.scan(add_view, losses, jax.random.split(key, views - 1))[0]

    return jax.lax.map(one, runs)
