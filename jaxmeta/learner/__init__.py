"""HOW the low level learns: by gradient steps on a model, or by solving a head in closed form."""

from jaxmeta._lazy import attach

TYPE_CHECKING = False

if TYPE_CHECKING:
    from jaxmeta.learner._adam import adam as adam
    from jaxmeta.learner._class_weights import (
        cosine as cosine,
        dampened_sgd as dampened_sgd,
        linear as linear,
    )
    from jaxmeta.learner._crammer_singer import crammer_singer as crammer_singer
    from jaxmeta.learner._criteria import (
        cross_entropy as cross_entropy,
        squared_error as squared_error,
    )
    from jaxmeta.learner._gradient import gradient as gradient
    from jaxmeta.learner._local_matching import local_matching as local_matching
    from jaxmeta.learner._matching import matching as matching
    from jaxmeta.learner._prototypes import prototypes as prototypes
    from jaxmeta.learner._ridge import (
        mean_ridge as mean_ridge,
        ridge as ridge,
        ridge_regression as ridge_regression,
    )
    from jaxmeta.learner._support_vectors import support_vectors as support_vectors
else:
    __getattr__, __dir__, __all__ = attach(__name__, __file__)
