"""Tests run in float64 with rank promotion refused, on two CPU devices; what is random in one
depends on its name alone."""

import ctypes
import gc
import importlib.metadata
import os
import resource
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

# The tests compile far more than they run: with these the CPU's compiler takes a third of its usual
# time for a Conv4.
FLAGS = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
# From 0.12 on it ends the process.
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 12):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *FLAGS])
# What one test compiled the next finds again, after the caches in memory were let go and in the
# processes that tests start too. Each worker has a folder of its own, since JAX writes into it
# without a lock.
os.environ |= {
    "JAX_COMPILATION_CACHE_DIR": tempfile.mkdtemp(prefix="jaxmeta-tests-"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

import hypothesis  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same")

GIGABYTES, PEAKS = 2.5, {}  # What a process of `-n` may take at its peak, and what they took.
LIBC = ctypes.CDLL(None)
SINCE = {"tests": 0}  # since the compiled programs were let go


@pytest.fixture
def rng(request):
    """A generator of the test's own: neither the order of the tests nor which of them run changes
    what it gives."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Where the run keeps the data sets that it builds, one folder for all workers."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "built"


def group(item):
    """What compiles for a whole file, or for one member of a contract."""
    member = getattr(item, "callspec", None) and item.callspec.params.get("member")
    return f"{item.path.name} {member or ''}"


@pytest.hookimpl(tryfirst=True)  # Before xdist reads the marks.
def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.slow)


def peak():
    """Gigabytes that this process took at its peak."""
    return (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024)
        / 1e9
    )


def resident():
    """Gigabytes that this process takes now, where the system tells."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e9
    except OSError:
        return peak()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Compiled programs go with the group that they served, and within a large group where memory
    grows."""
    result = yield
    SINCE["tests"] += 1
    over = nextitem is None or group(item) != group(nextitem)
    if (over and resident() > 0.4 * GIGABYTES) or (
        SINCE["tests"] > 10 and resident() > 0.6 * GIGABYTES
    ):
        jax.clear_caches()
        gc.collect()
        if hasattr(LIBC, "malloc_trim"):  # glibc keeps what is freed
            LIBC.malloc_trim(0)
        SINCE["tests"] = 0
    return result


@pytest.hookimpl(trylast=True)  # when all workers have told what they took
def pytest_sessionfinish(session):
    shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
    getattr(session.config, "workeroutput", PEAKS)["peak"] = peak()
    if max(PEAKS.values(), default=0) > GIGABYTES:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    PEAKS[node.gateway.id] = getattr(node, "workeroutput", {}).get("peak", float("nan"))


def pytest_terminal_summary(terminalreporter):
    told = ", ".join(f"{name} {gigabytes:.2f} GB" for name, gigabytes in sorted(PEAKS.items()))
    above = (
        "" if max(PEAKS.values(), default=0) <= GIGABYTES else ": ABOVE what a process is allowed"
    )
    terminalreporter.write_line(f"memory at the peak, {GIGABYTES} GB allowed: {told}{above}")
