"""MLflow: where it is, and the few calls that the stages need.

The runs of one flow run are nested: one parent run, found by the id of the flow run, and a child run for each training.

Importing mlflow costs seconds, so it is imported at the first call. Only the explicit client is used, never
the fluent API: that one asks git, reads the user's name and keeps a run per thread.
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra.errors import UsageError
from infra.servers.address import checked_http, shown, spare_loopback, without_userinfo
from infra.servers.file_lock import FileLock
from infra.servers.mlflow_database import database_file, prepare
from infra.settings import home_folder, settings

# Read by mlflow: nothing of a run leaves this machine, git is not called, and only our own progress is shown.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}

TRAINING_TAG = "stillroom.training"
"""Tag of a training's run: the key of the training."""

FLOW_RUN_TAG = "stillroom.flow_run"
"""Tag of a parent run: the id of the flow run."""

RUNS_LOCK = FileLock(lambda: home_folder() / "mlflow-runs.lock")
"""Held while runs and experiments are looked up and made: trainings start and end side by side, in processes too."""

VERSIONS_LOCK = FileLock(lambda: home_folder() / "mlflow-versions.lock")
"""Held while versions of registered models and their aliases are looked up and made."""

_PARENT_TAG = "mlflow.parentRunId"
_SOURCE = {"mlflow.source.name": "stillroom"}


def tracking_uri() -> str:
    """`STILLROOM_MLFLOW_URI`, else `MLFLOW_TRACKING_URI`, else a SQLite file under `STILLROOM_HOME`.

    User and password of an HTTP address are moved to `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`, where
    MLflow looks for them, so that no message of anybody repeats them. The address of a database keeps them: show
    `tracking_place()`.

    Raises:
        UsageError: a folder or `file:` address, which MLflow no longer maintains as a store; or no address.
    """
    machine = settings()
    uri = (machine.mlflow_uri or os.environ.get("MLFLOW_TRACKING_URI") or machine.tracking_uri).strip()
    if uri.startswith("file:") or "://" not in uri:
        raise UsageError(
            f"MLflow at {shown(uri)!r}: a file store is not supported; use sqlite:///PATH or http://HOST:PORT"
        )
    if not uri.startswith("http"):
        return uri
    name = "STILLROOM_MLFLOW_URI" if machine.mlflow_uri else "MLFLOW_TRACKING_URI"
    checked_http(uri, name, "http://HOST:5000")
    uri, userinfo = without_userinfo(uri.rstrip("/"))
    if userinfo:
        os.environ["MLFLOW_TRACKING_USERNAME"], _, os.environ["MLFLOW_TRACKING_PASSWORD"] = userinfo.partition(":")
    return uri


def tracking_place() -> str:
    """`tracking_uri()` for people and pages: without a password."""
    return shown(tracking_uri())


@contextmanager
def quiet() -> Iterator[None]:
    """mlflow without its own noise: its import and calls warn about themselves, not about us."""
    with warnings.catch_warnings():
        # Deprecations inside mlflow and what it imports; ours are raised in our own modules.
        for module in (r"mlflow(\..*)?", r"pydantic(\..*)?", r"sqlalchemy(\..*)?", r"alembic(\..*)?"):
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=module)
            warnings.filterwarnings("ignore", category=FutureWarning, module=module)
        # mlflow.types.responses says this of mlflow's own type hints when it is imported.
        warnings.filterwarnings("ignore", r".*Any type hint is inferred as AnyType", UserWarning)
        yield


def set_environment() -> None:
    """Set what mlflow reads from the environment, where nobody else did; before it is imported."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def connect() -> Any:
    """An `mlflow.MlflowClient` at `tracking_uri()`; the database and its folder are made when missing.

    Raises:
        UsageError: the database is no database of MLflow's, or of another version.
    """
    uri = tracking_uri()
    if database_file(uri) is not None:
        home_folder()
    spare_loopback()
    set_environment()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with quiet():
        from mlflow import MlflowClient

        # Its import sets the level anew; what it tells in passing is about its own steps.
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        prepare(uri, settings().artifact_root.as_uri())
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def experiment(client: Any, name: str) -> str:
    """Id of the experiment, made when missing; over SQLite its artifacts lie under `STILLROOM_HOME`.

    Raises:
        UsageError: somebody deleted it.
    """
    with RUNS_LOCK, quiet():
        found = client.get_experiment_by_name(name)
        if found is None:
            found = client.get_experiment(_new_experiment(client, name))
        if found.lifecycle_stage == "deleted":
            raise UsageError(
                f"MLflow at {shown(client.tracking_uri)}: the experiment {name!r} was deleted; restore it (`mlflow "
                f"experiments restore --experiment-id {found.experiment_id}`), or give the spec another name"
            )
        return str(found.experiment_id)


def _new_experiment(client: Any, name: str) -> str:
    from mlflow.exceptions import MlflowException

    own = client.tracking_uri.startswith("sqlite:")
    place = (settings().artifact_root / name).as_uri() if own else None
    try:
        return str(client.create_experiment(name, artifact_location=place))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        # Another machine was faster.
        return str(client.get_experiment_by_name(name).experiment_id)


def start_run(client: Any, place: str, name: str, *, tags: Mapping[str, str], flow_run: str = "") -> str:
    """Id of a new run, in state RUNNING.

    Args:
        place: id of the experiment.
        flow_run: id of the flow run; its parent run is made when missing. "": the new run has no parent.
    """
    with RUNS_LOCK, quiet():
        parent = _running_parent(client, place, flow_run)
        nested = {_PARENT_TAG: parent} if parent else {}
        return str(client.create_run(place, run_name=name, tags={**tags, **_SOURCE, **nested}).info.run_id)


def resume_run(client: Any, place: str, run_id: str, *, flow_run: str = "") -> None:
    """Set a run that was left to RUNNING; with a flow run, it becomes a child of that one's parent run."""
    with RUNS_LOCK, quiet():
        client.update_run(run_id, "RUNNING")
        parent, before = _running_parent(client, place, flow_run), _parent_of(client, run_id)
        if parent and parent != before:
            client.set_tag(run_id, _PARENT_TAG, parent)
            _end_parent(client, place, before, "KILLED")


def end_run(client: Any, place: str, run_id: str, status: str) -> None:
    """End a run as FINISHED, FAILED or KILLED, and with the last running child its parent in the same way."""
    with RUNS_LOCK, quiet():
        client.set_terminated(run_id, status)
        _end_parent(client, place, _parent_of(client, run_id), status)


def _running_parent(client: Any, place: str, flow_run: str) -> str:
    if not flow_run:
        return ""
    found = client.search_runs([place], f"tags.`{FLOW_RUN_TAG}` = '{flow_run}'", max_results=1)
    if not found:
        tags = {FLOW_RUN_TAG: flow_run, **_SOURCE}
        return str(client.create_run(place, run_name=f"retrain {flow_run[:8]}", tags=tags).info.run_id)
    client.update_run(found[0].info.run_id, "RUNNING")
    return str(found[0].info.run_id)


def _parent_of(client: Any, run_id: str) -> str:
    return str(client.get_run(run_id).data.tags.get(_PARENT_TAG, ""))


def _end_parent(client: Any, place: str, parent: str, status: str) -> None:
    """End a parent run that is still there and has no running child."""
    running = "attributes.status = 'RUNNING'"
    if not parent or not client.search_runs([place], f"attributes.run_id = '{parent}' and {running}", max_results=1):
        return
    if not client.search_runs([place], f"tags.`{_PARENT_TAG}` = '{parent}' and {running}", max_results=1):
        client.set_terminated(parent, status)


def versions(client: Any, name: str) -> list[Any]:
    """All versions of a registered model, oldest first; none when there is no such model."""
    with quiet():
        found = list(client.search_model_versions(f"name='{name}'", max_results=1000))
    return sorted(found, key=lambda version: int(version.version))


def alias_of(client: Any, name: str, alias: str) -> Any | None:
    """The version of a registered model that holds an alias, or None."""
    with quiet():
        from mlflow.exceptions import MlflowException

        try:
            return client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            # An alias that nobody holds is an invalid parameter to one backend, a missing resource to another.
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def model_source(client: Any, logged: Any) -> str:
    """What a registered version names as its source.

    Over SQLite the place of the artifacts: resolving `models:/` there would ask the process-wide tracking URI.
    """
    own = client.tracking_uri.startswith("sqlite:")
    return str(logged.artifact_location) if own else f"models:/{logged.model_id}"


def artifacts_of(client: Any, version: Any) -> str:
    """Address of the files of a registered version."""
    source = str(version.source)
    if not source.startswith("models:/"):
        return source
    # mlflow would ask the process-wide registry where that is.
    return str(client.get_logged_model(source.removeprefix("models:/")).artifact_location)


@contextmanager
def artifact_folder(source: str) -> Iterator[Path]:
    """A folder with the files at an address, for as long as the block runs: where they lie, or a copy of them."""
    with tempfile.TemporaryDirectory(prefix="stillroom-") as folder, quiet():
        from mlflow.artifacts import download_artifacts

        uri = tracking_uri()
        local = "://" not in source or source.startswith("file:")
        yield Path(download_artifacts(source, dst_path=None if local else folder, tracking_uri=uri, registry_uri=uri))
