"""WHAT is learned across tasks: biases, each an endomorphism of learners, and their composition."""

from jaxmeta.bias._compose import compose, fixed
from jaxmeta.bias._context import context
from jaxmeta.bias._hierarchical import hierarchical
from jaxmeta.bias._hyperparameters import hyperparameters
from jaxmeta.bias._link import Link, free, positive
from jaxmeta.bias._momentum import momentum
from jaxmeta.bias._penalty import proximal
from jaxmeta.bias._representation import representation
from jaxmeta.bias._shared import shared
from jaxmeta.bias._start import initialisation
from jaxmeta.bias._update import diagonal, element, kronecker, leaf, preconditioner, scalar, step_sizes

__all__ = [
    "Link", "compose", "context", "diagonal", "element", "fixed", "free", "hierarchical", "hyperparameters", "initialisation",
    "kronecker", "leaf", "momentum", "positive", "preconditioner", "proximal", "representation", "scalar", "shared",
    "step_sizes",
]
