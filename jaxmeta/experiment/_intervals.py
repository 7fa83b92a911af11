"""The interval of a handful of runs."""

from __future__ import annotations

import numpy as np


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
