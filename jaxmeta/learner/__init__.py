"""HOW the low level learns: by gradient steps on a model, or by solving a head in closed form."""

from jaxmeta.learner._adam import adam
from jaxmeta.learner._class_weights import cosine, dampened_sgd, linear
from jaxmeta.learner._crammer_singer import crammer_singer
from jaxmeta.learner._criteria import cross_entropy, squared_error
from jaxmeta.learner._gradient import gradient
from jaxmeta.learner._local_matching import local_matching
from jaxmeta.learner._matching import matching
from jaxmeta.learner._prototypes import prototypes
from jaxmeta.learner._ridge import mean_ridge, ridge, ridge_regression
from jaxmeta.learner._support_vectors import support_vectors

__all__ = [
    "adam",
    "cosine",
    "crammer_singer",
    "cross_entropy",
    "dampened_sgd",
    "gradient",
    "linear",
    "local_matching",
    "matching",
    "mean_ridge",
    "prototypes",
    "ridge",
    "ridge_regression",
    "squared_error",
    "support_vectors",
]
