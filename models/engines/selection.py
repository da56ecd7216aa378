"""Selection of an engine: the fastest that agrees with float32 on this kind of machine.

Engines differ by up to nine times and none is the fastest everywhere, so they are measured; the measurements are meant
to cost about a twentieth of the work that they speed up. The reference is the network in float32. Every engine is first
compared with it on a sample of images, and one that disagrees is not used however fast it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from models.engines.benchmark import EngineBenchmark, EngineChoice, EngineTrial, usual_batch
from models.engines.engine import FLOAT32, EngineError, Network
from models.engines.opening import missing, names, open_engine

AUTO = "auto"

SHORT_S = 5.0
"""Work of fewer seconds runs on the reference, without measurements."""

_REFERENCES = (f"eager-{FLOAT32}", f"onnxruntime-{FLOAT32}", f"openvino-{FLOAT32}")


def select_engine(
    network: Network,
    sample_NSS3: np.ndarray,
    *,
    device: str,
    threads: int,
    passes: int,
    engine: str = AUTO,
    precision: str = AUTO,
    batch: int | None = None,
    min_agreement: float = 0.98,
    max_error: float = 0.25,
) -> EngineChoice:
    """The engine and the batch size for some work.

    Args:
        sample_NSS3: images of the work's kind, uint8 [N, S, S, 3], N at least 1; engines are compared on them.
        device: cpu or cuda.
        threads: CPU threads that one pass may use.
        passes: images of the work; nothing is measured for short work.
        engine: the only family allowed (eager, compile, openvino, onnxruntime), or auto.
        precision: the only precision allowed (float32, bfloat16, float16), or auto.
        batch: images in one call; None: measured.
        min_agreement: smallest share of the sample with the same largest logit as in float32.
        max_error: largest difference of a logit from float32, in standard deviations of the float32 logits.

    Where the requested family or precision disagrees with float32, float32 is used instead, and `tried` says so.

    Raises:
        EngineError: the requested engine cannot run this network here; the text says why and what to install.
        ValueError: the sample is empty.
    """
    if not len(sample_NSS3):
        raise ValueError("engines are compared on a sample of images, and it is empty")
    available = names(network, device)
    if network.call is not None:
        return EngineChoice(available[0], batch or usual_batch(network, device))
    reference = next((name for name in _REFERENCES if name in available), None)
    if reference is None:
        raise EngineError(f"nothing here runs ONNX files; {missing('onnxruntime')}")
    wanted = _wanted(available, engine, precision)
    if wanted == [reference] and batch is not None:
        return EngineChoice(reference, batch)
    with closing(open_engine(network, reference, device=device, threads=threads)) as opened:
        benchmark = EngineBenchmark(
            opened,
            sample_NSS3,
            device=device,
            threads=threads,
            passes=passes,
            batch=batch,
            limits=(min_agreement, max_error),
        )
        if reference in wanted and benchmark.work_s < SHORT_S:
            return EngineChoice(reference, benchmark.usual, benchmark.rate, limited=True)
        rows, usable = _measured(benchmark, wanted, available)
    best = max(usable, key=lambda choice: choice.images_per_second or 0)
    return EngineChoice(best.engine, best.batch, best.images_per_second, best.agreement, rows, benchmark.limited)


def _measured(
    benchmark: EngineBenchmark, wanted: Sequence[str], available: Sequence[str]
) -> tuple[tuple[EngineTrial, ...], list[EngineChoice]]:
    """All engines that were considered, and those that can be used: at least one."""
    found = [benchmark.measure(name) for name in wanted]
    rows, usable = [row for _, row in found], [choice for choice, _ in found if choice is not None]
    if not usable and any(row.top1 is not None for row in rows):
        # float32 instead: of the same family where it exists and was not among those requested.
        family = wanted[0].rpartition("-")[0]
        for name in dict.fromkeys([f"{family}-{FLOAT32}", benchmark.reference.name]):
            if name in available and name not in wanted and not usable:
                choice, row = benchmark.measure(name, needed=True)
                rows.append(row)
                if choice is not None:
                    usable = [choice]
                    rows = [
                        replace(r, why_not=f"{r.why_not}; {name} is used instead") if r.why_not else r for r in rows
                    ]
    if not usable:
        raise EngineError("; ".join(row.why_not for row in rows))
    return tuple(rows), usable


def _wanted(available: Sequence[str], engine: str, precision: str) -> list[str]:
    """The engines that are allowed; one requested by family and precision is tried even if it is not `available`."""
    found = [
        name
        for name in available
        if engine in (AUTO, name.rpartition("-")[0]) and precision in (AUTO, name.rpartition("-")[2])
    ]
    family = engine if engine != AUTO else "eager"
    return found or [f"{family}-{precision if precision != AUTO else FLOAT32}"]
