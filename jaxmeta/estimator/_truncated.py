"""Through a window of the inner steps."""

from __future__ import annotations

import jax

from jaxmeta import _check
from jaxmeta.base import Bilevel, Estimator
from jaxmeta.estimator._estimate import beside, estimator
from jaxmeta.estimator._gradients import Gradient, linearising
from jaxmeta.estimator._remat import Plan, storing
from jaxmeta.estimator._windows import Carry, estimate_held, going_on, hold, window_of
from jaxmeta.parallel import Mapper, over_tasks


def truncated(
    window: int,
    carry: Carry = going_on,
    remat: Plan = storing,
    gradient: Gradient = linearising,
    over: Mapper | None = None,
    against: Estimator | None = None,
) -> Estimator:
    """Reverse mode through W = `window` inner steps: `d/d(theta) mean_t outer_t(Phi_theta^W(phi))`,
    phi held constant.

    `Phi_theta` is one inner step and phi where the window begins. What came before it counts as no
    function of theta, so that the estimate is biased towards what pays within W steps; memory is
    that of W steps. A window that begins a run is differentiated through the start too.

    Args:
      window: W.
      carry: Where windows begin. `going_on`: the inner run of each task goes on from one outer step
        to the next and begins anew once the learner's K steps are done, W dividing K; the tasks of
        an outer step are then those of the one before, their data new ones if need be. `afresh`:
        the whole run each time, its last W steps differentiated.
      remat: What of the window's steps is stored and what is computed again, as in `unrolled`.
      gradient: What the low level differentiates its objective with, as in `unrolled`; with
        `finite_difference(size)` and a window of 1 it is the approximation of DARTS.
      over: How tasks are mapped, from `over_tasks`.
      against: An `Estimator`, such as `unrolled()`, whose gradient this one is compared with; only
        reported, and its time and memory are paid. It sees the same theta, tasks and key: what is
        compared is the whole run from the start under the present theta with a window of a run that
        earlier thetas shaped.

    Returns:
      An `Estimator`. It carries a `Run` for each task, `[T, ...]`; `()` with `afresh`; a pair of
      its own and the other's state with `against`, where `info` has the scalars "cosine" and
      "relative_error" besides.

    Raises:
      ValueError: If the window is not a whole number of at least 1, does not divide K (with
        `afresh`: is more than K), or the number of tasks changes.

    References: Shaban et al., Truncated back-propagation for bilevel optimization, AISTATS 2019
    (`afresh`); Metz et al., Understanding and correcting pathologies in the training of learned
    optimizers, ICML 2019 (`going_on`); Wu et al., Understanding short-horizon bias in stochastic
    meta-optimization, ICLR 2018.
    """
    _check.whole_number("window", window, least=1)
    over = over_tasks() if over is None else over

    def init(key, bilevel: Bilevel, theta, tasks):
        def one(theta, key, task):
            return carry.init(key, bilevel.bias.shape(theta, task, bilevel.learner), task, window)

        return hold(over, one, key, theta, tasks)

    def estimate(key, bilevel: Bilevel, theta, tasks, state):
        def one(theta, batched):
            key, (task, held) = batched
            (loss, (aux, held)), grad = jax.value_and_grad(
                lambda theta: window_of(
                    key, bilevel, theta, task, carry, window, held, gradient, remat
                ),
                has_aux=True,
            )(theta)
            return grad, {"losses": loss, "aux": aux, "held": held}

        return estimate_held(over, one, key, theta, tasks, state)

    found = estimator(init, estimate)
    return found if against is None else beside(found, against)


def one_step(over: Mapper | None = None) -> Estimator:
    """Through one inner step: the approximation of DARTS, whose weights persist while the
    architecture is learned.

    `d/d(theta) outer(phi - rate d/d(phi) loss(phi, theta), theta)` at the weights phi reached so
    far. The step that is differentiated is also the one that is taken.

    Args:
      over: How tasks are mapped, from `over_tasks`.

    Returns:
      An `Estimator` that carries each task's weights; they begin anew after the learner's `steps`.

    Reference: Liu, Simonyan and Yang, DARTS: Differentiable architecture search, ICLR 2019.
    """
    return truncated(1, over=over)
