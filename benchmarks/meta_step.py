"""How long one full second-order MAML step of Conv4 takes, beside the peers, in one interleaved
run.

    python -m benchmarks.meta_step --peer-python /path/to/peer/bin/python [--usual]
        [--settings N5K1T32 N5K5T8 N20K1T8]

Conv4 (64 filters, 28x28x1, batch statistics), one support and one query example a class, inner SGD
of rate 0.4, the gradient of the mean query cross entropy for the start. Every system gets the same
weights and data; losses and norms of the meta-gradient must agree. Ours are three outer steps in
one program, as `jm.fit` takes them. Rounds interleave the systems, so that a slow minute of the
machine hits all of them. Processor time is kept beside wall time: where other work shares the
cores, only processor time is telling (and pinned to one core, `taskset -c 0`, it does not count
threads that wait for one another).

The peers live in an environment of their own, since they need no jax and jax needs no torch:

    python -m venv peer && peer/bin/pip install torch higher torchopt

given by `--peer-python` or JAXMETA_PEER_PYTHON; without it only jaxmeta is measured. `--usual` adds
JAX as everyone writes it (vmap over tasks, lax.conv, reduce_window), in two rounds: it takes some
ten to twenty seconds a step.

Axis letters: `T` tasks, `N` ways, `K` inner steps.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

import jax

jax.config.update("jax_num_cpu_devices", 2)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import jaxmeta as jm  # noqa: E402
from benchmarks._record import compiled, environment, median_ratio, several, write  # noqa: E402
from jaxmeta.models import conv4  # noqa: E402

RATE, TOLERANCE = 0.4, 1e-3
OUTER, USUAL = 3, 2  # steps in one program, see `several`; rounds of JAX as everyone writes it
PEERS = "torch.func", "torch.autograd loop", "TorchOpt", "higher"


def problem(ways: int, tasks: int, seed: int):
    """Start and tasks: class means plus noise, so that there is something to adapt to, and no
    ties."""
    rng = np.random.default_rng(seed)
    means = rng.random((tasks, ways, 28, 28, 1)) ** 3
    images = [(means + 0.3 * rng.random(means.shape)).astype("float32") for _ in range(2)]
    labels = np.tile(np.arange(ways), (tasks, 1))
    params = conv4(ways).init(jax.random.key(seed), jnp.asarray(images[0][0]))
    return params, (images[0], labels, images[1], labels)


def our_step(ways, steps):
    """jaxmeta's step, as its users take it: tasks scanned within a device, sharded over the two
    devices."""
    learner = jm.gradient(conv4(ways), jm.cross_entropy, optax.sgd(RATE), steps)
    bilevel, estimator = jm.maml(learner, over=jm.over_tasks(mesh=jm.task_mesh()))

    def step(theta, tasks):
        xs, ys, xq, yq = tasks
        batch = jm.Task(jm.Examples(xs, ys), jm.Examples(xq, yq), jnp.zeros(len(xs), int))
        estimate, _ = estimator.estimate(jax.random.key(0), bilevel, theta, batch, ())
        return estimate.loss, estimate.grad

    return step


def task_value_and_grad(apply, steps):
    """One task: the query loss after K inner steps, and its gradient for the start."""

    def loss(params, x, y):
        return optax.losses.softmax_cross_entropy_with_integer_labels(apply(params, x), y).mean()

    def outer(theta, xs, ys, xq, yq):
        def step(phi, _):
            return jax.tree.map(lambda p, g: p - RATE * g, phi, jax.grad(loss)(phi, xs, ys)), None

        phi, _ = jax.lax.scan(step, theta, length=steps) if steps > 1 else step(theta, None)
        return loss(phi, xq, yq)

    return jax.value_and_grad(outer)


def usual_step(ways, steps):
    """JAX as everyone writes it."""

    def apply(params, x):
        body = params["body"]
        for index in range(1, 5):
            x = jax.lax.conv_general_dilated(
                x,
                body[f"conv{index}"]["kernel"],
                (1, 1),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            x = jax.nn.standardize(x, (0, 1, 2), epsilon=1e-5)
            x = jax.nn.relu(x * body[f"norm{index}"]["scale"] + body[f"norm{index}"]["offset"])
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        return x.reshape(x.shape[0], -1) @ params["head"]["kernel"] + params["head"]["bias"]

    def step(theta, tasks):
        values, grads = jax.vmap(task_value_and_grad(apply, steps), (None, 0, 0, 0, 0))(
            theta, *tasks
        )
        return values.mean(), jax.tree.map(lambda g: g.mean(0), grads)

    return step


def jax_system(step, params, tasks, outer):
    """`outer` steps in one program as `() -> {ms of a step, loss, norm}`, and what its compilation
    told."""
    run_all, about = compiled(several(step, outer), params, jax.tree.map(jnp.asarray, tasks))

    def run():
        begin, begin_cpu = time.perf_counter(), time.process_time()
        _, losses, norms = run_all()
        elapsed, cpu = 1e3 * (time.perf_counter() - begin), 1e3 * (time.process_time() - begin_cpu)
        return {
            "ms": elapsed / outer,
            "cpu_ms": cpu / outer,
            "loss": float(losses[0]),
            "norm": float(norms[0]),
        }

    return run, about


class PeerWorker:
    """The peers' process; `ask` blocks until it has answered, so only one side computes at a
    time."""

    def __init__(self, python):
        script = pathlib.Path(__file__).with_name("_meta_step_peers.py")
        self.process = subprocess.Popen(
            [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(
            self.process.stdout.readline() or '{"error": "the peers\' process ended"}'
        )

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def write_problem(file, params, *data):
    """The weights by name and the support's and query's inputs and labels, as the peers read
    them."""
    paths = jax.tree_util.tree_leaves_with_path(params)
    arrays = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}
    arrays |= dict(zip(("xs", "ys", "xq", "yq"), data))
    np.savez(file, **{name: np.asarray(leaf) for name, leaf in arrays.items()})


def agreement(name, answer, ours):
    """What a system found beside its relative distance from ours, which must be small."""
    row = {}
    for what in ("loss", "norm"):
        gap = abs(answer[what] / ours[what] - 1)
        assert gap < TOLERANCE, (
            f"{name} and jaxmeta differ in the {what} by {gap:.1e}: {answer} {ours}"
        )
        row |= {what: answer[what], f"{what}_gap": gap}
    return row


def conclude(record, name, not_measured, worker):
    """Says who did not answer, writes the JSON and ends the peers' process."""
    for system, error in not_measured.items():
        print(f"  {system:26s} not measured: {error}")
    print(f"\nwrote {write(name, record)}")
    if worker:
        worker.close()


def measure(setting, worker, peers, rounds, usual, seed, folder):
    """All systems at one setting, interleaved."""
    ways, steps, tasks = map(int, re.fullmatch(r"N(\d+)K(\d+)T(\d+)", setting).groups())
    params, data = problem(ways, tasks, seed)
    run, about = jax_system(our_step(ways, steps), params, data, OUTER)
    systems, told = {"jaxmeta": run}, {"jaxmeta": about}
    if usual:
        systems["usual JAX"], told["usual JAX"] = jax_system(
            usual_step(ways, steps), params, data, 1
        )
    if worker:
        file = folder / f"{setting}.npz"
        write_problem(file, params, *data)
        for peer in peers:
            systems[peer] = lambda peer=peer: worker.ask(
                system=peer, file=str(file), steps=steps, rate=RATE
            )

    raw, errors = {}, {}
    for name, run in list(systems.items()):  # warm up, and see who answers
        first = run()
        if "error" in first:
            errors[name] = first["error"]
            del systems[name]
            continue
        ours = raw.get("jaxmeta", first)
        raw[name] = {"ms": [], "cpu_ms": [], **agreement(name, first, ours), **told.get(name, {})}
    for index in range(rounds):
        for name, run in systems.items():
            if name != "usual JAX" or index < USUAL:
                answer = run()
                for what in ("ms", "cpu_ms"):
                    raw[name][what].append(answer[what])
    for row in raw.values():
        row["median_ms"], row["median_cpu_ms"] = (
            statistics.median(row["ms"]),
            statistics.median(row["cpu_ms"]),
        )
        row["times_jaxmeta"] = median_ratio(row["ms"], raw["jaxmeta"]["ms"][: len(row["ms"])])
    return {"systems": raw, "not_measured": errors}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer-python", default=os.environ.get("JAXMETA_PEER_PYTHON"))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS)
    parser.add_argument("--settings", nargs="+", default=["N5K1T32"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--usual", action="store_true")
    parser.add_argument("--name", default="meta_step", help="the JSON's name in benchmarks/results")
    options = parser.parse_args()

    worker = PeerWorker(options.peer_python) if options.peer_python else None
    record = {
        "environment": environment("jax", "jaxlib", "flax", "optax"),
        "seed": options.seed,
        "settings": {},
    }
    if worker:
        record["environment"]["peers"] = worker.ask(system="versions")
    missing = {}
    with tempfile.TemporaryDirectory() as folder:
        for setting in options.settings:
            result = measure(
                setting,
                worker,
                options.peers,
                options.rounds,
                options.usual,
                options.seed,
                pathlib.Path(folder),
            )
            record["settings"][setting] = result
            print(
                f"\n{setting}: milliseconds a step (median of {options.rounds}), "
                "times jaxmeta [95 %], processor ms, MB"
            )
            for name, row in result["systems"].items():
                ratio = row.get("times_jaxmeta")
                shown = (
                    f"{ratio['ratio']:5.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]"
                    if ratio
                    else ""
                )
                memory = row.get("temporary_mb", float("nan"))
                print(
                    f"  {name:22s}{row['median_ms']:9.1f}  {shown:22s} {row['median_cpu_ms']:9.1f} "
                    f"{memory:7.1f}"
                )
            missing |= {
                f"{setting} {name}": error for name, error in result["not_measured"].items()
            }
    conclude(record, options.name, missing, worker)


if __name__ == "__main__":
    main()
