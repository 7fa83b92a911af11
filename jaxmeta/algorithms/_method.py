"""What every named method is wrapped in."""

from __future__ import annotations

from jaxmeta import _check

method = _check.takes(
    {
        "learner": _check.learner,
        **dict.fromkeys(("encoder", "comparator", "reader", "relation"), _check.model),
    },
    **dict.fromkeys(
        ("lr", "rate", "learning_rate", "inner_lr", "inner_rate", "inner_steps", "steps"),
        "it is the learner's: jaxmeta.gradient(model, loss, optax.sgd(0.01), steps=5)",
    ),
)
