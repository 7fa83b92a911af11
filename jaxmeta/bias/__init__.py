"""WHAT is learned across tasks: biases, each an endomorphism of learners, and their composition."""

from jaxmeta._lazy import attach

TYPE_CHECKING = False

if TYPE_CHECKING:
    from jaxmeta.bias._comparison import comparison as comparison, in_context as in_context
    from jaxmeta.bias._compose import compose as compose, fixed as fixed
    from jaxmeta.bias._conditioned import (
        Generated as Generated,
        adaptive_rates as adaptive_rates,
        around_one as around_one,
        as_published as as_published,
        as_wide as as_wide,
        attenuated as attenuated,
        begun_at as begun_at,
    )
    from jaxmeta.bias._context import context as context
    from jaxmeta.bias._hierarchical import hierarchical as hierarchical
    from jaxmeta.bias._hyperparameters import hyperparameters as hyperparameters
    from jaxmeta.bias._latent import (
        drawn_code as drawn_code,
        latent as latent,
        mean_code as mean_code,
    )
    from jaxmeta.bias._link import Link as Link, free as free, positive as positive
    from jaxmeta.bias._momentum import Momentum as Momentum, momentum as momentum
    from jaxmeta.bias._penalty import proximal as proximal
    from jaxmeta.bias._pretrained import pretrained as pretrained
    from jaxmeta.bias._prototype_start import prototype_head as prototype_head
    from jaxmeta.bias._representation import representation as representation
    from jaxmeta.bias._routed import routed as routed
    from jaxmeta.bias._sees import (
        batch_by_step as batch_by_step,
        minibatches as minibatches,
        seen as seen,
    )
    from jaxmeta.bias._shared import (
        last_begun as last_begun,
        next_one as next_one,
        shared as shared,
    )
    from jaxmeta.bias._start import initialisation as initialisation
    from jaxmeta.bias._tied import tied as tied
    from jaxmeta.bias._update import (
        channel as channel,
        diagonal as diagonal,
        element as element,
        kronecker as kronecker,
        leaf as leaf,
        preconditioner as preconditioner,
        scalar as scalar,
        step_sizes as step_sizes,
    )
else:
    __getattr__, __dir__, __all__ = attach(__name__, __file__)
