"""HOW the low level learns: by gradient steps on a model, or by solving a head in closed form."""

from jaxmeta.learner._closed_form import prototypes, ridge
from jaxmeta.learner._criteria import cross_entropy, squared_error
from jaxmeta.learner._gradient import gradient

__all__ = ["cross_entropy", "gradient", "prototypes", "ridge", "squared_error"]
