"""WHAT is learned across tasks: biases, each an endomorphism of learners, and their composition."""

from jaxmeta.bias._comparison import comparison, in_context
from jaxmeta.bias._compose import compose, fixed
from jaxmeta.bias._conditioned import (
    Generated,
    adaptive_rates,
    around_one,
    as_published,
    as_wide,
    attenuated,
    begun_at,
)
from jaxmeta.bias._context import context
from jaxmeta.bias._hierarchical import hierarchical
from jaxmeta.bias._hyperparameters import hyperparameters
from jaxmeta.bias._latent import drawn_code, latent, mean_code
from jaxmeta.bias._link import Link, free, positive
from jaxmeta.bias._momentum import momentum
from jaxmeta.bias._penalty import proximal
from jaxmeta.bias._pretrained import pretrained
from jaxmeta.bias._prototype_start import prototype_head
from jaxmeta.bias._representation import representation
from jaxmeta.bias._routed import routed
from jaxmeta.bias._sees import batch_by_step, minibatches, seen
from jaxmeta.bias._shared import last_begun, next_one, shared
from jaxmeta.bias._start import initialisation
from jaxmeta.bias._tied import tied
from jaxmeta.bias._update import (
    channel,
    diagonal,
    element,
    kronecker,
    leaf,
    preconditioner,
    scalar,
    step_sizes,
)

__all__ = [
    "Generated",
    "Link",
    "adaptive_rates",
    "around_one",
    "as_published",
    "as_wide",
    "attenuated",
    "batch_by_step",
    "begun_at",
    "channel",
    "comparison",
    "compose",
    "context",
    "diagonal",
    "drawn_code",
    "element",
    "fixed",
    "free",
    "hierarchical",
    "hyperparameters",
    "in_context",
    "initialisation",
    "kronecker",
    "last_begun",
    "latent",
    "leaf",
    "mean_code",
    "minibatches",
    "momentum",
    "next_one",
    "positive",
    "preconditioner",
    "pretrained",
    "prototype_head",
    "proximal",
    "representation",
    "routed",
    "scalar",
    "seen",
    "shared",
    "step_sizes",
    "tied",
]
