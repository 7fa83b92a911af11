"""Tests run in float64 with rank promotion refused, on two CPU devices."""

import os

# The tests compile far more than they run: with these the CPU's compiler takes a third of its usual time for a Conv4.
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0",
                                    "--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"])

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items):
    """What compiles for a whole file, or for one member of the contract, stays in one process of `-n`."""
    for item in items:
        member = getattr(item, "callspec", None) and item.callspec.params.get("member")
        item.add_marker(pytest.mark.xdist_group(f"{item.path.name} {member or ''}"))
