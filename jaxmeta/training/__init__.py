"""The outer loop: `fit` and what it needs. Imports come after `estimator` and `evaluation`."""

from jaxmeta._lazy import attach

TYPE_CHECKING = False

if TYPE_CHECKING:
    from jaxmeta.training._checkpoint import (
        restore_theta as restore_theta,
        save_theta as save_theta,
    )
    from jaxmeta.training._faults import Interrupted as Interrupted, NonFinite as NonFinite
    from jaxmeta.training._loop import fit as fit
    from jaxmeta.training._optimiser import outer_adam as outer_adam, outer_muon as outer_muon
    from jaxmeta.training._progress import Event as Event, console as console, silent as silent
    from jaxmeta.training._state import (
        Best as Best,
        Fitted as Fitted,
        Metric as Metric,
        TrainState as TrainState,
        metric as metric,
    )
    from jaxmeta.training._step import initial_state as initial_state, outer_steps as outer_steps
else:
    __getattr__, __dir__, __all__ = attach(__name__, __file__)
