"""One cache a session, and the real data where JAXMETA_DATA names them."""

import os

import pytest

from jaxmeta import data


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


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
