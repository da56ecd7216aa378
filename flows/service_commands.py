"""The commands that keep the services of this machine: up, down, status."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click

from flows.deploy_commands import timetable_options
from flows.output import emit, json_option
from infra.errors import UsageError
from infra.lifeline import child_environment

DEVICES = "/dev/nvidia[0-9]*"


@click.command()
@click.argument("specs", nargs=-1, metavar="[SPEC]...")
@timetable_options
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--prefect-port", default=4200, show_default=True)
@click.option("--mlflow-port", default=5000, show_default=True)
@click.option("--page-port", default=4300, show_default=True, help="Of the page of links and health.")
@click.option("--dask-port", default=8786, show_default=True, help="Of Dask's scheduler.")
@click.option("--dask-page-port", default=8787, show_default=True, help="Of the page of Dask's workers and tasks.")
@click.option("--workers", type=click.IntRange(1), help="Dask workers (default: one a GPU, else one a core).")
@click.option("--threads", type=click.IntRange(1), help="Tasks that a Dask worker runs at once (default: its share).")
@click.option("--memory-limit", default="auto", show_default=True, help="Memory of a Dask worker, such as 4GiB.")
@click.option("--no-dask", is_flag=True, help="Each run starts Dask workers of its own.")
@click.option("--pool", "pools", multiple=True, help="A work pool to work for (default: stillroom-cpu, and -gpu).")
@click.option("--no-worker", is_flag=True, help="Serve the pages only; nothing that is scheduled runs.")
def up(
    specs: tuple[str, ...],
    cron: str,
    poll_minutes: float,
    verify_cron: str,
    timezone: str,
    paused: bool,
    host: str,
    prefect_port: int,
    mlflow_port: int,
    page_port: int,
    dask_port: int,
    dask_page_port: int,
    workers: int | None,
    threads: int | None,
    memory_limit: str,
    no_dask: bool,
    pools: tuple[str, ...],
    no_worker: bool,
) -> None:
    """Run Prefect, MLflow, Dask, workers and the deployments of SPECs until interrupted; one page links to all.

    Servers that run already are used: the Prefect of PREFECT_API_URL, the MLflow of STILLROOM_MLFLOW_URI or
    MLFLOW_TRACKING_URI.
    """
    from flows.deploying import CPU_POOL, GPU_POOL, read_specs
    from flows.stored_pages import stored_page
    from infra.deploy.own_dask import OwnDask
    from infra.servers.pages import Plan, Ports, serve

    if no_worker and pools:
        raise UsageError("--no-worker and --pool exclude each other")
    if no_dask and (workers or threads):
        raise UsageError("--no-dask and --workers or --threads exclude each other")
    dask = None if no_dask else OwnDask(host, dask_port, dask_page_port, workers, threads, memory_limit)
    found = read_specs(specs)
    # The GPU itself is asked for by the run; here it counts whether there may be one.
    gpu = any(Path("/").glob(DEVICES.lstrip("/")))
    chosen = () if no_worker else pools or (CPU_POOL, *([GPU_POOL] if gpu else []))
    times = ["--cron", cron, "--poll-minutes", str(poll_minutes), "--verify-cron", verify_cron, "--timezone", timezone]

    def deploy() -> None:
        if found:
            # In a process of its own: Prefect takes 150 MB that this one needs no longer.
            own = [sys.executable, "-P", "-m", "flows.cli", "deploy", *map(str, found), *times]
            own += ["--paused"] * paused + (["--work-pool", pools[0]] if len(pools) == 1 else [])
            if subprocess.run(own, env=child_environment(), check=False).returncode:
                raise UsageError("the deployments could not be made; nothing is up")

    plan = Plan(chosen, ready=deploy, stored=stored_page)
    if dask is not None:
        plan = replace(plan, more=dask.services, more_ports=dask.ports, environment=dask.environment)
    serve(host, Ports(prefect_port, mlflow_port, page_port), click.echo, plan)


@click.command()
def down() -> None:
    """Stop what `stillroom up` runs."""
    from infra.servers.pages import stop

    click.echo(stop())


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Services, recent runs (those whose process is gone are marked Crashed first), champions, next runs, stores."""
    from flows.status import current_status, status_lines

    found = current_status()
    emit(found, as_json, lambda: click.echo("\n".join(status_lines(found))))


SERVICE_COMMANDS: tuple[click.Command, ...] = (up, down, status)
