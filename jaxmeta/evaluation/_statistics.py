"""Means over episodes, and how far they can be trusted."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from jaxmeta import _check


class Interval(NamedTuple):
    """A mean and its 95 % interval, `mean - half` to `mean + half`.

    Args:
      mean: The mean, in the values' unit.
      half: Half the interval's width; infinity for a single value.
      count: n, how many values there were.
    """

    mean: float
    half: float
    count: int


def interval(values, weight=None) -> Interval:
    r"""The mean of independent values and its 95 % interval by normal theory:
    `mean +- 1.96 sd / sqrt(n)`.

    `sd` has n - 1 in its denominator. This is the interval that few-shot learning reports over 600
    episodes; for a handful of values it is too narrow. With weights the mean is
    $\sum_i w_i v_i / \sum_i w_i$, and in the place of n stands $(\sum_i w_i)^2 / \sum_i w_i^2$,
    which is n where they are alike; what has weight 0 is not there.

    Args:
      values: `[n]`, one for each episode, n at least 1.
      weight: None, or `[n]` numbers from 0 up.

    Returns:
      An `Interval`; nan where all weights are 0.

    Raises:
      ValueError: If values are not `[n]` with n at least 1, or weights not as many numbers from 0
        up.

    >>> mean, half, count = interval([0.0, 1.0, 0.0, 1.0])
    >>> mean, round(half, 4), count
    (0.5, 0.5658, 4)
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(
            f"values must be one number an episode and at least one, got shape {values.shape}; "
            "give [n]"
        )
    with np.errstate(invalid="ignore"):  # Infinite losses give a mean that says so, not a warning.
        if weight is not None:
            return _weighted(values, weight)
        half = 1.96 * values.std(ddof=1) / math.sqrt(values.size) if values.size > 1 else math.inf
        return Interval(float(values.mean()), float(half), values.size)


def _weighted(values, weight) -> Interval:
    weight = np.asarray(weight, np.float64)
    if weight.shape != values.shape:
        raise ValueError(
            f"weights must be one number for each of the {values.size} values, got shape "
            f"{weight.shape}; give [n]"
        )
    _check.weights("weights of values", weight)
    values, weight = values[weight > 0], weight[weight > 0]
    if not values.size:
        return Interval(math.nan, math.inf, 0)
    shares = weight / weight.sum()
    mean, count = shares @ values, 1 / (shares @ shares)
    variance = shares @ (values - mean) ** 2 * count / (count - 1) if count > 1 else math.inf
    return Interval(float(mean), float(1.96 * math.sqrt(variance / count)), values.size)


def paired_difference(first, second) -> Interval:
    """The mean of `first - second`, episode by episode, and its 95 % interval.

    Two methods measured on the same episodes share what makes an episode easy; their difference is
    known far better than either. Zero outside the interval means that they differ.

    Args:
      first, second: `[n]` each, values of the same episodes in the same order.

    Raises:
      ValueError: If the two differ in shape.

    >>> paired_difference([0.9, 0.5, 0.7], [0.8, 0.4, 0.6]).half < 1e-12
    True
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.shape != second.shape:
        raise ValueError(
            f"paired values must be of the same episodes, got shapes {first.shape} and "
            f"{second.shape}; evaluate both with the same key and the same number of episodes"
        )
    _check.whole_number("the number of episodes", first.size, least=1)
    return interval(first - second)


def t_interval(values) -> tuple[float, float]:
    """Mean and half a 95 % interval by Student's t, for a handful of values; NaN for one."""
    from scipy import stats

    values = np.asarray(values)
    half = (
        stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        if len(values) > 1
        else np.nan
    )
    return values.mean(), half
