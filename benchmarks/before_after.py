"""What a change costs: the same steps by two versions of jaxmeta, in one interleaved run.

    python -m benchmarks.before_after a3cc0c1 [--rounds 15] [--only meta_step small_step long_runs]

Each version, the given commit and the working tree, has a process of its own that makes the
problems of `meta_step`, `small_step` and `long_runs` as that version's benchmarks have them,
compiles them and waits; they run in turns, so that a slow minute of the machine hits both. Ratios
are after to before, of medians with 95 % intervals over rounds, of wall time and of processor time.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
LONG = (
    "linearised, all stored",
    "linearised, parameters rebuilt",
    "mixed, all stored",
    "mixed, each step recomputed",
)


def meta_step() -> dict:
    from benchmarks.meta_step import OUTER, jax_system, our_step, problem

    def system(ways, steps, tasks):
        return jax_system(our_step(ways, steps), *problem(ways, tasks, 0), OUTER)[0]

    return {
        f"Conv4, {ways} ways, K = {steps}, {tasks} tasks": functools.partial(
            system, ways, steps, tasks
        )
        for ways, steps, tasks in ((5, 1, 32), (5, 5, 8), (20, 1, 8))
    }


def small_step() -> dict:
    from benchmarks.small_step import OURS, our_system, problem

    def system(estimator):
        run, _ = our_system(estimator, *problem(0), 100)
        return lambda: run(100)

    return {
        f"sinusoids, {name}": functools.partial(system, estimator)
        for name, estimator in OURS.items()
    }


def long_runs() -> dict:
    from benchmarks._record import compiled, several
    from benchmarks.long_runs import SYSTEMS, meta, problem

    def system(estimator):
        bilevel, theta, tasks = problem(16, 0)
        return compiled(several(meta(estimator, bilevel), 4), theta, tasks)[0]

    return {f"MLP, K = 16, {name}": functools.partial(system, SYSTEMS[name]) for name in LONG}


BENCHMARKS = {"meta_step": meta_step, "small_step": small_step, "long_runs": long_runs}


def serve():
    """A version's process: told the names of its steps to make or to run, it answers with the
    times, a line each."""
    runs = {}
    for line in sys.stdin:
        benchmark, name = json.loads(line)
        if name is None:
            answer = list(BENCHMARKS[benchmark]())
        elif (benchmark, name) not in runs:
            runs[benchmark, name] = BENCHMARKS[benchmark]()[name]()
            runs[benchmark, name]()  # its pages are new to it
            answer = None
        else:
            begin, begin_cpu = time.perf_counter(), time.process_time()
            runs[benchmark, name]()
            answer = [1e3 * (time.perf_counter() - begin), 1e3 * (time.process_time() - begin_cpu)]
        print(json.dumps(answer), flush=True)


class Version:
    """The process of one checkout."""

    def __init__(self, checkout):
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(checkout)},
            cwd=checkout,
        )

    def ask(self, benchmark, name=None):
        self.process.stdin.write(json.dumps([benchmark, name]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(before: Version, after: Version, benchmarks, rounds: int):
    """Of one step after another its name, and the ratios of after to before with the raw
    milliseconds."""
    from benchmarks._record import median_ratio

    for benchmark in benchmarks:
        for name in before.ask(benchmark):
            for version in (before, after):
                version.ask(benchmark, name)
            times = {"before": [], "after": []}
            for index in range(rounds):
                turns = [("before", before), ("after", after)]
                for which, version in turns if index % 2 else reversed(turns):
                    times[which].append(version.ask(benchmark, name))
            wall, cpu = (
                {which: [each[what] for each in times[which]] for which in times} for what in (0, 1)
            )
            ratios = {
                "wall": median_ratio(wall["after"], wall["before"]),
                "processor": median_ratio(cpu["after"], cpu["before"]),
            }
            shown = "   ".join(
                f"{what} {of['ratio']:.3f} [{of['low']:.3f}, {of['high']:.3f}]"
                for what, of in ratios.items()
            )
            print(f"  {name:48s} {shown}", flush=True)
            yield name, ratios | {"wall_ms": wall, "processor_ms": cpu}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", nargs="?", help="the version before")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    if options.commit is None:
        parser.error("the commit of the version before is missing; give for example HEAD~1")

    from benchmarks._record import environment, read, write

    git = functools.partial(subprocess.run, check=True, cwd=ROOT)
    record = read("before_after")  # what it has of other steps before the same commit stays
    steps = record.get("steps", {}) if record.get("before") == options.commit else {}
    with tempfile.TemporaryDirectory() as folder:
        git(["git", "worktree", "add", "--quiet", "--detach", folder, options.commit])
        versions = Version(folder), Version(ROOT)
        try:
            for name, row in measure(*versions, options.only, options.rounds):
                steps[name] = row | {"environment": environment("jax", "jaxlib", "flax", "optax")}
                path = write("before_after", {"before": options.commit, "steps": steps})
        finally:
            for version in versions:
                version.close()
            git(["git", "worktree", "remove", "--force", folder])
    print(f"\nwrote {path}")


if __name__ == "__main__":
    main()
