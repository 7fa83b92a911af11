"""What every benchmark writes beside its numbers: where they were taken, and how sure they are."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
from importlib import metadata

import numpy as np

RESULTS = pathlib.Path(__file__).parent / "results"


def environment(*packages: str) -> dict:
    """Machine, versions of the packages that are installed, date, and git commit ('+' marks uncommitted changes)."""
    versions = {}
    for name in ("numpy", *packages):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "versions": versions,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
    }


def _cpu() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=RESULTS.parent, capture_output=True, text=True)

    head = git("rev-parse", "--short", "HEAD")
    if head.returncode:
        return None
    return head.stdout.strip() + ("+" if git("status", "--porcelain").stdout.strip() else "")


def median_ratio(numerator, denominator, seed: int = 0, draws: int = 2000) -> dict:
    """The ratio of two medians with a 95 % bootstrap interval over rounds; rounds are paired, as they interleave."""
    a, b = np.asarray(numerator), np.asarray(denominator)
    picks = np.random.default_rng(seed).integers(0, len(a), (draws, len(a)))
    low, high = np.percentile(np.median(a[picks], 1) / np.median(b[picks], 1), [2.5, 97.5])
    return {"ratio": float(np.median(a) / np.median(b)), "low": float(low), "high": float(high)}


def write(name: str, record: dict) -> pathlib.Path:
    """Writes `results/<name>.json` and returns its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path
