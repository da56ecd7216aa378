"""How long each exported format takes on this machine, and whether that makes int8 worth offering."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from infra.errors import CancelledError
from models.augmentation.plain_view import to_input
from models.export.latency import (
    OPENVINO,
    TORCH,
    Latency,
    Run,
    cores,
    interleaved,
    onnx_run,
    onnx_runtimes,
    torch_run,
)
from models.networks.weight_files import load_pt2
from tasks.data.export_formats import PT2

BATCHES = (1, 32)
SECONDS = 0.25
"""Of measuring one format in one runtime, one image at a time on one thread: these times decide about int8."""

TOLD = 0.4
"""Share of those seconds for each other batch size and number of threads, whose times are only told."""

FASTER, SMALLER = 0.95, 0.75
"""int8 counts as faster, as smaller, from this share of float32's time, of its bytes on."""


def timings(
    formats: Mapping[str, bytes],
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    stop: Callable[[], bool],
    seconds: float = SECONDS,
) -> dict[str, list[Latency]]:
    """Latencies of every format at each of `BATCHES` on one thread and on all; all formats in turns.

    Args:
        formats: the bytes of each.
        size: side of the input in pixels.
        mean, std: of the input of the `.pt2` archive, which is normalised outside of what is measured.
        stop: asked between measurements.
        seconds: as `SECONDS`.

    Raises:
        CancelledError: the run was asked to stop.
    """
    found: dict[str, list[Latency]] = {name: [] for name in formats}
    networks = {name: load_pt2(data) for name, data in formats.items() if name == PT2}
    before = torch.get_num_threads()
    try:
        for threads in sorted({1, cores()}):
            torch.set_num_threads(threads)
            for batch in BATCHES:
                if stop():
                    raise CancelledError("stopped on request")
                runs = _runs(formats, networks, batch, size, mean, std, threads)
                own = seconds if batch == threads == 1 else TOLD * seconds
                for (name, runtime), taken in interleaved(runs, seconds=own).items():
                    found[name].append(Latency.of(batch, threads, runtime, taken))
    finally:
        torch.set_num_threads(before)
    return found


def _runs(
    formats: Mapping[str, bytes],
    networks: Mapping[str, torch.nn.Module],
    batch: int,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    threads: int,
) -> dict[tuple[str, str], Run]:
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), np.uint8)
    runs: dict[tuple[str, str], Run] = {}
    for name, data in formats.items():
        if name in networks:
            runs[name, TORCH] = torch_run(networks[name], to_input(images, size, mean, std))
            continue
        for runtime in onnx_runtimes():
            runs[name, runtime] = onnx_run(data, runtime, images, threads)
    return runs


def fastest(rows: Sequence[Latency]) -> Latency:
    """The row of the least median at batch 1 on one thread."""
    return min((row for row in rows if (row.batch, row.threads) == (1, 1)), key=lambda row: row.median_ms)


@dataclass(frozen=True)
class Offer:
    """Whether a format ships with the student, and why."""

    offered: bool
    why: str


def int8_offer(
    beyond: str, plain: Sequence[Latency], own: Sequence[Latency], *, plain_bytes: int, own_bytes: int
) -> Offer:
    """Whether int8 ships: within its bounds, and faster or smaller than float32 ONNX.

    Args:
        beyond: what is beyond its bounds (`tasks.export.parity.Parity.beyond`).
        plain, own: latencies of float32 and int8.
    """
    least, best = fastest(plain), fastest(own)
    faster = best.median_ms <= FASTER * least.median_ms
    smaller = own_bytes <= SMALLER * plain_bytes
    speed = (
        f"{'faster' if faster else 'not faster'}: {best.median_ms:.3g} ms in {best.runtime}, float32 "
        f"{least.median_ms:.3g} ms in {least.runtime}"
    )
    size = f"{'smaller' if smaller else 'not smaller'}: {own_bytes / 1000:.0f} kB, float32 {plain_bytes / 1000:.0f} kB"
    parts = [speed, size]
    if OPENVINO not in onnx_runtimes():
        parts.append("OpenVINO is not installed and was not measured")
    if beyond:
        return Offer(False, "; ".join([beyond, *parts]))
    return Offer(faster or smaller, "; ".join(parts))
