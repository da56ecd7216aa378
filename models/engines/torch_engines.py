"""PyTorch as an engine: eager, or compiled by inductor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.engines.engine import BFLOAT16, FLOAT16, Engine, EngineError, Network, Prediction, joined, quiet
from models.engines.normalised_graph import Normalised

_LOWER = {BFLOAT16: torch.bfloat16, FLOAT16: torch.float16}


class EagerEngine(Engine):
    """The module as it is, in channels_last, under autocast where the precision is not float32."""

    def __init__(self, network: Network, precision: str, *, device: str, threads: int, family: str = "eager") -> None:
        super().__init__(f"{family}-{precision}", network)
        self._device = torch.device(device)
        self._threads = threads
        self._lower = _LOWER.get(precision)
        module = Normalised(network, device).eval()
        module.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._forward: Callable[[Tensor], Any] = module

    def _infer(self, images_BSS3: np.ndarray) -> Prediction:
        # A setting of the calling thread, and the Dask nanny's OMP_NUM_THREADS=1 is every new thread's default.
        torch.set_num_threads(self._threads)
        with self._mode():
            output = self._forward(self._moved(images_BSS3))
        logits, features = output if isinstance(output, tuple) else (output, None)
        return Prediction(_array(logits), None if features is None else _array(features))

    def _moved(self, images_BSS3: np.ndarray) -> Tensor:
        if not images_BSS3.flags.writeable:
            # torch warns about read-only memory, although it only reads this.
            images_BSS3 = images_BSS3.copy()
        images = torch.from_numpy(images_BSS3)
        if self._device.type == "cuda":
            return images.pin_memory().to(self._device, non_blocking=True)
        return images

    @contextmanager
    def _mode(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self._device.type == "cuda":
                # TF32 is not float32, and the search for the fastest kernel differs from run to run.
                stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False))
            if self._lower is not None:
                stack.enter_context(torch.autocast(self._device.type, dtype=self._lower))
            yield

    def close(self) -> None:
        """Drop the module."""
        del self._forward


def _array(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.float().cpu().numpy())


class CompiledEngine(EagerEngine):
    """The module compiled by inductor once for every batch size; opening takes up to a minute or more.

    Raises:
        EngineError: there is no C++ compiler, or the module cannot be compiled; the text says why.
    """

    def __init__(self, network: Network, precision: str, *, device: str, threads: int) -> None:
        super().__init__(network, precision, device=device, threads=threads, family="compile")
        with quiet():
            if device == "cpu":
                _check_compiler(self.name)
            import torch._inductor.config

            # A pool of compiler processes could outlive a worker that is killed.
            torch._inductor.config.compile_threads = 1
            self._forward = torch.compile(self._forward)
            # Compiled here, so that a failure is raised now.
            self._infer(np.zeros((2, network.size, network.size, 3), dtype=np.uint8))

    def _infer(self, images_BSS3: np.ndarray) -> Prediction:
        # A single image would need another program: the compiler treats a batch of 1 as a constant.
        if len(images_BSS3) == 1:
            return joined([super()._infer(np.repeat(images_BSS3, 2, axis=0))], 1)
        return super()._infer(images_BSS3)

    def _moved(self, images_BSS3: np.ndarray) -> Tensor:
        images = super()._moved(images_BSS3)
        torch._dynamo.mark_dynamic(images, 0)
        return images


def _check_compiler(name: str) -> None:
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:
        raise EngineError(f"{name}: there is no working C++ compiler; install g++ ({error})") from error
