"""Models and normalisations by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from jaxmeta._registry import Registry
from jaxmeta.experiment._method import BUILDERS


class Net(NamedTuple):
    """The record of a model.

    Args:
      make: `(outputs, width, norm=norm) -> Model`, or "module:name" of it.
      axes: Of an input, without n, that it takes: 3 for images, 2 for windows.
    """

    make: Callable | str
    axes: tuple[int, ...]


class Norm(NamedTuple):
    """The record of a normalisation.

    Args:
      make: `(dtype, name) -> module` as `jaxmeta.models.batch_norm`, or "module:name" of it.
    """

    make: Callable | str


MODELS = Registry(
    "model",
    {
        "conv4": Net("jaxmeta.models:conv4", (3,)),
        "conv4_margin": Net(f"{BUILDERS}:conv4_margin", (3,)),
        "conv4_film": Net(f"{BUILDERS}:conv4_film", (3,)),
        "conv_places": Net("jaxmeta.models:conv_places", (3,)),
        "resnet12": Net(f"{BUILDERS}:resnet12", (3,)),
        "conv1d": Net("jaxmeta.models:conv1d", (2,)),
        "mlp": Net(f"{BUILDERS}:mlp", (2, 3)),
    },
    Net,
)
"""Every model; `MODELS.register(name, Net(...))` lets another in."""

NORMS = Registry(
    "norm",
    {
        "batch": Norm("jaxmeta.models:batch_norm"),
        "layer": Norm("jaxmeta.models:layer_norm"),
        "none": Norm("jaxmeta.models:none"),
    },
    Norm,
)
"""Every normalisation; `NORMS.register(name, Norm(...))` lets another in."""
