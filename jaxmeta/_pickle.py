"""Pickling what is made of closures, which the standard pickle does not take: by cloudpickle."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

Role = TypeVar("Role", bound=type)


def by_value(role: Role) -> Role:
    """A decorator of a NamedTuple of functions: it is pickled as cloudpickle does it, the functions
    with what they close over. Functions being what they are, a copy is the same object."""
    known: Any = role
    known.__reduce__ = lambda self: _reduced(role, role.__name__, tuple(self))
    known.__copy__ = lambda self: self
    known.__deepcopy__ = lambda self, memo: self
    return role


class Function:
    """A decorator of a function made within another, a sampler: as it was, and pickled like a
    role."""

    def __init__(self, function: Callable):
        functools.update_wrapper(self, function)

    def __call__(self, *args, **more):
        return self.__wrapped__(*args, **more)

    def __reduce__(self):
        return _reduced(Function, "a sampler", (self.__wrapped__,))


def _reduced(role: type, name: str, parts: tuple):
    try:
        import cloudpickle
    except ImportError:
        raise pickle.PicklingError(
            f"pickle takes no functions made within others, got {name} of such; install "
            "cloudpickle, or make it anew where it is wanted"
        ) from None
    return _again, (role, cloudpickle.dumps(parts))


def _again(role: type, parts: bytes):
    return role(*pickle.loads(parts))
