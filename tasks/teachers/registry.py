"""Registered students as teachers: an alias or version of the model registry to a graph and what it must be fed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.errors import UsageError
from infra.servers.tracking import alias_of, connect, quiet, tracking_uri
from tasks.data.weights import WeightsRef, deposited

SUFFIX = ".pt2"
_LOGGED = "models:/"


@dataclass(frozen=True)
class Registered:
    """One version of a registered student; an alias may move on, this stays."""

    version: str  # models:/NAME/VERSION
    source: str  # address of its artifacts
    weights: WeightsRef  # its exported graph
    about: Mapping[str, Any]  # classes, task, input_size, mean, std, as it was registered

    @contextmanager
    def fetched(self) -> Iterator[Path]:
        """A local copy of its graph."""
        with _artifacts(self.source) as folder:
            yield _graph(folder, self.version)[0]


def registered(target: str) -> Registered:
    """Resolve NAME@ALIAS or NAME/VERSION.

    Raises:
        UsageError: no such model, alias or version, or one that Stillroom did not register.
    """
    uri = tracking_uri()
    missing = UsageError(f"the model registry at {uri} has no models:/{target}")
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise missing
    client = connect()
    held = _version(client, target, missing)
    version, source = f"models:/{held.name}/{held.version}", str(held.source)
    if source.startswith(_LOGGED):
        # mlflow would ask the process-wide registry where that is.
        source = str(client.get_logged_model(source.removeprefix(_LOGGED)).artifact_location)
    with _artifacts(source) as folder:
        path, about = _graph(folder, version)
        return Registered(version, source, deposited(path, SUFFIX), about)


def _version(client: Any, target: str, missing: UsageError) -> Any:
    name, at, alias = target.partition("@")
    if at:
        held = alias_of(client, name, alias)
        if held is None:
            raise missing
        return held
    name, _, number = target.rpartition("/")
    with quiet():
        from mlflow.exceptions import MlflowException

        try:
            return client.get_model_version(name, number)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise missing from error
            raise


@contextmanager
def _artifacts(source: str) -> Iterator[Path]:
    """A folder with the files of a version: where they lie, or a copy of them."""
    with tempfile.TemporaryDirectory(prefix="stillroom-") as folder, quiet():
        from mlflow.artifacts import download_artifacts

        uri = tracking_uri()
        local = "://" not in source or source.startswith("file:")
        yield Path(download_artifacts(source, dst_path=None if local else folder, tracking_uri=uri, registry_uri=uri))


def _graph(folder: Path, version: str) -> tuple[Path, Mapping[str, Any]]:
    with quiet():
        from mlflow.exceptions import MlflowException
        from mlflow.models import Model

        try:
            model = Model.load(str(folder))
            graph = folder / model.flavors["python_function"]["artifacts"]["network"]["path"]
            about = {name: model.metadata[name] for name in ("classes", "task", "input_size", "mean", "std")}
        except (MlflowException, KeyError, TypeError) as error:
            raise UsageError(f"{version} is no student that `stillroom register` made: {error}") from error
    return graph, about
