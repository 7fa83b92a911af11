"""A training problem that compiles in a second: lines through tasks' own points, and what runs of
it leave behind."""

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import optax

import jaxmeta as jm
from jaxmeta.training import fit, outer_adam


def draw(scale, key):
    """Lines y = a x: the arrays of the sampler come as its first argument."""
    numbers = jax.random.normal(
        key, (7,)
    )  # One call: random numbers are most of what there is to compile.
    slope, x = 1.0 + scale * numbers[0], numbers[1:]
    return jm.Task(jm.Examples(x[:3], slope * x[:3]), jm.Examples(x[3:], slope * x[3:]))


sample = jax.tree_util.Partial(draw, jnp.full((), 0.3))


def learner(rate=0.1, steps=2):
    def loss(key, phi, batch):
        error = phi["slope"] * batch.x + phi["offset"] - batch.y
        return (error**2).mean(), {"accuracy": (jnp.abs(error) < 0.3).mean(), "errors": error}

    def start(key, task):
        return {"slope": jnp.full((), 0.5), "offset": jnp.zeros(())}

    return jm.Learner(start, loss, jm.no_penalty, optax.sgd(rate), steps)


def train(folder, steps, sample=sample, algorithm=None, key=0, **more):
    settings = {
        "tasks": 4,
        "validation": sample if callable(sample) else None,
        "validate_every": 8,
        "episodes": 6,
        "log_every": 4,
        "folder": folder,
        **more,
    }
    algorithm = jm.maml(learner()) if algorithm is None else algorithm
    return fit(jax.random.key(key), algorithm, sample, outer_adam(1e-2, 1000), steps, **settings)


def lines(folder):
    """The records of metrics.jsonl without what depends on the clock."""
    records = [
        json.loads(line) for line in pathlib.Path(folder, "metrics.jsonl").read_text().splitlines()
    ]
    return [
        {
            name: value
            for name, value in record.items()
            if name not in ("seconds", "tasks_per_second")
        }
        for record in records
    ]


if (
    __name__ == "__main__"
):  # What the tests of signals start: a run that says after each call where it is.
    jax.config.update("jax_enable_x64", True)
    train(
        sys.argv[1],
        int(sys.argv[2]),
        key=3,
        steps_per_call=2,
        checkpoint_every=2,
        progress=lambda event: print(event.kind, event.step, flush=True),
    )
