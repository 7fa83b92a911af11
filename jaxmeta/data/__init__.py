"""Data: from bytes to arrays, without jax.

`catalogue()` lists the sets, `load(name)` gives one as a `Dataset` of numpy arrays with classes,
groups and a split by class or by person, and `prepare(name)` builds it into the cache ahead of
time. `glyphs`, `digits` and `watch` need neither network nor files. `cut_windows` makes windows of
recordings of your own.
"""

from jaxmeta._lazy import attach

TYPE_CHECKING = False

if TYPE_CHECKING:
    from jaxmeta.data._cache import cache_folder as cache_folder
    from jaxmeta.data._catalogue import (
        Entry as Entry,
        catalogue as catalogue,
        load as load,
        prepare as prepare,
    )
    from jaxmeta.data._dataset import Dataset as Dataset, seeded_split as seeded_split
    from jaxmeta.data._folds import (
        Fold as Fold,
        folds as folds,
        group_split as group_split,
        meta_segments as meta_segments,
    )
    from jaxmeta.data._lake import OneShotRuns as OneShotRuns, one_shot_runs as one_shot_runs
    from jaxmeta.data._windows import Windows as Windows, cut_windows as cut_windows
else:
    __getattr__, __dir__, __all__ = attach(__name__, __file__)
