"""Rates that runs measure on a machine, remembered so that a plan need not measure them again.

They are kept below `STILLROOM_HOME`: in `rates.json` by kind of machine, kind of rate and details, and in
`engines.json` the speed of inference engines by kind of machine, network and engine. The files are hints: a rate that
is lost, or that describes something else than what a plan asks for, is measured by the plan; engines that nothing is
known of are measured where that saves time.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from infra.digest import canonical_json
from infra.errors import UsageError
from infra.machine import machine_kind
from infra.settings import home_folder, settings
from infra.storage.store import LocalStore

FILE = "rates.json"
MOST = 500
"""Entries of one kind of machine in a file; beyond that the oldest are dropped."""

INGEST = "ingest images per second"
LABEL = "label images per second"
STEP = "training step seconds"

_LOCK = threading.Lock()
_log = logging.getLogger(__name__)


def remember_rate(kind: str, details: Mapping[str, Any], value: float) -> None:
    """Write a rate, in place of an earlier one with the same details.

    Of two processes that write at once one may lose its rate. A file that cannot be written is reported as a warning.

    Args:
        kind: INGEST, LABEL or STEP.
        details: from `ingest_details`, `label_details` or `step_details`; `device` and `threads` tell the machine.
        value: in the unit that the kind names; ignored unless it is positive and finite.
    """
    if not (math.isfinite(value) and value > 0):
        return
    write_entry(FILE, _machine(details), _name(kind, details), value)


def remembered_rate(kind: str, details: Mapping[str, Any]) -> float | None:
    """The rate that a run on this kind of machine measured last; None where there is none. Writes nothing."""
    own = read_file(FILE).get(_machine(details))
    value = own.get(_name(kind, details)) if isinstance(own, dict) else None
    usable = isinstance(value, int | float) and math.isfinite(value) and value > 0
    return float(value) if usable and value is not None else None


def ingest_details(corpus: str, recipe: Mapping[str, Any], *, workers: int) -> dict[str, Any]:
    """Details of an INGEST rate: images a second of all workers together.

    Args:
        corpus: its title; how fast images are read depends on how large they are.
        recipe: fields of `tasks.ingest.pixels.Recipe`.
        workers: tasks that run at once.
    """
    return {"device": "cpu", "threads": 1, "corpus": corpus, "recipe": dict(recipe), "workers": workers}


def label_details(
    model: str,
    options: Mapping[str, Any],
    *,
    size: int,
    classes: int,
    features: str | None,
    engine: str,
    precision: str,
    batch: int | None,
    device: str,
    threads: int,
) -> dict[str, Any]:
    """Details of a LABEL rate: images a second of one worker's forward passes, on the engine that it chose.

    Args:
        size: side of the network's input in pixels.
        features: which features the teacher stores; None for none.
        engine, precision, batch: as `run.label` asks for them.
        threads: CPU threads of one pass.
    """
    return {
        "model": model,
        "options": dict(options),
        "size": size,
        "classes": classes,
        "features": features,
        "engine": engine,
        "precision": precision,
        "batch": batch,
        "device": device,
        "threads": threads,
    }


def step_details(
    model: str,
    options: Mapping[str, Any],
    *,
    size: int,
    classes: int,
    batch: int,
    losses: Sequence[str],
    precision: str,
    online: int,
    device: str,
    threads: int,
) -> dict[str, Any]:
    """Details of a STEP rate: seconds from one optimiser step to the next, the time for loading included.

    Args:
        size: side of the network's input in pixels.
        batch: samples of a step, over all ranks.
        losses: names of the loss terms.
        precision: float32, bfloat16 or float16, as resolved for the device.
        online: number of teachers that see each batch.
        threads: CPU threads of the training.
    """
    return {
        "model": model,
        "options": dict(options),
        "size": size,
        "classes": classes,
        "batch": batch,
        "losses": sorted(losses),
        "precision": precision,
        "online": online,
        "device": device,
        "threads": threads,
    }


def _machine(details: Mapping[str, Any]) -> str:
    return machine_kind(details["device"], details["threads"])


def _name(kind: str, details: Mapping[str, Any]) -> str:
    return f"{kind}: {canonical_json(dict(details)).decode()}"


def write_entry(file: str, machine: str, name: str, value: object) -> None:
    """Write one entry of a file of STILLROOM_HOME, in place of an earlier one; see `remember_rate`.

    Args:
        machine: its kind, from `infra.machine.machine_kind`.
        value: of JSON.
    """
    with _LOCK:
        rates = read_file(file)
        known = rates.get(machine)
        own = {other: rate for other, rate in known.items() if other != name} if isinstance(known, dict) else {}
        own[name] = value
        rates[machine] = dict(list(own.items())[-MOST:])
        try:
            LocalStore(home_folder()).put(file, json.dumps(rates, indent=1).encode())
        except (OSError, UsageError) as error:
            _log.warning("%s: the measured rate is not remembered (%s)", settings().home / file, error)


def read_file(file: str) -> dict[str, Any]:
    """The entries of a file of STILLROOM_HOME by kind of machine; none where it cannot be read, which is logged."""
    path = settings().home.expanduser() / file
    try:
        rates = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.warning("%s cannot be read and counts as empty (%s)", path, error)
        return {}
    if not isinstance(rates, dict):
        _log.warning("%s holds no rates and counts as empty", path)
        return {}
    return rates
