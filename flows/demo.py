"""The demo: the whole line on both built-in phantom corpora, and a table of what came out.

Phantoms prove the plumbing, not medicine; the table says so.
"""

from __future__ import annotations

import importlib.resources
import os
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import click

from flows.interrupts import Interrupts
from flows.running import quiet_console, run_followed
from infra.compute.cluster import Cluster
from infra.compute.cluster_spec import ClusterSection
from infra.settings import reload_settings
from tasks.evaluate.headline import gap_text
from tasks.pipeline.surroundings import Surroundings

CORPORA = ("phantom-fundus", "phantom-endoscopy")


def run_demo(out: Path) -> dict[str, Any]:
    """Run `retrain` on both phantom corpora, side by side on one cluster; everything lies below `out`.

    A second call finds every stage cached.
    """
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("STILLROOM_HOME", str(out / "home"))
    reload_settings()
    from infra.servers.prefect_api import prefect_api

    specs = {name: _spec_file(name, out) for name in CORPORA}
    with prefect_api() as url, Cluster(ClusterSection()) as cluster:
        runs = _side_by_side(specs, cluster, url)
    return {"out": str(out), "home": os.environ["STILLROOM_HOME"], "runs": runs}


def _side_by_side(specs: dict[str, Path], cluster: Cluster, url: str) -> dict[str, dict[str, Any]]:
    """Run every spec in a thread of its own; raises the first error once all have ended."""
    quiet_console()
    from flows.terminal import NamedListener, TerminalListener
    from infra.servers.flow_runs import mark_cancelled, mark_dead_runs_crashed
    from infra.servers.process_tag import process_tag
    from infra.servers.tracking import connect

    mark_dead_runs_crashed()
    connect()  # makes MLflow's database once, before two runs would
    terminal = TerminalListener()
    terminal.message(f"retrain {' and '.join(specs)}  (Prefect {url.removesuffix('/api')})")
    with Interrupts(lambda: mark_cancelled(process_tag())) as interrupts, ThreadPoolExecutor(len(specs)) as pool:
        futures = {
            name: pool.submit(
                run_followed,
                "retrain",
                spec,
                [],
                Surroundings(NamedListener(terminal, name), cluster, interrupts.requested),
            )
            for name, spec in specs.items()
        }
        try:
            wait(futures.values())
        finally:
            terminal.close()
    return {name: future.result() for name, future in futures.items()}


def _spec_file(name: str, out: Path) -> Path:
    """A copy of the packaged spec in `out`: a newcomer may change it and run it alone."""
    path = out / f"{name}.yaml"
    if not path.exists():
        packaged = importlib.resources.files("flows").joinpath("specs", f"{name}.yaml")
        path.write_text(packaged.read_text(encoding="utf-8"), encoding="utf-8")
    return path


def show_demo(found: dict[str, Any]) -> None:
    """The comparison of both corpora, and where to look."""
    for name, run in found["runs"].items():
        results = run["results"]["evaluate"]
        metric, images = results["metric"], results["images"]["test"]
        click.echo(f"\n{name}: {metric} on {images} test images, mean over seeds [95 % interval over patients]")
        click.echo(f"  {'':<28} {metric:<24} gap closed")
        for title, row in sorted(results["arms"].items(), key=_position):
            figure = _figure(row["values"][metric], row["interval"].get(metric))
            click.echo(f"  {title:<28} {figure:<24} {gap_text(results, title)}")
        if results["task"] == "single":
            click.echo(f"  {'chance':<28} {1 / len(results['classes']):6.3f}")
        for arm, gain in results["differences"].items():
            click.echo(f"  {f'{arm} minus labels_only':<28} {_figure(gain['value'], gain['interval'])}")
            click.echo(f"  {'  each seed':<28} {', '.join(f'{value:+.3f}' for value in gain['per_seed'])}")
            click.echo(f"  {'  t interval over seeds':<28} {_span(gain['t_interval'])}")
        for line in results["headline"]:
            click.echo(f"  {line}")
        version = run["results"]["register"]
        click.echo(f"  model  {version['name']} version {version['version']} ({', '.join(version['aliases'])})")
        click.echo(f"  report {run['report']}")
    states = [stage["state"] for run in found["runs"].values() for stage in run["stages"]]
    click.echo(f"\n{states.count('Cached')} of {len(states)} stages were found in the store.")
    click.echo("Phantoms are drawn by code: they prove the plumbing, not medicine.")
    click.echo(f"Pages of Prefect and MLflow: STILLROOM_HOME={found['home']} {sys.argv[0]} up")


def _position(row: tuple[str, Any]) -> int:
    """Students first, then teachers, then what needs no medicine."""
    order = ("taught", "", "labels_only", "teacher", "thumbnails", "borders", "majority")
    kind = row[0].partition(":")[0]
    return order.index(kind if kind in order else "")


def _figure(value: float | None, interval: list[float] | None) -> str:
    return "undefined" if value is None else f"{value:6.3f} {_span(interval)}"


def _span(interval: list[float] | None) -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""
