"""What the affinities cost: those of the paper on HAPT, beside one transfer after another, and 964
concepts in flat memory.

    JAXMETA_DATA=... python -m benchmarks.affinity [--rounds 3] [--every 5] [--whole]
        [--only spectra windows]

12 concepts (6 activities, 6 transitions), 12 encoders, 12 x 12 transfers and 12 from scratch at 4
budgets, people held out. Two encoders: on windows (768-128-32) and on spectra (72-32-8: mean and
log power in 11 bands of each channel). 'vmapped' is `jaxmeta.hierarchy`'s program, on two devices
sharded; 'loop' calls the program of one transfer, compiled once, from Python, transfer after
transfer; 'steps' calls a jitted update from Python, step after step, as training loops are written.
Ratios are of every n-th run (`--every`), all systems in turns; `--whole` takes the loop over all of
them once. Wall and processor seconds; 'floor' is what the updates' matrix products would take of a
processor at the rate of one large product, and nothing else. `--only` renews parts of the record,
each of which says when and under what load it was taken.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxmeta as jm
from benchmarks._record import environment, median_ratio, read, write
from jaxmeta.base import Examples
from jaxmeta.hierarchy import (
    _autoencoder,
    _class_data,
    _confusion,
    _embedding,
    _lookahead,
    _performance,
    _task2vec,
    _transfer,
    _transfer_runs,
    _transferability,
)
from jaxmeta.parallel import divisor, over_tasks, task_mesh

BUDGETS = (100, 200, 300, 400)
EDGES = (0, 1, 2, 3, 4, 6, 8, 11, 16, 24, 36, 64)


def spectra(x):
    """`[n, 72]`: of each channel the mean and the log power in 11 bands up to 25 Hz, of windows
    `[n, 128, 6]`."""
    power = abs(np.fft.rfft(x - x.mean(1, keepdims=True), axis=1))[:, 1:] ** 2
    bands = [np.log(power[:, low:high].mean(1) + 1e-3) for low, high in itertools.pairwise(EDGES)]
    return np.stack([x.mean(1), *bands], 1).reshape(len(x), -1)


def hapt(features):
    """Train and test people's examples, scaled by the former's mean and deviation of each feature
    (channel, of windows)."""
    data = jm.data.load("hapt_transitions")
    parts = [data.split(which) for which in ("train", "test")]
    x = [features(part.inputs) for part in parts]
    axes = tuple(range(x[0].ndim - 1))
    centre, scale = x[0].mean(axes, keepdims=True), x[0].std(axes, keepdims=True)
    return [
        Examples(((one - centre) / scale).astype(np.float32), part.labels)
        for one, part in zip(x, parts)
    ]


def clocked(run):
    """`(result, wall seconds, processor seconds)`."""
    wall, used = time.perf_counter(), time.process_time()
    result = jax.block_until_ready(run())
    return result, time.perf_counter() - wall, time.process_time() - used


def step_by_step(starts, data, runs, models, training):
    """Every run as a Python loop over a jitted update, on the examples that the program draws."""

    @jax.jit
    def update(params, state, x):
        def loss(params):
            code = models.encoder.apply(params["encoder"], x)
            return (
                (models.decoder.apply(params["decoder"], code) - x.reshape(len(x), -1)) ** 2
            ).mean()

        updates, state = training.optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    code = jax.eval_shape(
        models.encoder.apply, jax.tree.map(lambda leaf: leaf[0], starts), data.x[0, :1]
    )
    begin = jax.jit(lambda key: models.decoder.init(key, jnp.zeros(code.shape)))
    opening = jax.jit(training.optimiser.init)
    x = np.asarray(data.x)

    def run():
        for start, target, budget, key in zip(*(np.asarray(runs[i]) for i in range(3)), runs.key):
            params = {
                "encoder": jax.tree.map(lambda leaf: leaf[start], starts),
                "decoder": begin(key),
            }
            state, limit = opening(params), min(budget, data.counts[target[0]])
            draws = np.random.default_rng(0).integers(
                0, limit, (training.transfer_steps, training.batch)
            )
            for rows in draws:
                params, state = update(params, state, x[target[0], rows])
        return params

    return run


def transfers(features, hidden, code, options):
    """The figures of one encoder."""
    train, test = hapt(features)
    models, training = (
        _autoencoder.dense_autoencoder(int(np.prod(train.x.shape[1:])), hidden, code),
        _transfer.Training(),
    )
    data, held = (jax.tree.map(jnp.asarray, _class_data.by_class(part)) for part in (train, test))
    starts = _transfer_runs.fresh(models, jax.random.split(jax.random.key(0), 12), data)
    size, mesh = _transfer_runs.chunk(starts, data, held, training), task_mesh()
    record = {
        "examples": np.asarray(data.counts).tolist(),
        "held out": np.asarray(held.counts).tolist(),
        "chunk": size,
        "training": {
            "steps": training.steps,
            "transfer_steps": training.transfer_steps,
            "batch": training.batch,
        },
    }

    for name in (
        "first call",
        "second call",
    ):  # encoders, transfers, scratch, compilation in the first
        moved, wall, used = clocked(
            lambda: _transfer.transfers(jax.random.key(0), train, test, BUDGETS, models, training)
        )
        record[name] = {"wall_s": wall, "processor_s": used}
        print(hidden, name, record[name], flush=True)
    record["loss of the encoders, first and last ten steps"] = (
        np.asarray([moved.curves[:, :10].mean(1), moved.curves[:, -10:].mean(1)]).round(3).tolist()
    )
    record["held out"] = {
        "own": np.asarray(moved.own).round(3).tolist(),
        "variance": moved.variance.round(3).tolist(),
        "scratch": np.asarray(moved.scratch).round(3).tolist(),
    }
    record["affinity at 100"] = _performance.scored(moved, beta=0.0)[0].round(3).tolist()

    both = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), starts)
    runs, _ = _transfer_runs.all_runs(
        jax.random.key(0), np.asarray(data.counts), BUDGETS, [[c] for c in range(12)]
    )
    total = len(runs.start)
    part = jax.tree.map(lambda leaf: leaf[:: options.every], runs)
    record["runs"], record["timed"] = total, len(part.start)

    def program(runs, mapper):
        lowered = _transfer_runs.learn.lower(
            both, data, held, runs, models, training, training.transfer_steps, mapper, False
        )
        return lowered.compile()

    one, single = jax.tree.map(lambda leaf: leaf[:1], runs), over_tasks(1)
    alone = program(one, single)
    singly = [jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], part) for i in range(len(part.start))]
    all_at_once = program(part, over_tasks(size))
    sharded = len(part.start) % 2 == 0 and program(part, over_tasks(size, mesh))
    systems = {
        "vmapped": lambda: all_at_once(both, data, held, part)["loss"],
        "loop": lambda: [jax.block_until_ready(alone(both, data, held, run)) for run in singly],
        "steps": step_by_step(both, data, part, models, training),
    }
    if sharded:
        placed = jax.device_put((both, data, held, part), sharded.input_shardings[0])
        systems["vmapped, two devices"] = lambda: sharded(*placed)["loss"]
    times = {name: [] for name in systems}
    for run in systems.values():
        run()
    for _ in range(options.rounds):
        for name, run in systems.items():
            times[name].append(clocked(run)[1:])
    record["seconds"] = {
        name: dict(zip(("wall", "processor"), zip(*each))) for name, each in times.items()
    }
    record["ratio"] = {
        f"{slow} / {fast}": {
            kind: median_ratio(*([t[i] for t in times[name]] for name in (slow, fast)))
            for i, kind in enumerate(("wall", "processor"))
        }
        for slow in ("loop", "steps")
        for fast in systems
        if fast.startswith("vmapped")
    }
    record["chunk used"] = {
        "one device": divisor(len(part.start), size),
        "two": divisor(len(part.start) // 2, size),
    }
    record["floor"] = floor(
        starts, int(np.prod(data.x.shape[2:])) * hidden, training, len(part.start)
    )
    if options.whole:
        every = [jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], runs) for i in range(total)]
        record["whole loop, once"] = clocked(
            lambda: [jax.block_until_ready(alone(both, data, held, run)) for run in every]
        )[1:]
    for name, ratio in record["ratio"].items():
        print(
            hidden,
            name,
            {kind: round(value["ratio"], 2) for kind, value in ratio.items()},
            flush=True,
        )
    return record


def floor(starts, first, training, runs):
    """Processor seconds that the products of the updates need at the rate of a product of two
    matrices of 2048 rows, the first layer's without a derivative in x, and what an update has of
    them in units of 1e6 operations."""
    sizes = [leaf.shape[1] * leaf.shape[2] for leaf in jax.tree.leaves(starts) if leaf.ndim == 3]
    operations = 2 * training.batch * (6 * sum(sizes) - first)
    square = jax.random.normal(jax.random.key(0), (2048, 2048))
    multiply = jax.jit(lambda a: a @ a)
    clocked(lambda: multiply(square))
    rate = 2 * 2048**3 / min(clocked(lambda: multiply(square))[2] for _ in range(5))
    return {
        "update_mflop": operations / 1e6,
        "gflop_a_processor_second": rate / 1e9,
        "processor_s": runs * training.transfer_steps * operations / rate,
    }


def others():
    """Every other affinity on the spectra of HAPT's training people: seconds of the first call."""
    train, test = hapt(spectra)
    body = jm.models.mlp((32,), None)
    scores, *spent = clocked(lambda: _confusion.held_out_scores(jax.random.key(0), train))
    codes = np.stack(
        [np.maximum(train.x @ np.random.default_rng(c).normal(size=(72, 16)), 0) for c in range(12)]
    )
    affinity = _transferability.transferability_affinity
    calls = {
        "lookahead": lambda: _lookahead.lookahead_affinity(jax.random.key(0), train, body),
        "task2vec": lambda: _task2vec.task2vec_affinity(jax.random.key(0), train, body),
        "leep": lambda: affinity(
            jax.random.key(0), _transferability.leep, _transferability.one_vs_rest(scores), train.y
        ),
        "nce": lambda: affinity(
            jax.random.key(0), _transferability.nce, (scores.T > 0.5).astype(int), train.y
        ),
        "h score, random codes": lambda: affinity(
            jax.random.key(0), _transferability.h_score, codes, train.y
        ),
        "log me, random codes": lambda: affinity(
            jax.random.key(0), _transferability.log_me, codes, train.y
        ),
        "confusion, predictions given": lambda: _confusion.confusion_affinity(
            jax.random.key(0), train, scores.argmax(1)
        ),
        "means": lambda: _embedding.embedding_affinity(
            jax.random.key(0), _embedding.class_means(train)
        ),
        "mahalanobis": lambda: _embedding.embedding_affinity(
            jax.random.key(0), _embedding.class_means(train, _embedding.whitened)
        ),
        "linear transfer": lambda: _embedding.linear_transfer_affinity(
            jax.random.key(0), train, test, 8
        ),
    }
    record = {"cross-fitted ridge": spent}
    for name, run in calls.items():
        record[name] = clocked(run)[1:]
        print(name, [round(t, 2) for t in record[name]], flush=True)
    return record


def many(concepts=964, shots=20, features=64):
    """Embeddings of as many concepts as Omniglot's background has characters: seconds and bytes, by
    concepts."""
    rng, record = np.random.default_rng(0), {}
    for size in (concepts // 4, concepts // 2, concepts):
        x = rng.normal(size=(size, shots, features)).astype(np.float32)
        train, held = (
            _class_data.ByClass(x[:, :15], np.full(size, 15)),
            _class_data.ByClass(x[:, 15:], np.full(size, 5)),
        )
        programs = {
            "distances": _embedding._distances.lower(x.mean(1)).compile(),
            "linear transfer": _embedding.linear_transfers.lower(train, held, 8, 1e-3).compile(),
        }
        for name, program in programs.items():
            args = (x.mean(1),) if name == "distances" else (train, held, 1e-3)
            memory = program.memory_analysis()
            record[f"{name}, {size}"] = {
                "wall_s": clocked(lambda: program(*args))[1],
                "temporary_mb": memory.temp_size_in_bytes / 1e6,
                "output_mb": memory.output_size_in_bytes / 1e6,
                "input_mb": memory.argument_size_in_bytes / 1e6,
            }
            print(name, size, record[f"{name}, {size}"], flush=True)
    return record


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--whole", action="store_true")
    parts = {
        "964 concepts": lambda options: many(),
        "others on HAPT": lambda options: others(),
        "spectra": functools.partial(transfers, spectra, 32, 8),
        "windows": functools.partial(transfers, lambda x: x, 128, 32),
    }
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts))
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", 2)
    record = read("affinity")
    for name in options.only:
        about = environment("jax", "jaxlib", "optax", "scikit-learn")
        record[name] = {
            "environment": about,
            **parts[name](options),
            "load at the end": environment()["load"],
        }
        print(f"wrote {write('affinity', record | {'budgets': BUDGETS})}", flush=True)


if __name__ == "__main__":
    main()
