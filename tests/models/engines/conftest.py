"""Engines that are slow to set up, opened once for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from models.engines.engine import Engine
from models.engines.opening import open_engine
from tests.models.engines.nets import micro_network


@pytest.fixture(scope="session")
def opened() -> Iterator[Callable[[str], Engine]]:
    """The engine of a name on `nets.micro_network()`."""
    known: dict[str, Engine] = {}

    def ask(name: str) -> Engine:
        if name not in known:
            known[name] = open_engine(micro_network(), name, device="cpu", threads=2)
        return known[name]

    yield ask
    for engine in known.values():
        engine.close()
