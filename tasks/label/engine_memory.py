"""Speeds of engines that were measured on this kind of machine, kept across stores in `STILLROOM_HOME/engines.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

from infra.machine import machine_kind
from models.engines.trial_rule import EngineFigures
from tasks.pipeline.rates import read_file, write_entry

FILE = "engines.json"


def remember_engines(network: str, engines: Mapping[str, EngineFigures], *, device: str, threads: int) -> None:
    """Write what was measured of a network's engines; other engines of the same network stay.

    Writes like `tasks.pipeline.rates.remember_rate`.

    Args:
        network: name of its architecture, see `models.engines.experience.Experience`.
        threads: CPU threads of one pass.
    """
    machine = machine_kind(device, threads)
    known = remembered_engines(device=device, threads=threads).get(network, {})
    figures = {name: asdict(each) for name, each in {**known, **engines}.items()}
    if engines:
        write_entry(FILE, machine, network, figures)


def remembered_engines(*, device: str, threads: int) -> dict[str, dict[str, EngineFigures]]:
    """What was measured on this kind of machine, by network and engine. Writes nothing."""
    own = read_file(FILE).get(machine_kind(device, threads))
    found: dict[str, dict[str, EngineFigures]] = {}
    for network, engines in own.items() if isinstance(own, dict) else ():
        for name, values in engines.items() if isinstance(engines, dict) else ():
            figures = _figures(values)
            if figures is not None:
                found.setdefault(network, {})[name] = figures
    return found


def _figures(values: object) -> EngineFigures | None:
    if not isinstance(values, dict):
        return None
    numbers = [values.get(name) for name in ("rate", "batch", "set_up_s")]
    if not all(isinstance(each, int | float) and math.isfinite(each) and each >= 0 for each in numbers):
        return None
    rate, batch, set_up_s = (float(each or 0) for each in numbers)
    return EngineFigures(rate, max(1, int(batch)), set_up_s)
