"""Comparing engines with float32 on a sample of images, and timing them, within a share of the work's time."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.engines.engine import Engine, EngineError, Network, Prediction, in_short
from models.engines.opening import open_engine
from models.engines.runner import Runner, out_of_memory, release_memory

SHARE = 0.05
"""Share of the work's time that the selection of an engine may take."""

# Seconds to trace, export or compile a network of medium size on one core, importing the library included.
_SET_UP_S = {"eager": 0.5, "openvino": 6.0, "onnxruntime": 15.0, "compile": 60.0}
_SET_UP_FILE_S = 2.0
_GAIN = 1.03  # a larger batch must be faster by this
_LARGEST_BATCH = 1024
_FEWEST = 16  # least images to compare, where the sample has as many
_LONG_CALL_S = 5.0  # a call this long is not repeated
_ROUGH_S = 0.2
# A pass on a CPU is fastest while its activations fit the cache; a GPU needs many images at once.
_PIXELS = {"cpu": 8 * 224**2, "cuda": 64 * 224**2}


@dataclass(frozen=True)
class Agreement:
    """How closely an engine's logits agree with those of the reference, on a sample of images."""

    top1: float  # share of images whose largest logit is the same class; for multilabel heads too
    max_error: float  # largest |difference| of a logit
    spread: float  # standard deviation of all of the reference's logits
    samples: int

    @classmethod
    def of(cls, logits_NC: np.ndarray, reference_NC: np.ndarray) -> Agreement:
        """Compare; images for which the reference has no finite logits are left out.

        Raises:
            EngineError: no image is left.
        """
        known = np.isfinite(reference_NC).all(axis=1)
        if not known.any():
            raise EngineError(
                f"the network gives no finite logits for any of {len(known)} images in float32; check its weights and "
                "the mean and standard deviation of its input"
            )
        a, b = logits_NC[known].astype(np.float64), reference_NC[known].astype(np.float64)
        error = float(np.abs(a - b).max()) if np.isfinite(a).all() else math.inf
        return cls(float((a.argmax(1) == b.argmax(1)).mean()), error, float(b.std()), len(a))

    def why_not(self, min_agreement: float, max_error: float) -> str:
        """Why the agreement is not enough; "" when it is.

        Args:
            min_agreement: smallest share of equal classes.
            max_error: largest error of a logit, in units of the spread.
        """
        faults = []
        if self.top1 < min_agreement:
            faults.append(
                f"the top class agrees on {self.top1:.1%} of {self.samples} images, below {min_agreement:.1%}"
            )
        if not self.max_error <= max_error * self.spread:
            faults.append(
                f"a logit is off by {self.max_error:.3g}, above {max_error:.3g} of the spread {self.spread:.3g}"
            )
        return "; ".join(faults)

    def to_json(self) -> dict[str, Any]:
        """The fields; an error that is not finite is None."""
        return {**asdict(self), "max_error": self.max_error if math.isfinite(self.max_error) else None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Agreement:
        """Read `to_json` back."""
        error = values["max_error"]
        return cls(values["top1"], math.inf if error is None else error, values["spread"], values["samples"])


@dataclass(frozen=True)
class EngineTrial:
    """An engine that was considered: a row of a table.

    Attributes:
        top1, max_error: of its agreement; None where it was not compared or the error is not finite.
        why_not: why it cannot be used; "" where it can.
    """

    engine: str
    images_per_second: float | None = None
    batch: int | None = None
    top1: float | None = None
    max_error: float | None = None
    why_not: str = ""


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


def usual_batch(network: Network, device: str) -> int:
    """The batch size where none is measured: a power of two, smaller for larger images."""
    fit = max(1, _PIXELS[device] // network.size**2)
    return int(min(256, 2 ** int(np.log2(fit))))


class EngineBenchmark:
    """Compares engines with a reference on a sample of images and times them; keeps account of the time left.

    Attributes:
        reference: the network in float32.
        usual: the batch for comparing.
        rate: images a second of the reference, roughly.
        work_s: seconds that the work would take on the reference.
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
        self._expected: Prediction | None = None  # of the reference
        self._best = 0.0  # images a second, of the engines that can be used
        self._any = False  # whether any engine has been compared
        self.rate = self._rough_rate()
        self.work_s = passes / self.rate

    def measure(self, name: str, *, needed: bool = False) -> tuple[EngineChoice | None, EngineTrial]:
        """Open, compare and time an engine; None with the reason where it cannot be used.

        Args:
            needed: measure it whatever time it takes, as the first engine that opens.
        """
        if name == self.reference.name:
            return self._compare(self.reference)
        too_long = "" if needed or not self._any else self._too_long(name)
        if too_long:
            self.limited = True
            return None, EngineTrial(name, why_not=too_long)
        try:
            engine = open_engine(self.reference.network, name, device=self._device, threads=self._threads)
        except EngineError as error:
            return None, EngineTrial(name, why_not=str(error))
        with closing(engine):
            try:
                return self._compare(engine)
            except Exception as error:
                # A library may raise anything on its first real batch; the other engines remain.
                return None, EngineTrial(name, why_not=f"{name} failed on this network: {in_short(error)}")
            finally:
                release_memory()

    def _compare(self, engine: Engine) -> tuple[EngineChoice | None, EngineTrial]:
        if self._expected is None:
            self._expected = Runner(self.reference, self.usual)(self._compared_images())
        own = self._expected if engine is self.reference else Runner(engine, self.usual)(self._compared_images())
        agreement = Agreement.of(own.logits_BC, self._expected.logits_BC)
        self._any = True
        values = agreement.to_json()
        why_not = agreement.why_not(*self._limits)
        if why_not:
            return None, EngineTrial(engine.name, None, None, values["top1"], values["max_error"], why_not)
        batch, rate = self._fastest(engine)
        self._best = max(self._best, rate)
        row = EngineTrial(engine.name, rate, batch, values["top1"], values["max_error"])
        return EngineChoice(engine.name, batch, rate, agreement), row

    def _compared_images(self) -> np.ndarray:
        """As much of the sample as the reference computes in a fifth of the time."""
        affordable = int(SHARE * self._passes / 5)
        return self._sample[: max(_FEWEST, affordable)]

    def _left_s(self) -> float:
        """Seconds that the selection may still take; a faster engine shortens the work and so this time."""
        return SHARE * self._passes / max(self._best, self.rate) - (time.monotonic() - self._began)

    def _too_long(self, name: str) -> str:
        """Why there is no time for an engine; "" where there is."""
        family = name.rpartition("-")[0]
        once = _SET_UP_FILE_S if self.reference.network.module is None else _SET_UP_S[family]
        # It is set up twice: for the measurement and for the work.
        needs = 2 * once + len(self._compared_images()) / max(self._best, self.rate)
        left = self._left_s()
        if needs <= left:
            return ""
        return (
            f"not tried: it takes about {needs:.0f} s to set up and to compare, and {max(0.0, left):.0f} s are left of "
            f"the {SHARE:.0%} of the work that the selection may take"
        )

    def _rough_rate(self) -> float:
        images = self._images(min(self.usual, 4) if self._device == "cpu" else self.usual)
        first = _seconds(self.reference, images)
        # The first call includes what is set up only once.
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
    """Seconds of the fastest of several calls: other load on the machine only makes a call slower."""
    seconds: list[float] = []
    while sum(seconds) < spend_s or (len(seconds) < 3 and sum(seconds) < _LONG_CALL_S):
        seconds.append(_seconds(engine, images))
    return min(seconds)


def _seconds(engine: Engine, images: np.ndarray) -> float:
    began = time.perf_counter()
    engine(images)
    return time.perf_counter() - began
