"""No method without a reference in numpy that was written from its paper."""

import re
from pathlib import Path

import jaxmeta as jm

# Where the reference of every method is.
PLACES = {
    "test_methods": ("local_matching_net",),
    "test_published": (
        "alfa",
        "baseline_plus_plus",
        "bootstrapped_maml",
        "l2f",
        "leo",
        "maml_plus_plus",
    ),
    "test_published_adapting": (
        "anil",
        "boil",
        "cavia",
        "fomaml",
        "imaml",
        "maml",
        "meta_curvature",
        "meta_sgd",
        "msr",
        "proto_maml",
        "reptile",
        "soft_tree_maml",
        "t_net",
        "tree_maml",
    ),
    "test_heads": (
        "black_box",
        "matching_net",
        "metaoptnet",
        "protonet",
        "r2d2",
        "relation_net",
        "scaled_protonet",
        "snail",
    ),
}


def test_every_method_has_a_reference():
    assert sorted(name for names in PLACES.values() for name in names) == sorted(
        jm.algorithms.__all__
    )
    for place, names in PLACES.items():
        text = (Path(__file__).parent / f"{place}.py").read_text()
        without = [name for name in names if not re.search(rf"\b{name}\b", text)]
        assert not without, f"{place}.py has no reference of {without}"
