"""Episodes from data that does not fit on the device."""

from __future__ import annotations

import jax
import numpy as np

from jaxmeta import _check
from jaxmeta.tasks._episodes import drawer, task_of
from jaxmeta.tasks._pool import index
from jaxmeta.tasks._variants import Variants, original


def stream(
    source,
    labels,
    ways: int,
    shots: int,
    queries: int,
    tasks: int,
    groups=None,
    variants: Variants = original,
    seed: int = 0,
    bouts=None,
):
    """Batches of episodes read from a random-access source by grain, the same as `episodes` draws
    from the same keys.

    Episode i is drawn with `jax.random.fold_in(jax.random.key(seed), i)`; batch j holds episodes jT
    to (j + 1)T - 1.

    Args:
      source: Anything with `len(source)` and `source[i] -> input array`, such as a grain or tfds
        data source.
      labels: `[n]` integers, the class of each record.
      ways, shots, queries: As in `episodes`.
      tasks: T, episodes in a batch.
      groups: As in `pool`.
      variants: As in `episodes`.
      seed: Of all draws.
      bouts: As in `pool`.

    Returns:
      An endless `grain.IterDataset` of `Task`s with a leading axis T, as numpy arrays; its
      iterators save and restore their place.

    Raises:
      ValueError: As `episodes`, or if source and labels differ in length.
    """
    import grain

    _check.whole_number("tasks", tasks, least=1)
    if len(source) != len(labels):
        raise ValueError(
            f"source and labels must have one entry an example, got {len(source)} and {len(labels)}"
        )
    draw = jax.jit(drawer(index(labels, groups, bouts), ways, shots, queries, variants))
    make = jax.jit(lambda inputs, drawn: task_of(inputs, drawn, shots, variants))
    root = jax.random.key(seed)

    def episode(number):
        drawn = draw(jax.random.fold_in(root, number))
        inputs = np.stack([source[place] for place in np.asarray(drawn.members).ravel().tolist()])
        return jax.tree.map(
            np.asarray, make(inputs.reshape(*drawn.members.shape, *inputs.shape[1:]), drawn)
        )

    endless = grain.MapDataset.range(2**31 - 1).map(episode)
    return endless.batch(tasks).to_iter_dataset()
