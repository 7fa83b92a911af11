"""Few-shot regression on the sinusoids of the MAML paper: MAML against pretraining on all tasks
together.

    python -m benchmarks.sinusoid

Network 40-40, inner gradient descent at 0.01 with one step, 25 tasks a meta-batch, Adam at 1e-3, 10
shots. The pretrained baseline is the same problem with zero inner steps: one net for all tasks. It
is fine-tuned at test time with the step size that serves it best on validation tasks, which MAML is
not given. Both are judged on the same test tasks.

Reference: Finn, Abbeel and Levine, Model-agnostic meta-learning, ICML 2017, section 5.1 and figure
3.
"""

from __future__ import annotations

import argparse

import jax
import optax

import jaxmeta as jm
from benchmarks._record import environment, write
from jaxmeta.evaluation import curve, evaluate, paired_difference

RATE, SHOTS, AFTER = 0.01, 10, (0, 1, 5, 10)
RATES = (0.001, 0.003, 0.01, 0.03, 0.1)


def learner(rate: float, steps: int) -> jm.Learner:
    return jm.gradient(jm.models.mlp((40, 40), 1), jm.squared_error, optax.sgd(rate), steps)


def run(seed: int, steps: int, episodes: int) -> dict:
    """Trains both and gives the mean squared errors of the query after several inner steps."""
    key_train, key_validation, key_test = jax.random.split(jax.random.key(seed), 3)
    train, test = jm.tasks.sinusoids(SHOTS, SHOTS), jm.tasks.sinusoids(SHOTS, 100)
    result, values = {"seed": seed}, {}
    for name, inner_steps in {"maml": 1, "pretrained": 0}.items():
        fitted = jm.fit(
            key_train, jm.maml(learner(RATE, inner_steps)), train, optax.adam(1e-3), steps, tasks=25
        )
        rate = RATE
        if not inner_steps:
            rate = min(
                RATES,
                key=lambda rate: (
                    evaluate(
                        key_validation,
                        jm.maml(learner(rate, 1)).bilevel,
                        fitted.theta,
                        test,
                        episodes,
                    )
                    .summary["loss"]
                    .mean
                ),
            )
        bilevel = jm.maml(learner(rate, 1)).bilevel
        measured = curve(key_test, bilevel, fitted.theta, test, episodes, max(AFTER))
        values[name] = measured.values["loss"]
        result[name] = {
            "inner rate at test": rate,
            "seconds": fitted.seconds,
            "compile seconds": fitted.compile_seconds,
            "mse after steps": {str(k): measured.summary["loss"][k]._asdict() for k in AFTER},
        }
    gap = paired_difference(values["pretrained"][:, 1], values["maml"][:, 1])
    return result | {"pretrained minus maml after one step": gap._asdict()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=70_000)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    runs = []
    for seed in range(given.seeds):
        runs.append(run(seed, given.steps, given.episodes))
        for name in ("maml", "pretrained"):
            errors = runs[-1][name]["mse after steps"]
            print(
                f"seed {seed} {name:11}"
                + "".join(
                    f"  {k} steps {errors[str(k)]['mean']:.3f} +- {errors[str(k)]['half']:.3f}"
                    for k in AFTER
                )
            )
    path = write(
        "sinusoid",
        {
            "settings": vars(given),
            "environment": environment("jax", "jaxlib", "optax"),
            "runs": runs,
        },
    )
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
