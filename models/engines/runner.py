"""Inference on any number of images: in batches, which shrink where memory runs out."""

from __future__ import annotations

import gc

import numpy as np

from models.engines.engine import Engine, Prediction, joined

# In messages of torch, CUDA's libraries, ONNX Runtime, OpenVINO and the C++ library; only torch has a type for it.
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
    """Whether an engine failed because the memory of GPU or host ran out."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, Exception) and any(words in text for words in _NO_MEMORY)


class Runner:
    """An engine that takes any number of images.

    Attributes:
        batch: images in one call of the engine; halved for good each time that they do not fit the memory.
    """

    def __init__(self, engine: Engine, batch: int) -> None:
        if batch < 1:
            raise ValueError(f"a batch needs at least one image, got {batch}")
        self.engine = engine
        self.batch = batch

    def __call__(self, images_NSS3: np.ndarray) -> Prediction:
        """Predictions for uint8 [N, S, S, 3], N >= 0; without images there are no features.

        Raises:
            MemoryError: not even one image fits; the text includes the engine's message.
        """
        parts: list[Prediction] = []
        start = 0
        while start < len(images_NSS3):
            part = self._infer(images_NSS3[start : start + self.batch])
            if part is None:
                continue
            parts.append(part)
            start += len(part.logits_BC)
        if not parts:
            return Prediction(np.empty((0, self.engine.network.num_classes), dtype=np.float32))
        return joined(parts, start)

    def _infer(self, images_BSS3: np.ndarray) -> Prediction | None:
        """The prediction, or None when the batch was too large and is now halved."""
        try:
            return self.engine(images_BSS3)
        except Exception as error:
            if not out_of_memory(error):
                raise
            if len(images_BSS3) == 1:
                raise MemoryError(
                    f"{self.engine.name}: one image of {self.engine.network.size} px does not fit: {error}"
                ) from error
        # Only after the handler have the failed call's tensors lost their last reference.
        self.batch = len(images_BSS3) // 2
        release_memory()
        return None


def release_memory() -> None:
    """Free memory that nothing refers to any more, on the GPU too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
