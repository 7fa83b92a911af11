"""Encoders and decoders whose transfers between concepts are measured."""

from __future__ import annotations

import functools
from typing import NamedTuple

from jaxmeta.models import Model, mlp


class Autoencoder(NamedTuple):
    """An encoder f and a decoder g, `g(f(x))` being x again.

    Args:
      encoder: From `[n, ...]` to codes.
      decoder: From codes to `[n, features]`, the input with its axes flattened.
    """

    encoder: Model
    decoder: Model


@functools.lru_cache  # the same models for the same sizes, so that programs are compiled once
def dense_autoencoder(features: int, hidden: int = 128, code: int = 32) -> Autoencoder:
    """One hidden layer each way, with relu: features, hidden, code, hidden, features. Ours; the
    paper searches for its own."""
    return Autoencoder(mlp((hidden,), code), mlp((hidden,), features))
