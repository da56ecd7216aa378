"""What is expected of an engine on a network: from other networks on this kind of machine, or from the same one.

Before anything is measured the expectation is a general one. Each network measured on the machine moves it, because
how engines compare depends on the processor and its libraries more than on the network; a network of the same
architecture settles it. Only speed is remembered so: agreement with float32 depends on weights and images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from models.engines.engine import FLOAT32
from models.engines.trial_rule import EngineFigures, Prospect

# Ratio to eager float32, and seconds to set up a network of medium size on one core. EfficientNet-Lite0 on an EPYC of
# the third generation: OpenVINO 1.86 after 4.1 s, ONNX Runtime 2.07 after 21.7 s (tests.bench.engine_figures); on
# another machine both 1.5 to 2. Of low precisions and GPUs there are rough figures alone.
_RATIO = {
    "cpu": {
        "eager-bfloat16": 1.4,
        "openvino-float32": 1.8,
        "openvino-bfloat16": 2.2,
        "onnxruntime-float32": 1.9,
        "compile-float32": 1.1,
        "compile-bfloat16": 1.5,
    },
    "cuda": {
        "eager-bfloat16": 1.8,
        "eager-float16": 1.8,
        "onnxruntime-float32": 1.0,
        "compile-float32": 1.2,
        "compile-bfloat16": 2.2,
        "compile-float16": 2.2,
    },
}
_SET_UP_S = {"eager": 0.5, "openvino": 5.0, "onnxruntime": 18.0, "compile": 60.0, "call": 0.0}
_SET_UP_FILE_S = 2.0  # a file needs no tracing

# Chance that an engine opens and agrees.
_CHANCE = {"eager": 1.0, "openvino": 0.95, "onnxruntime": 0.95, "compile": 0.9, "call": 1.0}
_CHANCE_LOWER = 0.85
_CHANCE_AFTER_FAILURE = 0.1  # memory was short, or a compiler was missing that may be there now

# Standard deviations of the logarithm of a ratio: of a machine about the general expectation, of a network about its
# machine's mean, and of one measurement.
_MACHINE, _NETWORK, _MEASUREMENT = 0.35, 0.3, 0.05


@dataclass(frozen=True)
class Experience:
    """What was measured on this kind of machine.

    Attributes:
        network: name of the architecture that engines are to be chosen for; "" for one that has no name.
        measured: by name of an architecture, by engine.
    """

    network: str = ""
    measured: Mapping[str, Mapping[str, EngineFigures]] = field(default_factory=dict)

    def own(self, engine: str) -> EngineFigures | None:
        """What is known of an engine on this architecture."""
        return self.measured.get(self.network, {}).get(engine) if self.network else None

    def prospect(self, engine: str, reference: str, *, device: str, file: bool) -> Prospect:
        """What is expected of an engine.

        Args:
            reference: the engine that ratios refer to.
            device: cpu or cuda.
            file: the network is an ONNX file.
        """
        family, _, precision = engine.rpartition("-")
        chance = _CHANCE.get(family, 1.0) * (1.0 if precision == FLOAT32 else _CHANCE_LOWER)
        own, base = self.own(engine), self.own(reference)
        if own is not None and own.rate <= 0:
            chance = _CHANCE_AFTER_FAILURE
        elif own is not None and base is not None and base.rate > 0:
            return Prospect(engine, own.rate / base.rate, _MEASUREMENT, own.set_up_s, chance)
        ratios, set_ups = self._others(engine, reference)
        table = _RATIO.get(device, {})
        general = math.log(table.get(engine, 1.0) / table.get(reference, 1.0))
        # Normal prior for the machine's mean, a normal observation a network: the predictive distribution.
        weight, each = 1 / _MACHINE**2, 1 / (_NETWORK**2 + _MEASUREMENT**2)
        precision_sum = weight + each * len(ratios)
        mean = (weight * general + each * sum(ratios)) / precision_sum
        spread = math.sqrt(1 / precision_sum + _NETWORK**2)
        set_up_s = _SET_UP_FILE_S if file else _SET_UP_S.get(family, 0.0)
        return Prospect(engine, math.exp(mean), spread, median(set_ups) if set_ups and not file else set_up_s, chance)

    def _others(self, engine: str, reference: str) -> tuple[list[float], list[float]]:
        """Logarithms of ratios and seconds of setting up, of other architectures."""
        ratios, set_ups = [], []
        for name, engines in self.measured.items():
            found, base = engines.get(engine), engines.get(reference)
            if name != self.network and found is not None and base is not None and min(found.rate, base.rate) > 0:
                ratios.append(math.log(found.rate / base.rate))
                set_ups.append(found.set_up_s)
        return ratios, set_ups
