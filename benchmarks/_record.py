"""What every benchmark writes beside its numbers: where they were taken, and how sure they are."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata

import numpy as np

RESULTS = pathlib.Path(__file__).parent / "results"


def environment(*packages: str) -> dict:
    """Machine, versions of the packages that are installed, date, and git commit ('+' marks
    uncommitted changes)."""
    versions = {}
    for name in ("numpy", *packages):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "malloc": os.environ.get("GLIBC_TUNABLES", "as it comes"),
        "python": sys.version.split()[0],
        "versions": versions,
        **({"device": sys.modules["jax"].devices()[0].device_kind} if "jax" in packages else {}),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
    }


def _cpu() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    def git(*arguments):
        return subprocess.run(
            ["git", *arguments], cwd=RESULTS.parent, capture_output=True, text=True
        )

    head = git("rev-parse", "--short", "HEAD")
    if head.returncode:
        return None
    return head.stdout.strip() + ("+" if git("status", "--porcelain").stdout.strip() else "")


def median_ratio(numerator, denominator, seed: int = 0, draws: int = 2000) -> dict:
    """The ratio of two medians with a 95 % bootstrap interval over rounds; rounds are paired, as
    they interleave."""
    a, b = np.asarray(numerator), np.asarray(denominator)
    picks = np.random.default_rng(seed).integers(0, len(a), (draws, len(a)))
    low, high = np.percentile(np.median(a[picks], 1) / np.median(b[picks], 1), [2.5, 97.5])
    return {"ratio": float(np.median(a) / np.median(b)), "low": float(low), "high": float(high)}


def compiled(function: Callable, *args) -> tuple[Callable, dict]:
    """The function compiled ahead for these arguments, as `() -> results` that are ready, and what
    compiling it told.

    Args:
      function: Of arrays, traceable by jax.
      args: What it is compiled for, and called with.

    Returns:
      `run` and `{"compile_s", "temporary_mb"}`: seconds of tracing and compiling, and temporaries
      in units of 1e6 bytes.
    """
    import jax  # here, for scripts that set jax's configuration first

    begin = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    about = {
        "compile_s": time.perf_counter() - begin,
        "temporary_mb": program.memory_analysis().temp_size_in_bytes / 1e6,
    }
    return lambda: jax.block_until_ready(program(*args)), about


def several(step: Callable, outer: int) -> Callable:
    """Outer steps `(theta, tasks) -> (loss, grad)` one after the other in one program, as `jm.fit`
    takes them: `(theta, tasks) -> (theta, losses, norms of the gradients)`.

    A program of one step would get its temporaries from the system anew at each call, and clearing
    large ones takes long.
    """
    import jax
    import optax

    def run(theta, tasks):
        def body(theta, _):
            loss, grad = step(theta, tasks)
            return jax.tree.map(lambda x, g: x - 1e-4 * g, theta, grad), (
                loss,
                optax.tree.norm(grad),
            )

        theta, (losses, norms) = jax.lax.scan(body, theta, length=outer)
        return theta, losses, norms

    return run


def interleaved(systems: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each system in each round; a round runs them all, so that a slow minute of
    the machine hits all."""
    times = {name: [] for name in systems}
    for _ in range(rounds):
        for name, run in systems.items():
            begin = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - begin))
    return times


def read(name: str, needed_by: argparse.ArgumentParser | None = None) -> dict:
    """What `results/<name>.json` has; where there is none nothing, or the refusal of the parser
    that needs it."""
    path = RESULTS / f"{name}.json"
    if needed_by and not path.exists():
        needed_by.error(f"there is no result at {path} to print; run without --table first")
    return json.loads(path.read_text()) if path.exists() else {}


def write(name: str, record: dict) -> pathlib.Path:
    """Writes `results/<name>.json` and returns its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path
