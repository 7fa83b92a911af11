"""How often the compiler runs within a piece of a test."""

import contextlib

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"
_started = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **more: _started.append(name) if name == _COMPILED else None
)


@contextlib.contextmanager
def counted():
    """Within it, what it gives is a function that says how many programs were compiled so far."""
    before = len(_started)
    yield lambda: len(_started) - before
