"""Measuring the engines that can run a network here, and taking the fastest that agrees with float32.

Engines differ by up to nine times and none wins everywhere, so they are measured; but measuring is to cost about a
twentieth of the work that it speeds up. The reference is the network in float32. Every engine is first compared with
it on a sample of images, and one that disagrees is not taken however fast it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np

from models.engines.bench import Bench, usual_batch
from models.engines.choice import Choice, Tried
from models.engines.engine import FLOAT32, EngineError
from models.engines.network import Network
from models.engines.opening import missing, names, open_engine

AUTO = "auto"

SHORT_S = 5.0
"""Work of fewer seconds is done on the reference, without measuring."""

_REFERENCES = (f"eager-{FLOAT32}", f"onnxruntime-{FLOAT32}", f"openvino-{FLOAT32}")


def choose(
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
) -> Choice:
    """The engine and the batch for some work.

    Args:
        sample_NSS3: images of the work's kind, uint8 [N, S, S, 3], N at least 1; engines are compared on them.
        device: cpu or cuda.
        threads: CPU threads that one pass may use.
        passes: images that the work has; a short work is not measured for.
        engine: a family (eager, compile, openvino, onnxruntime) that alone may be taken, or auto.
        precision: float32, bfloat16 or float16, that alone may be taken, or auto.
        batch: images at once; None: measured.
        min_agreement: smallest share of the sample with the same largest logit as in float32.
        max_error: largest difference of a logit from float32, in standard deviations of the float32 logits.

    Where the family or precision asked for disagrees with float32, float32 takes its place, and `tried` says so.

    Raises:
        EngineError: what was asked for cannot run this network here; the text says why and what to install.
    """
    if not len(sample_NSS3):
        raise ValueError("engines are compared on a sample of images, and it is empty")
    able = names(network, device)
    if network.call is not None:
        return Choice(able[0], batch or usual_batch(network, device))
    reference = next((name for name in _REFERENCES if name in able), None)
    if reference is None:
        raise EngineError(f"nothing here runs ONNX files; {missing('onnxruntime')}")
    wanted = _wanted(able, engine, precision)
    if wanted == [reference] and batch is not None:
        return Choice(reference, batch)
    with closing(open_engine(network, reference, device=device, threads=threads)) as opened:
        bench = Bench(
            opened,
            sample_NSS3,
            device=device,
            threads=threads,
            passes=passes,
            batch=batch,
            limits=(min_agreement, max_error),
        )
        if reference in wanted and bench.work_s < SHORT_S:
            return Choice(reference, bench.usual, bench.rate, limited=True)
        rows, taken = _tried(bench, wanted, able)
    best = max(taken, key=lambda choice: choice.images_per_second or 0)
    return Choice(best.engine, best.batch, best.images_per_second, best.agreement, rows, bench.limited)


def _tried(bench: Bench, wanted: Sequence[str], able: Sequence[str]) -> tuple[tuple[Tried, ...], list[Choice]]:
    """All that was looked at, and what of it can be taken: at least one."""
    found = [bench.tried(name) for name in wanted]
    rows, taken = [row for _, row in found], [choice for choice, _ in found if choice is not None]
    if not taken and any(row.top1 is not None for row in rows):
        # float32 in its place: the family's where there is one that was not among those asked for.
        family = wanted[0].rpartition("-")[0]
        for name in dict.fromkeys([f"{family}-{FLOAT32}", bench.reference.name]):
            if name in able and name not in wanted and not taken:
                choice, row = bench.tried(name, needed=True)
                rows.append(row)
                if choice is not None:
                    taken = [choice]
                    rows = [
                        replace(r, why_not=f"{r.why_not}; {name} takes its place") if r.why_not else r for r in rows
                    ]
    if not taken:
        raise EngineError("; ".join(row.why_not for row in rows))
    return tuple(rows), taken


def _wanted(able: Sequence[str], engine: str, precision: str) -> list[str]:
    """The engines that may be taken; one that was asked for by both its names is tried whatever `able` says."""
    found = [
        name
        for name in able
        if engine in (AUTO, name.rpartition("-")[0]) and precision in (AUTO, name.rpartition("-")[2])
    ]
    family = engine if engine != AUTO else "eager"
    return found or [f"{family}-{precision if precision != AUTO else FLOAT32}"]
