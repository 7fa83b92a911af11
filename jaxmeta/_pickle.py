"""Pickling what is made of closures, which the standard pickle does not take: by cloudpickle."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import NamedTuple


def by_value(role: type) -> type:
    """A decorator of a NamedTuple of functions: it is pickled as cloudpickle does it, the functions with what they close over.
    Functions being what they are, a copy is the same object."""
    role.__reduce__ = _reduced
    role.__copy__ = lambda self: self
    role.__deepcopy__ = lambda self, memo: self
    return role


@by_value
class Function(NamedTuple):
    """A function made within another, for what is to be pickled; equal to another one where the functions are the same."""

    of: Callable

    def __call__(self, *args, **more):
        return self.of(*args, **more)


def _reduced(self):
    name = "a sampler" if isinstance(self, Function) else type(self).__name__
    try:
        import cloudpickle
    except ImportError:
        raise pickle.PicklingError(f"pickle takes no functions made within others, got {name} of such; install cloudpickle, "
                                   "or make it anew where it is wanted") from None
    return _again, (type(self), cloudpickle.dumps(tuple(self)))


def _again(role: type, parts: bytes):
    return role(*pickle.loads(parts))
