"""How the low level's gradient is taken, and so how it is differentiated in turn: replacements for `jax.grad`."""

from __future__ import annotations

import jax


def constant(objective, has_aux: bool = False):
    """The gradient held constant: its derivative is zero, which leaves the Hessians out."""

    def gradient(phi):
        result = jax.grad(objective, has_aux=has_aux)(jax.lax.stop_gradient(phi))
        return (jax.lax.stop_gradient(result[0]), result[1]) if has_aux else jax.lax.stop_gradient(result)

    return gradient
