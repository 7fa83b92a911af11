"""How long one full second-order MAML step of a small net takes, beside the peers, in one
interleaved run.

    python -m benchmarks.small_step --peer-python /path/to/peer/bin/python [--rounds 7]

The sinusoids of the MAML paper: a net 1-40-40-1, 25 tasks of 10 support and 10 query examples, 5
inner steps of SGD of rate 0.01, the gradient of the mean squared error of the queries for the
start. Matrices are tiny here, so what is measured is how a system runs many small products.
Weights, data and rules are those of `meta_step.py`, whose peers' environment this takes too;
torch.compile needs a C++ compiler besides. Where it compiles, what a system takes before its first
step is told.

"jaxmeta" is `jm.maml(learner)` as it comes; the others take the tasks five at a time, whose
matrices the nearest cache holds. The steps of a round are one program, as `jm.fit` takes them.
Where other work shares the cores, pin the run to one (`taskset -c 0`): small products that wait for
threads on a busy core take a hundred times as long, with torch above all.
"""

from __future__ import annotations

import argparse
import functools
import os
import pathlib
import statistics
import tempfile

import jax
import optax

import jaxmeta as jm
from benchmarks._record import environment, interleaved, median_ratio
from benchmarks.meta_step import PeerWorker, agreement, conclude, jax_system, write_problem
from jaxmeta.estimator import unrolled

TASKS, SHOTS, STEPS, RATE, HIDDEN = 25, 10, 5, 0.01, (40, 40)
PEERS = "torch.compile", "torch.func", "TorchOpt", "higher"
SLOW = {"TorchOpt", "higher"}  # a loop over tasks: one step a round
FIVE = jm.over_tasks(chunk=5)
OURS = {
    "jaxmeta": unrolled(),
    "jaxmeta, 5 tasks at a time": unrolled(over=FIVE),
    "jaxmeta, 5 tasks, jax.grad": unrolled(gradient=jax.grad, over=FIVE),
}


def problem(seed: int):
    """Bilevel problem, start and tasks. The start is half of what is drawn: from the whole of it,
    learning diverges on some tasks at this rate, and what diverges agrees with nothing."""
    key_theta, key_tasks = jax.random.split(jax.random.key(seed))
    learner = jm.gradient(jm.models.mlp(HIDDEN, 1), jm.squared_error, optax.sgd(RATE), STEPS)
    tasks = jax.vmap(jm.tasks.sinusoids(SHOTS, SHOTS))(jax.random.split(key_tasks, TASKS))
    theta = learner.start(key_theta, jax.tree.map(lambda leaf: leaf[0], tasks))
    return jm.maml(learner).bilevel, optax.tree.scale(0.5, theta), tasks


def our_system(estimator, bilevel, theta, tasks, steps):
    """`steps` steps in one program as `repeats -> {loss, norm}` (repeats being `steps`), and what
    its compilation told."""

    def step(theta, tasks):
        estimate, _ = estimator.estimate(jax.random.key(0), bilevel, theta, tasks, ())
        return estimate.loss, estimate.grad

    run, about = jax_system(step, theta, tasks, steps)
    return lambda repeats: run(), about


def peer_system(worker, peer, file):
    """A peer's step as `repeats -> {loss, norm}`; its first call is what a user waits for."""
    system = lambda repeats: worker.ask(
        system=peer, file=str(file), steps=STEPS, rate=RATE, repeats=repeats
    )
    first = system(1)
    return system, first if "error" in first else {"compile_s": first["ms"] / 1e3}


def measure(worker, rounds: int, steps: int, seed: int, file) -> dict:
    """All systems, interleaved: `steps` steps of each a round."""
    bilevel, theta, tasks = problem(seed)
    write_problem(file, theta, tasks.support.x, tasks.support.y, tasks.query.x, tasks.query.y)
    made = {
        name: our_system(estimator, bilevel, theta, tasks, steps)
        for name, estimator in OURS.items()
    }
    made |= {peer: peer_system(worker, peer, file) for peer in PEERS if worker}
    errors = {name: about["error"] for name, (_, about) in made.items() if "error" in about}
    rows, runs, repeats = {}, {}, {}
    for name, (system, about) in made.items():
        if name in errors:
            continue
        repeats[name] = 1 if name in SLOW else steps
        runs[name] = functools.partial(system, repeats[name])
        answer = runs[name]()
        rows[name] = agreement(name, answer, rows.get("jaxmeta", answer)) | about
    for name, times in interleaved(runs, rounds).items():
        rows[name]["ms"] = [time / repeats[name] for time in times]
    for row in rows.values():
        row["median_ms"] = statistics.median(row["ms"])
        row["times_jaxmeta"] = median_ratio(row["ms"], rows["jaxmeta"]["ms"])
    return {"systems": rows, "not_measured": errors}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", default=os.environ.get("JAXMETA_PEER_PYTHON"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20, help="steps of a system in a round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--name", default="small_step", help="the JSON's name in benchmarks/results"
    )
    options = parser.parse_args()

    worker = PeerWorker(options.peer_python) if options.peer_python else None
    record = {"environment": environment("jax", "jaxlib", "flax", "optax"), "seed": options.seed}
    if worker:
        record["environment"]["peers"] = worker.ask(system="versions")
    with tempfile.TemporaryDirectory() as folder:
        record |= measure(
            worker,
            options.rounds,
            options.steps,
            options.seed,
            pathlib.Path(folder) / "problem.npz",
        )
    print(
        f"milliseconds a step (median of {options.rounds} rounds), times jaxmeta [95 %], seconds "
        "before the first step"
    )
    for name, row in record["systems"].items():
        ratio = row["times_jaxmeta"]
        shown = f"{ratio['ratio']:6.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
        print(f"  {name:22s}{row['median_ms']:9.2f}  {shown:24s}{row['compile_s']:7.1f}")
    conclude(record, options.name, record["not_measured"], worker)


if __name__ == "__main__":
    main()
