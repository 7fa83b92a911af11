"""Adam for inner loops: one that can be differentiated where a gradient is zero."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from jaxmeta import _check


def adam(
    rate, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformation:
    r"""Adam with a derivative everywhere: `optax.adam`, number for number, but where all gradients
    so far are exactly zero.

    $$ u_k = -\eta\, \frac{\hat m_k}{\sqrt{\hat v_k} + \epsilon}, \qquad
       \hat m_k = \frac{1 - \beta_1}{1 - \beta_1^k} \sum_{i \le k} \beta_1^{k - i} g_i, \quad
       \hat v_k = \frac{1 - \beta_2}{1 - \beta_2^k} \sum_{i \le k} \beta_2^{k - i} g_i^2. $$

    At $g_1 = \dots = g_k = 0$, as of dead units and of the second factor of a low-rank pair that
    begins at zero, the root alone has no derivative. The quotient has one, as $\hat m$ is zero
    there, and this Adam says what it is; second derivatives, which jump there from one sign to the
    other, are their mean:

    $$ \frac{\partial u_k}{\partial g_i} = -\frac{\eta}{\epsilon} \frac{1 - \beta_1}{1
       - \beta_1^k} \beta_1^{k - i}, \qquad
       \frac{\partial^2 u_k}{\partial g_i\, \partial g_j} = 0. $$

    It is as steep as eta / epsilon. An epsilon near the size of the gradients makes for gentler
    meta-gradients.

    Args:
      rate: eta, in phi's unit; a number or a schedule.
      b1: beta_1, from 0 to below 1.
      b2: beta_2, from 0 to below 1.
      eps: epsilon, in the gradient's unit, above 0.

    Returns:
      An optax transformation with the state of `optax.scale_by_adam`.

    Raises:
      ValueError: If eps is not above 0.

    >>> import jax, jaxmeta as jm
    >>> update = jm.adam(0.1, eps=0.5)
    >>> step = lambda gradient: update.update(gradient, update.init(0.0))[0]
    >>> float(step(0.0)), round(float(jax.grad(step)(0.0)), 6)
    (-0.0, -0.2)

    Reference: Kingma and Ba, Adam: a method for stochastic optimization, ICLR 2015.
    """
    _check.number("eps", eps, above=0)

    def init(phi):
        zeros = optax.tree.zeros_like(phi)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(grads, state, phi=None):
        count = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(grads, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(grads, state.nu, b2, 2)
        mean, square = (
            optax.tree.bias_correction(mu, b1, count),
            optax.tree.bias_correction(nu, b2, count),
        )
        moved = jax.tree.map(lambda m, v: m / (_root(v) + eps), mean, square)
        return moved, optax.ScaleByAdamState(count, mu, optax.tree.cast_like(nu, state.nu))

    return optax.chain(
        optax.GradientTransformation(init, update), optax.scale_by_learning_rate(rate)
    )


def _root(v):
    """The square root, with the derivative 0 at 0; the first `where` keeps the root's own, infinite
    one out of products."""
    return jnp.where(v == 0, 0, jnp.sqrt(jnp.where(v == 0, 1, v)))
