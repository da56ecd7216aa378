"""A year in an hour: retrains one after another, while images arrive and processes are killed at random.

    python -m tests.bench.soak [--runs 100] [--seed 0] [--folder FOLDER] [--quick]

`stillroom up` serves a tiny corpus; each retrain is a run of its deployment that the worker starts. Some runs are
cancelled; of others the run's process, a process of its Dask cluster, the worker, a server or `stillroom up` itself
gets SIGKILL at a random time. In the end every run must have ended in a state, nothing may be left running, a run
without faults must complete, and the store must be whole. A row a run goes to FOLDER/soak.csv; then a table for people
and one line of JSON: `{"figures": {"states", "mb_a_run", ...}, "ratios": {}}`. Exit code 1 where some of it did not
hold. SIGTERM ends it after a last run without a fault.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import signal
import sys
import tempfile
import threading
import time
import urllib.error
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.bench.soak_services import Soak, kill

FAULTS = {"none": 50, "run": 12, "dask": 10, "worker": 8, "cancel": 7, "prefect": 6, "mlflow": 5, "up": 2}
"""What happens in the middle of a run, of a hundred runs."""

OVER = threading.Event()
"""Set by SIGTERM: the run under way is the last but one."""

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
WHOLE = 0.25
"""Share of the runs that go on to export and registry; an export times its files for half a minute."""

END_SECONDS = 900.0
LEFT_SECONDS = 40.0
"""For the processes of a run to go after it ended."""


def one_run(soak: Soak, fault: str, chance: random.Random) -> dict[str, Any]:
    """A run with a fault in its middle; its row."""
    arrived = chance.choice((0, 0, 1, 3, 6))
    soak.arrive(arrived, chance)
    began = time.monotonic()
    run = started(soak, whole=chance.random() < WHOLE)
    # Uniform over what a run that trains takes; one that ended before is spared.
    delay = chance.uniform(0.0, 25.0)
    if fault != "none":
        wait_for_state(soak, run, {"RUNNING", *FINAL}, END_SECONDS)
        over = time.monotonic() + delay
        while time.monotonic() < over and state_of(soak, run) not in FINAL:
            time.sleep(1.0)
        if state_of(soak, run) in FINAL:
            fault = f"{fault} (too late)"
        else:
            strike(soak, fault, run, chance)
    wait_for_state(soak, run, FINAL, END_SECONDS)
    found = details(soak, run)
    end = time.monotonic() + LEFT_SECONDS
    while (left := soak.of_runs()) and time.monotonic() < end:
        time.sleep(0.5)
    return {
        "fault": fault,
        "after": round(delay, 1) if fault != "none" else "",
        "state": found["state"]["name"] if found else "unknown",
        "type": found["state"]["type"] if found else "unknown",
        "seconds": round(time.monotonic() - began, 1),
        "arrived": arrived,
        "images": soak.images(),
        "left": len(left),
        **soak.figures(),
        "message": " ".join(str((found or {}).get("state", {}).get("message") or "").split())[:200],
    }


def started(soak: Soak, *, whole: bool) -> dict[str, Any]:
    """A new run of the deployment, as its schedule makes one.

    Args:
        whole: up to the registry; else up to the evaluation.
    """
    deployment = soak.api.get("/deployments/name/retrain/soak")["id"]
    body: dict[str, Any] = {"state": {"type": "SCHEDULED", "name": "Scheduled"}}
    body |= {} if whole else {"parameters": {"upto": "evaluate"}}
    return dict(soak.api.post(f"/deployments/{deployment}/create_flow_run", body))


def strike(soak: Soak, fault: str, run: dict[str, Any], chance: random.Random) -> None:
    """Do to a run that goes on what a fault means."""
    if fault == "cancel":
        with suppress(OSError, AssertionError):
            soak.api.post(f"/flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING"}})
    elif fault == "up":
        soak.kill_up()
    elif fault == "run":
        for engine in soak.engines():
            kill(engine)
    elif fault == "dask":
        below: list[psutil.Process] = []
        for engine in soak.engines():
            with suppress(psutil.Error):
                below += engine.children(recursive=True)
        if below:
            kill(chance.choice(below))
    elif (service := soak.services().get(fault)) is not None:
        kill(service)


def details(soak: Soak, run: dict[str, Any]) -> dict[str, Any] | None:
    """What Prefect says of a run; None while it does not answer."""
    try:
        return dict(soak.api.get(f"/flow_runs/{run['id']}"))
    except (OSError, AssertionError, urllib.error.URLError):
        return None


def state_of(soak: Soak, run: dict[str, Any]) -> str:
    """Type of a run's state; "" while Prefect does not answer."""
    found = details(soak, run)
    return str(found["state"]["type"]) if found else ""


def wait_for_state(soak: Soak, run: dict[str, Any], states: set[str], seconds: float) -> None:
    """Return when a run is in one of the states, or after a time."""
    end = time.monotonic() + seconds
    while state_of(soak, run) not in states and time.monotonic() < end:
        time.sleep(1.0)


def growth(rows: list[dict[str, Any]]) -> dict[str, float]:
    """MB a run by which memory and files grow: the slope of a line through the second half of the runs."""
    half = rows[len(rows) // 2 :]
    found = {}
    for name in (
        "prefect_rss",
        "mlflow_rss",
        "worker_rss",
        "up_rss",
        "prefect_db",
        "mlflow_db",
        "mlflow_files",
        "store",
    ):
        points = [(number, row[name]) for number, row in enumerate(half) if name in row]
        if len(points) > 2:
            found[name] = round(float(np.polyfit(*np.array(points, dtype=float).T, 1)[0]), 3)
    return found


def wrong(soak: Soak, rows: list[dict[str, Any]]) -> list[str]:
    """What did not hold, once all runs are over; ends the services."""
    found = [f"run {n}: not ended ({row['state']})" for n, row in enumerate(rows, 1) if row["type"] not in FINAL]
    found += [f"run {n}: {row['left']} processes were left" for n, row in enumerate(rows, 1) if row["left"]]
    found += [
        f"run {n}: {row['state']} without a fault: {row['message']}"
        for n, row in enumerate(rows, 1)
        if row["fault"] == "none" and row["type"] != "COMPLETED"
    ]
    body = {"flow_runs": {"state": {"type": {"not_any_": sorted(FINAL)}}}, "limit": 200}
    found += [f"run {run['name']} stays {run['state']['name']}" for run in soak.api.post("/flow_runs/filter", body)]
    soak.down()
    found += [f"process {process.pid} is left: {' '.join(process.cmdline())[:200]}" for process in soak.processes()]
    verified = soak.command("verify", str(soak.store))
    if verified.returncode:
        found.append(f"the store is not whole: {verified.stdout[-1000:]}{verified.stderr[-1000:]}")
    return found


def measure(folder: Path, runs: int, seed: int) -> bool:
    """The soak; whether all held."""
    chance, soak, rows = random.Random(seed), Soak(folder), []
    soak.arrive(60, chance)
    began = time.monotonic()
    soak.start()
    try:
        faults = [*chance.choices(list(FAULTS), list(FAULTS.values()), k=runs - 1), "none"]
        for number, fault in enumerate(faults, 1):
            if OVER.is_set() and fault != "none":
                continue
            rows.append({"run": number, **one_run(soak, fault, chance)})
            print(json.dumps(rows[-1]), flush=True)
            write(folder / "soak.csv", rows)
            if OVER.is_set() and fault == "none":
                break
        found = wrong(soak, rows)
    finally:
        for process in soak.processes():
            kill(process)
    states: dict[str, Counter[str]] = {}
    for row in rows:
        states.setdefault(row["fault"], Counter())[row["state"]] += 1
    for fault, counted in sorted(states.items()):
        print(f"{fault:<20} {', '.join(f'{count} {state}' for state, count in counted.items())}")
    print("\n".join(found) or "every run ended in a state, nothing is left, the store is whole")
    figures = {
        "runs": len(rows),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "states": Counter(row["state"] for row in rows),
        "first": {name: value for name, value in rows[0].items() if isinstance(value, float)},
        "last": {name: value for name, value in rows[-1].items() if isinstance(value, float)},
        "mb_a_run": growth(rows),
        "wrong": len(found),
    }
    print(json.dumps({"figures": figures, "ratios": {}}))
    return not found


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """The rows as CSV."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(rows)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="two runs")
    given = parser.parse_args()
    runs = 2 if given.quick else given.runs
    signal.signal(signal.SIGTERM, lambda *_: OVER.set())
    if given.folder is not None:
        held = measure(given.folder, runs, given.seed)
    else:
        with tempfile.TemporaryDirectory() as folder:
            held = measure(Path(folder), runs, given.seed)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
