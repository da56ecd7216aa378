"""The files of a registered model: their digests, and their way into MLflow's artifact store, each read back.

The digests become a tag of the version, so that whoever takes the model away can tell that it is the one registered.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from infra.digest import sha256_file
from infra.errors import TransientError
from infra.servers.mlflow_errors import retried
from infra.servers.tracking import quiet, tracking_uri

FILES_TAG: Final = "stillroom.files"
"""Tag of a version: JSON {path: {"sha256", "bytes"}} of every file of its model."""

Files = dict[str, dict[str, Any]]


def files_of(folder: Path) -> Files:
    """{relative path: {"sha256", "bytes"}} of every file below a folder, by path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in paths
    }


def files_tag(files: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The tag of a version that names its files."""
    return {FILES_TAG: json.dumps(files, sort_keys=True, separators=(",", ":"))}


def repository_of(location: str) -> Any:
    """MLflow's access to the files below an address, such as that of a logged model."""
    with quiet():
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        uri = tracking_uri()
        return get_artifact_repository(location, tracking_uri=uri, registry_uri=uri)


def upload(location: str, folder: Path) -> Files:
    """Copy a model's folder to its place in the artifact store; every file is read back and compared.

    Returns:
        what was uploaded, as `files_of`.

    Raises:
        TransientError: the server or store cannot be reached, fails, or holds other bytes than it was given; the file
            is named.
        UsageError: it refuses us.
    """
    repository = repository_of(location)
    files = files_of(folder)
    with quiet(), tempfile.TemporaryDirectory(prefix="stillroom-") as back:
        for path, known in files.items():
            retried(lambda path=path, known=known: _put(repository, folder, path, known, Path(back)))  # type: ignore[misc]
    return files


def _put(repository: Any, folder: Path, path: str, known: Mapping[str, Any], back: Path) -> None:
    above = path.rpartition("/")[0]
    repository.log_artifact(str(folder / path), above or None)
    found = Path(repository.download_artifacts(path, str(back)))
    stored, digest = found.stat().st_size, sha256_file(found)
    found.unlink()
    if (stored, digest) != (known["bytes"], known["sha256"]):
        raise TransientError(
            f"the artifact store does not hold {path} as it was uploaded: {stored} bytes, sha256 {digest[:12]}, "
            f"instead of {known['bytes']} bytes, {known['sha256'][:12]}"
        )
