"""Asking an engine about any number of images: cut into batches, which shrink where memory ends."""

from __future__ import annotations

import gc

import numpy as np

from models.engines.engine import Engine, joined
from models.engines.network import Answer

# As torch, CUDA's libraries, ONNX Runtime, OpenVINO and the C++ library say it; only torch has a type for it.
_NO_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate memory",
    "alloc_failed",
    "bad_alloc",
    "bad allocation",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an engine failed for want of memory, on the GPU or off it."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, Exception) and any(words in text for words in _NO_MEMORY)


class Runner:
    """An engine that takes any number of images.

    Attributes:
        batch: images that the engine is given at once; halved for good each time that they do not fit the memory.
    """

    def __init__(self, engine: Engine, batch: int) -> None:
        if batch < 1:
            raise ValueError(f"a batch has at least one image, not {batch}")
        self.engine = engine
        self.batch = batch

    def __call__(self, images_NSS3: np.ndarray) -> Answer:
        """Ask about uint8 [N, S, S, 3], N >= 0; without images there are no features.

        Raises:
            MemoryError: not even one image fits; the engine's own words are in it.
        """
        parts: list[Answer] = []
        start = 0
        while start < len(images_NSS3):
            part = self._ask(images_NSS3[start : start + self.batch])
            if part is None:
                continue
            parts.append(part)
            start += len(part.logits_BC)
        if not parts:
            return Answer(np.empty((0, self.engine.network.num_classes), dtype=np.float32))
        return joined(parts, start)

    def _ask(self, images_BSS3: np.ndarray) -> Answer | None:
        """The answer, or None when the batch was too large and is now halved."""
        try:
            return self.engine(images_BSS3)
        except Exception as error:
            if not out_of_memory(error):
                raise
            if len(images_BSS3) == 1:
                raise MemoryError(
                    f"{self.engine.name}: one image of {self.engine.network.size} px does not fit: {error}"
                ) from error
        # Only here, past the handler, have the failed call's tensors lost their last reference.
        self.batch = len(images_BSS3) // 2
        release_memory()
        return None


def release_memory() -> None:
    """Give memory that nothing refers to any more back, the GPU's too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
