"""MLflow's pages for browsers: of an experiment, of runs, of a registered version."""

from __future__ import annotations

from urllib.parse import quote

from infra.servers.services import noted_services
from infra.servers.tracking import FLOW_RUN_TAG, connect, quiet, tracking_place, tracking_uri


def tracking_page() -> str | None:
    """Where MLflow's pages are: the configured server, or that of `stillroom up`; None where there is none."""
    if tracking_uri().startswith("http"):
        return tracking_place()
    return (noted_services() or {}).get("mlflow")


def experiment_page(name: str) -> str:
    """The page of all runs of a spec; where there are no pages, the place of the database."""
    base = tracking_page()
    return tracking_place() if base is None else f"{base}/#/experiments/{_experiment(name)}"


def run_page(name: str, run_id: str) -> str:
    """The page of a run of an experiment; where there are no pages, its id."""
    base = tracking_page()
    return f"run {run_id}" if base is None else f"{base}/#/experiments/{_experiment(name)}/runs/{run_id}"


def run_pages(name: str, flow_run: str) -> list[tuple[str, str]]:
    """The page of the parent run that holds all trainings of a flow run; none where it trained nothing."""
    client = connect()
    with quiet():
        found = client.search_runs([_experiment(name)], f"tags.`{FLOW_RUN_TAG}` = '{flow_run}'", max_results=1)
    return [("MLflow: trainings of this run", run_page(name, run.info.run_id)) for run in found]


def model_page(name: str, version: str) -> str:
    """The page of a registered version; where there are no pages, its name."""
    base = tracking_page()
    return f"{name}/{version}" if base is None else f"{base}/#/models/{quote(name, safe='')}/versions/{version}"


def _experiment(name: str) -> str:
    client = connect()
    with quiet():
        return str(client.get_experiment_by_name(name).experiment_id)
