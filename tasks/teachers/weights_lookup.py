"""Which weights a spec means: a file, a packaged file, a stored object or a registered student."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.digest import sha256_file
from infra.errors import UsageError
from infra.servers.tracking import alias_of, artifact_folder, artifacts_of, connect, quiet, tracking_place, tracking_uri
from infra.storage.store import MissingObjectError, Store
from tasks.data.weights import IN_STORE, PYPI, WeightsRef, copy_to_store, packaged_weights, stored_ref

REGISTERED = "models:/"
SUFFIX = ".pt2"


def find_weights(weights: str | None, model: str, store: Store, *, upload: bool = True) -> WeightsRef:
    """Resolve a spec's `weights` for `model`.

    Args:
        upload: copy the file of a registered student into the store, unless it is there, so that workers need no
            registry; without it nothing is written. An alias is resolved to the version that it names now.

    Raises:
        UsageError: no such file, object, package or registered student.
    """
    if weights is None:
        return WeightsRef("", "", "")
    student = registered_weights(weights, model)
    if student is not None:
        if upload:
            student.upload(store)
        return student.weights
    if weights.startswith(IN_STORE):
        return _stored(weights.removeprefix(IN_STORE), store)
    path = packaged_weights(model) if weights == PYPI else Path(weights)
    if not path.is_file():
        raise UsageError(f"weights of {model}: there is no file {path}")
    sha = sha256_file(path)
    return WeightsRef(weights, sha, sha)


def registered_weights(weights: str | None, model: str) -> RegisteredStudent | None:
    """The registered student that a spec's `weights` name; None where they name something else.

    Raises:
        UsageError: no such model, alias or version, or not written as models:/NAME@ALIAS or models:/NAME/VERSION.
    """
    if weights is None or not weights.startswith(REGISTERED):
        return None
    if re.fullmatch(rf"{REGISTERED}[^/@:]+(@[^/@:]+|/[0-9]+)", weights) is None:
        raise UsageError(
            f"weights of {model}: {weights} is neither {REGISTERED}NAME@ALIAS nor {REGISTERED}NAME/VERSION"
        )
    try:
        return find_registered(weights.removeprefix(REGISTERED))
    except UsageError as error:
        raise UsageError(f"weights of {model}: {error}") from error


def _stored(name: str, store: Store) -> WeightsRef:
    # The id of an object that a stage made is its unit's key, so that naming it and training it are the same teacher.
    for manifest in sorted(store.sizes("manifests/")):
        for output in json.loads(store.get(manifest)).get("outputs", []):
            if output["name"] == name:
                return WeightsRef(f"{IN_STORE}{name}", output["id"], output["sha256"])
    try:
        sha = sha256_file(store.local_path(name))
    except MissingObjectError as error:
        raise UsageError(f"weights {IN_STORE}{name}: {error}") from error
    return WeightsRef(f"{IN_STORE}{name}", sha, sha)


@dataclass(frozen=True)
class RegisteredStudent:
    """One version of a registered student; an alias may move on, this stays."""

    version: str  # models:/NAME/VERSION
    source: str  # address of its artifacts
    weights: WeightsRef  # its exported graph
    metadata: Mapping[str, Any]  # classes, task, input_size, mean, std, as it was registered

    def upload(self, store: Store) -> None:
        """Copy its graph into the store, unless it is there.

        Raises:
            CorruptError: the graph changed since the version was resolved.
        """
        with self.file() as graph:
            copy_to_store(self.weights, graph, store)

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Its exported graph as a local file, for as long as the block runs."""
        with artifact_folder(self.source) as folder:
            yield _graph(folder, self.version)[0]


def find_registered(target: str) -> RegisteredStudent:
    """Resolve NAME@ALIAS or NAME/VERSION.

    Raises:
        UsageError: no such model, alias or version, or one that Stillroom did not register.
    """
    uri = tracking_uri()
    missing = UsageError(f"the model registry at {tracking_place()} has no models:/{target}")
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise missing
    client = connect()
    held = _version(client, target, missing)
    version, source = f"models:/{held.name}/{held.version}", artifacts_of(client, held)
    with artifact_folder(source) as folder:
        path, about = _graph(folder, version)
        return RegisteredStudent(version, source, stored_ref(path, SUFFIX), about)


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
