"""Measuring engines on a network: set-up, agreement with float32 on a sample of images, speed at the best batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.engines.agreement import Agreement, compared
from models.engines.engine import Engine, EngineError, Network, in_short
from models.engines.experience import Experience
from models.engines.opening import open_engine
from models.engines.runner import Runner, out_of_memory, release_memory
from models.engines.trial_rule import EngineFigures

_GAIN = 1.03  # a larger batch must be faster by this
_LARGEST_BATCH = 1024
_LONG_CALL_S = 5.0  # a call this long is not repeated
_ROUGH_S = 0.2
_TIMING_SHARE = 0.01  # of the work's time, for the timing of one engine
_FEWEST_CALLS = 3
# A pass on a CPU is fastest while its activations fit the cache; a GPU needs many images at once.
_PIXELS = {"cpu": 8 * 224**2, "cuda": 64 * 224**2}


@dataclass(frozen=True)
class EngineTrial:
    """An engine that was considered: a row of a table.

    Attributes:
        divergence, top1, max_error: of its agreement; None where it was not compared or the error is not finite.
        why_not: why it cannot be used, or was not tried; "" where it can.
        set_up_s: seconds that opening it took; None where it was not opened.
    """

    engine: str
    images_per_second: float | None = None
    batch: int | None = None
    top1: float | None = None
    max_error: float | None = None
    why_not: str = ""
    divergence: float | None = None
    set_up_s: float | None = None


@dataclass(frozen=True)
class EngineChoice:
    """The selected engine.

    Attributes:
        batch: images in one call.
        images_per_second: as measured; None where there was only one candidate.
        agreement: with float32; None where it was not measured.
        tried: engines that were considered, in that order.
        limited: engines or measurements were left out to save time; with more work the selection may differ.
    """

    engine: str
    batch: int
    images_per_second: float | None = None
    agreement: Agreement | None = None
    tried: tuple[EngineTrial, ...] = ()
    limited: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON value that `from_json` reads back."""
        return {
            "engine": self.engine,
            "batch": self.batch,
            "images_per_second": self.images_per_second,
            "agreement": self.agreement.to_json() if self.agreement is not None else None,
            "tried": [asdict(row) for row in self.tried],
            "limited": self.limited,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EngineChoice:
        """Read `to_json` back; KeyError or TypeError for other values."""
        return cls(
            str(values["engine"]),
            int(values["batch"]),
            values["images_per_second"],
            None if values["agreement"] is None else Agreement.from_json(values["agreement"]),
            tuple(EngineTrial(**row) for row in values["tried"]),
            bool(values["limited"]),
        )


class ImageSample:
    """Images of the work's kind, made when they are asked for and kept.

    Args:
        available: images that there are, at least 1.
        render: `render(start, stop)` makes the images from `start` to `stop`, uint8 [stop - start, S, S, 3].

    Raises:
        ValueError: there are none.
    """

    def __init__(self, available: int, render: Callable[[int, int], np.ndarray]) -> None:
        if available < 1:
            raise ValueError("engines are compared on a sample of images, and it is empty")
        self.available = available
        self._render = render
        self._known: np.ndarray | None = None

    def __call__(self, start: int, stop: int) -> np.ndarray:
        """The images from `start` to `stop`, at most `available`."""
        known = 0 if self._known is None else len(self._known)
        if stop > known:
            more = self._render(known, stop)
            self._known = more if self._known is None else np.concatenate([self._known, more])
        assert self._known is not None
        return self._known[start:stop]

    def repeated(self, count: int) -> np.ndarray:
        """So many images; what there is again where there are fewer."""
        images = self(0, min(count, self.available))
        return images[np.arange(count) % len(images)]


def usual_batch(network: Network, device: str) -> int:
    """The batch size where none is measured: a power of two, smaller for larger images."""
    fit = max(1, _PIXELS[device] // network.size**2)
    return int(min(256, 2 ** int(np.log2(fit))))


class EngineBenchmark:
    """Compares engines with a reference on a sample of images and times them.

    Attributes:
        reference: the network in float32.
        usual: the batch for comparing.
        rate: images a second of the reference, roughly.
        work_s: seconds that one worker's part of the work would take on the reference.
    """

    def __init__(
        self,
        reference: Engine,
        sample: ImageSample,
        *,
        device: str,
        threads: int,
        passes: int,
        batch: int | None,
        many: bool,
        max_divergence: float,
        experience: Experience,
    ) -> None:
        """Time the reference roughly; for the arguments see `models.engines.selection.Wanted`."""
        self._began = time.monotonic()
        self.reference = reference
        self.usual = batch or usual_batch(reference.network, device)
        self._sample = sample
        self._device = device
        self._threads = threads
        self._batch = batch
        self._many = many
        self._max_divergence = max_divergence
        self._experience = experience
        self._expected = np.empty((0, reference.network.num_classes), dtype=np.float32)  # logits of the reference
        self.rate = self._rough_rate()
        self.work_s = passes / self.rate

    @property
    def elapsed_s(self) -> float:
        """Seconds that measuring has taken until now."""
        return time.monotonic() - self._began

    def measure(self, name: str) -> tuple[EngineChoice | None, EngineTrial, Engine | None]:
        """Open, compare and time an engine; None with the reason where it cannot be used.

        Returns:
            The choice of this engine, its row, and the engine, open, where it can be used.
        """
        if name == self.reference.name:
            choice, row = self._compare(self.reference, None)
            return choice, row, self.reference
        began = time.monotonic()
        try:
            engine = open_engine(self.reference.network, name, device=self._device, threads=self._threads)
        except EngineError as error:
            return None, EngineTrial(name, why_not=str(error)), None
        set_up_s = time.monotonic() - began
        try:
            choice, row = self._compare(engine, set_up_s)
        except Exception as error:
            # A library may raise anything on its first real batch; the other engines remain.
            choice, row = None, EngineTrial(name, why_not=f"{name} failed on this network: {in_short(error)}")
        if choice is None:
            engine.close()
            release_memory()
            return None, row, None
        return choice, row, engine

    def _compare(self, engine: Engine, set_up_s: float | None) -> tuple[EngineChoice | None, EngineTrial]:
        run = Runner(engine, self.usual)
        agreement = compared(
            self._of_reference
            if engine is self.reference
            else lambda start, stop: run(self._sample(start, stop)).logits_BC,
            self._of_reference,
            self._sample.available,
            many=self._many,
            max_divergence=self._max_divergence,
        )
        values = agreement.to_json()
        row = EngineTrial(
            engine.name,
            top1=values["top1"],
            max_error=values["max_error"],
            why_not=agreement.why_not(self._max_divergence) if engine is not self.reference else "",
            divergence=agreement.divergence,
            set_up_s=set_up_s,
        )
        if row.why_not:
            return None, row
        batch, rate = self.best_batch(engine)
        return EngineChoice(engine.name, batch, rate, agreement), EngineTrial(
            **{**asdict(row), "images_per_second": rate, "batch": batch}
        )

    def _of_reference(self, start: int, stop: int) -> np.ndarray:
        if stop > len(self._expected):
            more = Runner(self.reference, self.usual)(self._sample(len(self._expected), stop)).logits_BC
            self._expected = np.concatenate([self._expected, more])
        return self._expected[start:stop]

    def _rough_rate(self) -> float:
        images = self._sample.repeated(min(self.usual, 4) if self._device == "cpu" else self.usual)
        first = _seconds(self.reference, images)
        # The first call includes what is set up only once.
        return len(images) / (first if first > _LONG_CALL_S else _fastest_of(self.reference, images, _ROUGH_S))

    def best_batch(self, engine: Engine) -> tuple[int, float]:
        """Batch and images a second: among powers of two, as far as memory and time allow."""
        if self._batch is not None:
            return self._batch, self._rate(engine, self._batch)
        known = self._experience.own(engine.name)
        if known is not None and known.rate > 0:
            return known.batch, self._rate(engine, known.batch)
        start = max(1, self.usual // 4)
        best = (start, self._rate(engine, start))
        end = time.monotonic() + max(1.0, _TIMING_SHARE * self.work_s)
        for factor in (2.0, 0.5):
            best = self._climbed(engine, best, factor, end)
            if best[0] != start:
                break
        return best

    def _climbed(self, engine: Engine, best: tuple[int, float], factor: float, end: float) -> tuple[int, float]:
        """Go from a batch to larger or smaller ones as long as that is faster, until a moment of the clock."""
        size = int(best[0] * factor)
        while 1 <= size <= _LARGEST_BATCH and time.monotonic() < end:
            try:
                rate = self._rate(engine, size)
            except Exception as error:
                if out_of_memory(error):
                    break
                raise
            if rate <= best[1] * _GAIN:
                break
            best, size = (size, rate), int(size * factor)
        return best

    def _rate(self, engine: Engine, batch: int) -> float:
        images = self._sample.repeated(batch)
        _seconds(engine, images)
        return batch / _fastest_of(engine, images, float(np.clip(self.work_s / 1000, 0.05, 0.5)))


def figures_of(row: EngineTrial) -> EngineFigures | None:
    """What a measured row says of speed, to be remembered; None where the engine runs the network, but disagrees."""
    if row.images_per_second and row.batch:
        return EngineFigures(row.images_per_second, row.batch, row.set_up_s or 0.0)
    return EngineFigures(0.0, 1, row.set_up_s or 0.0) if row.divergence is None else None


def _fastest_of(engine: Engine, images: np.ndarray, spend_s: float) -> float:
    """Seconds of the fastest of several calls: other load on the machine only makes a call slower."""
    seconds: list[float] = []
    while sum(seconds) < spend_s or (len(seconds) < _FEWEST_CALLS and sum(seconds) < _LONG_CALL_S):
        seconds.append(_seconds(engine, images))
    return min(seconds)


def _seconds(engine: Engine, images: np.ndarray) -> float:
    began = time.perf_counter()
    engine(images)
    return time.perf_counter() - began
