"""Methods by name: every algorithm that a configuration can name, with its defaults."""

from __future__ import annotations

from jaxmeta._registry import Registry
from jaxmeta.experiment._method import Method
from jaxmeta.experiment._methods_adapting import ADAPTING
from jaxmeta.experiment._methods_encoding import ENCODING

METHODS = Registry("algorithm", {**ADAPTING, **ENCODING}, Method)
"""Every method; `METHODS.register(name, Method(...))` lets another in."""
