"""Comparing and timing engines against one reference, within a share of the work's time."""

from __future__ import annotations

import time
from contextlib import closing

import numpy as np

from models.engines.choice import Agreement, Choice, Tried
from models.engines.engine import Engine, EngineError, in_short
from models.engines.network import Answer, Network
from models.engines.opening import open_engine
from models.engines.runner import Runner, out_of_memory, release_memory

SHARE = 0.05
"""Of the time of the work, what choosing may take."""

# Seconds to trace, export or compile a network of middling size on one core, the loading of the library included.
_SET_UP_S = {"eager": 0.5, "openvino": 6.0, "onnxruntime": 15.0, "compile": 60.0}
_SET_UP_FILE_S = 2.0
_GAIN = 1.03  # a larger batch must be faster by this
_LARGEST_BATCH = 1024
_FEWEST = 16  # images that are compared at least, where the sample has as many
_LONG_CALL_S = 5.0  # a call this long is not repeated
_ROUGH_S = 0.2
# A pass on a CPU is fastest while its activations fit the cache; a GPU wants many at once.
_PIXELS = {"cpu": 8 * 224**2, "cuda": 64 * 224**2}


def usual_batch(network: Network, device: str) -> int:
    """The batch where none is measured: a power of two, smaller for larger images."""
    fit = max(1, _PIXELS[device] // network.size**2)
    return int(min(256, 2 ** int(np.log2(fit))))


class Bench:
    """The reference, what it says of the sample, and the time that is left.

    Attributes:
        reference: the network in float32.
        usual: the batch for comparing.
        rate: images a second of the reference, roughly.
        work_s: seconds that the work would take on it.
        limited: something was left out to save time.
    """

    def __init__(
        self,
        reference: Engine,
        sample_NSS3: np.ndarray,
        *,
        device: str,
        threads: int,
        passes: int,
        batch: int | None,
        limits: tuple[float, float],
    ) -> None:
        """Time the reference roughly.

        Args:
            limits: as `Agreement.why_not` takes them.
        """
        self._began = time.monotonic()
        self.reference = reference
        self.usual = batch or usual_batch(reference.network, device)
        self.limited = False
        self._sample = sample_NSS3
        self._device = device
        self._threads = threads
        self._passes = passes
        self._batch = batch
        self._limits = limits
        self._answer: Answer | None = None
        self._best = 0.0  # images a second, of the engines that can be taken
        self._any = False  # whether any engine was compared yet
        self.rate = self._rough()
        self.work_s = passes / self.rate

    def tried(self, name: str, *, needed: bool = False) -> tuple[Choice | None, Tried]:
        """Open, compare and measure an engine; None with the reason where it cannot be taken.

        Args:
            needed: whatever time it takes; so is the first one that opens.
        """
        if name == self.reference.name:
            return self._measured(self.reference)
        short = "" if needed or not self._any else self._too_short(name)
        if short:
            self.limited = True
            return None, Tried(name, why_not=short)
        try:
            engine = open_engine(self.reference.network, name, device=self._device, threads=self._threads)
        except EngineError as error:
            return None, Tried(name, why_not=str(error))
        with closing(engine):
            try:
                return self._measured(engine)
            except Exception as error:
                # Whatever a library raises on its first real batch, the other engines are still there.
                return None, Tried(name, why_not=f"{name} failed on this network: {in_short(error)}")
            finally:
                release_memory()

    def _measured(self, engine: Engine) -> tuple[Choice | None, Tried]:
        if self._answer is None:
            self._answer = Runner(self.reference, self.usual)(self._compared())
        own = self._answer if engine is self.reference else Runner(engine, self.usual)(self._compared())
        agreement = Agreement.of(own.logits_BC, self._answer.logits_BC)
        self._any = True
        told = agreement.to_json()
        why_not = agreement.why_not(*self._limits)
        if why_not:
            return None, Tried(engine.name, None, None, told["top1"], told["max_error"], why_not)
        batch, rate = self._fastest(engine)
        self._best = max(self._best, rate)
        row = Tried(engine.name, rate, batch, told["top1"], told["max_error"])
        return Choice(engine.name, batch, rate, agreement), row

    def _compared(self) -> np.ndarray:
        """As much of the sample as the reference gets through in a fifth of the time."""
        affordable = int(SHARE * self._passes / 5)
        return self._sample[: max(_FEWEST, affordable)]

    def _left_s(self) -> float:
        """Seconds that choosing may still take; a faster engine makes the work shorter, and this too."""
        return SHARE * self._passes / max(self._best, self.rate) - (time.monotonic() - self._began)

    def _too_short(self, name: str) -> str:
        family = name.rpartition("-")[0]
        once = _SET_UP_FILE_S if self.reference.network.module is None else _SET_UP_S[family]
        # Set up twice: to be measured, and to be used.
        needs = 2 * once + len(self._compared()) / max(self._best, self.rate)
        left = self._left_s()
        if needs <= left:
            return ""
        return (
            f"not tried: it takes about {needs:.0f} s to set up and to compare, and {max(0.0, left):.0f} s are left of "
            f"the {SHARE:.0%} of the work that choosing may take"
        )

    def _rough(self) -> float:
        images = self._images(min(self.usual, 4) if self._device == "cpu" else self.usual)
        first = _seconds(self.reference, images)
        # The first call pays for what is set up only once.
        return len(images) / (first if first > _LONG_CALL_S else _fastest_of(self.reference, images, _ROUGH_S))

    def _fastest(self, engine: Engine) -> tuple[int, float]:
        """Batch and images a second: powers of two, as long as it gets faster and fits the memory."""
        if self._batch is not None:
            return self._batch, self._rate(engine, self._batch)
        best = (0, 0.0)
        size = 1 if self._device == "cpu" else 8
        while size <= _LARGEST_BATCH:
            try:
                rate = self._rate(engine, size)
            except Exception as error:
                if best[0] and out_of_memory(error):
                    break
                raise
            if rate <= best[1] * _GAIN:
                break
            best = (size, rate)
            if self._left_s() <= 0:
                self.limited = True
                break
            size *= 2
        return best

    def _rate(self, engine: Engine, batch: int) -> float:
        images = self._images(batch)
        _seconds(engine, images)
        return batch / _fastest_of(engine, images, float(np.clip(self._left_s() / 50, 0.05, 0.5)))

    def _images(self, count: int) -> np.ndarray:
        return self._sample[np.arange(count) % len(self._sample)]


def _fastest_of(engine: Engine, images: np.ndarray, spend_s: float) -> float:
    """Seconds of the fastest of some calls: what else runs on this machine only ever makes one slower."""
    seconds: list[float] = []
    while sum(seconds) < spend_s or (len(seconds) < 3 and sum(seconds) < _LONG_CALL_S):
        seconds.append(_seconds(engine, images))
    return min(seconds)


def _seconds(engine: Engine, images: np.ndarray) -> float:
    began = time.perf_counter()
    engine(images)
    return time.perf_counter() - began
