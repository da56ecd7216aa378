"""Which weights a spec means: a file, a packaged file, a stored object or a registered student."""

from __future__ import annotations

import json
import re
from pathlib import Path

from infra.digest import sha256_file
from infra.errors import UsageError
from infra.storage.store import MissingObjectError, Store
from tasks.data.weights import IN_STORE, PYPI, WeightsRef, deposit, packaged_weights
from tasks.spec import ModelSection
from tasks.teachers.registry import registered

REGISTERED = "models:/"


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
    path = packaged_weights(model) if weights == PYPI else Path(weights)
    if not path.is_file():
        raise UsageError(f"weights of {model}: there is no file {path}")
    sha = sha256_file(path)
    return WeightsRef(weights, sha, sha)


def weights_id(section: ModelSection, store: Store) -> str:
    """Identity of the weights that a section names; empty for random ones. Errors as `find_weights`."""
    return find_weights(section.weights, section.model, store).id


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
