"""The real data where JAXMETA_DATA names them, and none."""

import os

import pytest

from jaxmeta import data


@pytest.fixture(scope="session")
def real(cache):
    """name -> Dataset of a set that is built from the files under JAXMETA_DATA."""
    if not os.environ.get("JAXMETA_DATA"):
        pytest.skip("JAXMETA_DATA is not set: no real data to build from")
    return lambda name: data.load(name, cache=cache)


@pytest.fixture
def offline(monkeypatch):
    """No source but what the test gives."""
    monkeypatch.delenv("JAXMETA_DATA", raising=False)
