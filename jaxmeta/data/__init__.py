"""Data: from bytes to arrays, without jax.

`catalogue()` lists the sets, `load(name)` gives one as a `Dataset` of numpy arrays with classes,
groups and a split by class or by person, and `prepare(name)` builds it into the cache ahead of
time. `glyphs`, `digits` and `watch` need neither network nor files. `cut_windows` makes windows of
recordings of your own.
"""

from ._cache import cache_folder
from ._catalogue import Entry, catalogue, load, prepare
from ._dataset import Dataset, seeded_split
from ._folds import Fold, folds, group_split, meta_segments
from ._lake import OneShotRuns, one_shot_runs
from ._windows import Windows, cut_windows

__all__ = [
    "Dataset",
    "Entry",
    "Fold",
    "OneShotRuns",
    "Windows",
    "cache_folder",
    "catalogue",
    "cut_windows",
    "folds",
    "group_split",
    "load",
    "meta_segments",
    "one_shot_runs",
    "prepare",
    "seeded_split",
]
