"""Task distributions: samplers `key -> Task`."""

from jaxmeta._lazy import attach

TYPE_CHECKING = False

if TYPE_CHECKING:
    from jaxmeta.tasks._augmented import augmented as augmented, warps as warps
    from jaxmeta.tasks._episodes import (
        episodes as episodes,
        sessions as sessions,
        to_float as to_float,
    )
    from jaxmeta.tasks._inductive import inductive as inductive
    from jaxmeta.tasks._labelled import labelled as labelled
    from jaxmeta.tasks._planted import (
        planted as planted,
        planted_examples as planted_examples,
        planted_means as planted_means,
    )
    from jaxmeta.tasks._pool import Pool as Pool, pool as pool
    from jaxmeta.tasks._quadratic import (
        Quadratic as Quadratic,
        quadratic_adapted as quadratic_adapted,
        quadratic_learner as quadratic_learner,
        quadratic_meta_gradient as quadratic_meta_gradient,
        quadratics as quadratics,
    )
    from jaxmeta.tasks._regression import sinusoids as sinusoids
    from jaxmeta.tasks._stream import stream as stream
    from jaxmeta.tasks._variants import (
        Variants as Variants,
        each_of as each_of,
        original as original,
        reflections as reflections,
        rotations as rotations,
    )
else:
    __getattr__, __dir__, __all__ = attach(__name__, __file__)
