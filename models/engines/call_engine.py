"""A plain function as an engine: a network of somebody else's, asked as it is."""

from __future__ import annotations

import numpy as np

from models.engines.engine import FLOAT32, Engine, EngineError
from models.engines.network import Answer, Network


class CallEngine(Engine):
    """The network's function; what it does inside, and on how many threads, is its own affair."""

    def __init__(self, network: Network) -> None:
        super().__init__(f"call-{FLOAT32}", network)
        if network.features is not None:
            raise EngineError("features: a function gives logits only")

    def _ask(self, images_BSS3: np.ndarray) -> Answer:
        assert self.network.call is not None
        return Answer(np.asarray(self.network.call(images_BSS3), dtype=np.float32))

    def close(self) -> None:
        """Nothing is held but the caller's function."""
