"""Task distributions: samplers `key -> Task`."""

from jaxmeta.tasks._augmented import augmented, warps
from jaxmeta.tasks._episodes import each_of, episodes, original, reflections, rotations, sessions
from jaxmeta.tasks._inductive import inductive
from jaxmeta.tasks._labelled import labelled
from jaxmeta.tasks._planted import planted, planted_examples, planted_means
from jaxmeta.tasks._pool import Pool, pool
from jaxmeta.tasks._quadratic import (
    Quadratic,
    quadratic_adapted,
    quadratic_learner,
    quadratic_meta_gradient,
    quadratics,
)
from jaxmeta.tasks._regression import sinusoids
from jaxmeta.tasks._stream import stream

__all__ = [
    "Pool",
    "Quadratic",
    "augmented",
    "each_of",
    "episodes",
    "inductive",
    "labelled",
    "original",
    "planted",
    "planted_examples",
    "planted_means",
    "pool",
    "quadratic_adapted",
    "quadratic_learner",
    "quadratic_meta_gradient",
    "quadratics",
    "reflections",
    "rotations",
    "sessions",
    "sinusoids",
    "stream",
    "warps",
]
