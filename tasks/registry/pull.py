"""Pull: the files of a registered version as a folder, each compared with what was registered, all of them or none."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from infra.digest import sha256_file
from infra.disk_errors import disk_errors
from infra.errors import CorruptError, PermanentError, UsageError
from infra.servers.mlflow_errors import mlflow_errors, retried
from infra.servers.tracking import quiet
from tasks.register.upload import Files, files_of, repository_of
from tasks.registry.resolve import RegisteredVersion, resolve

NOTE = "version.json"
"""File of a pulled folder: what it holds."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PulledVersion:
    """What a pulled folder holds; `version.json` says it.

    Attributes:
        alias: that it was asked by; "" where its number was.
        verified: every file was compared with what the registry says of it.
        files: {path: {"sha256", "bytes"}}.
    """

    name: str
    version: str
    alias: str
    run_id: str
    verified: bool
    files: Files

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


def pull(
    target: str, folder: Path, *, unverified: bool = False, progress: Progress | None = None
) -> tuple[PulledVersion, bool]:
    """Make `folder` of a registered version.

    Args:
        target: NAME (its champion), NAME@ALIAS or NAME/VERSION; asked once.
        unverified: take a version that was registered before its files' digests were.
        progress: called with (bytes written, bytes to write).

    Returns:
        what the folder holds, and whether it was there already.

    Raises:
        UsageError: no such version; it has no digests; or the folder holds something else.
        CorruptError: a file is not the one registered, in the artifact store or in the folder that is there already.
        PermanentError: the artifact store lacks a file, or has one that was not registered.
        TransientError: registry or artifact store cannot be reached.
        DiskError: the folder cannot be written.
    """
    held = resolve(target)
    expected = held.files
    if expected is None and not unverified:
        raise UsageError(
            f"{held.title} was registered by a release that noted no digests, so nobody can tell whether its files "
            "are those registered; register the student again, or take it as it is with --unverified"
        )
    found = _there(folder, held)
    if found is not None:
        return found, True
    target_folder = folder.absolute()
    with disk_errors(target_folder.parent):
        target_folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that the rename stays on one disk.
        part = target_folder.parent / f".{target_folder.name}.part-{uuid.uuid4().hex}"
        part.mkdir()
        try:
            files = _download(held, expected, part, progress or (lambda done, total: None))
            note = PulledVersion(held.name, held.version, held.alias, held.run_id, expected is not None, files)
            text = json.dumps(note.to_json(), indent=1, sort_keys=True)
            (part / NOTE).write_text(f"{text}\n", encoding="utf-8")
            _rename(part, target_folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return note, False


def read_note(folder: Path) -> PulledVersion:
    """What `pull` wrote into a folder.

    Raises:
        UsageError: it is no pulled folder.
    """
    try:
        return PulledVersion(**json.loads((folder / NOTE).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {NOTE}; make it with `stillroom pull NAME --to {folder}`") from None
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{folder / NOTE} cannot be read ({error}); pull the version again") from None


def check_files(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare a folder's files with their digests.

    Raises:
        CorruptError: one is missing or another; it is named.
    """
    for path, known in files.items():
        file = folder / path
        if not file.is_file():
            raise CorruptError(f"{file}: not there any more; remove {folder} and pull the version again")
        if (file.stat().st_size, sha256_file(file)) != (known["bytes"], known["sha256"]):
            raise CorruptError(f"{file}: changed since it was pulled; remove {folder} and pull the version again")


def _there(folder: Path, held: RegisteredVersion) -> PulledVersion | None:
    """What the folder holds where that is the version; None where there is nothing."""
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise UsageError(f"--to {folder}: a file of that name is there")
    if not any(folder.iterdir()):
        return None
    if not (folder / NOTE).is_file():
        raise UsageError(f"--to {folder}: the folder is not empty; name another one")
    note = read_note(folder)
    if (note.name, note.version) != (held.name, held.version):
        raise UsageError(
            f"--to {folder}: it holds {note.name} version {note.version}, and {held.title} was asked for; name another "
            "folder, or remove that one"
        )
    check_files(folder, held.files or note.files)
    return note


def _download(held: RegisteredVersion, expected: Files | None, part: Path, progress: Progress) -> Files:
    repository = repository_of(held.location)
    with quiet(), mlflow_errors():
        listed = _listed(repository)
    for path in [*listed, *(expected or {})]:
        pure = PurePosixPath(path)
        if pure.is_absolute() or not pure.parts or ".." in pure.parts or path == NOTE:
            raise PermanentError(f"{held.title}: {path!r} is no name of a model's file")
    found: Files = {path: {"sha256": "", "bytes": size} for path, size in listed.items()}
    wanted = found if expected is None else expected
    if not wanted:
        raise PermanentError(f"{held.title}: the artifact store has none of its files")
    if missing := sorted(set(wanted) - set(listed)):
        raise PermanentError(f"{held.title}: the artifact store lacks {', '.join(missing)}; register the student again")
    if strange := sorted(set(listed) - set(wanted)):
        raise PermanentError(
            f"{held.title}: the artifact store has {', '.join(strange)}, which nobody registered; remove it there"
        )
    total, done = sum(each["bytes"] for each in wanted.values()), 0
    progress(0, total)
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=part) as scratch:
        for path, known in wanted.items():
            _fetch(repository, held, path, known, Path(scratch), part / path)
            done += known["bytes"]
            progress(done, total)
    return files_of(part)


def _listed(repository: Any) -> dict[str, int]:
    """Path to size in bytes of every file of a model."""
    found: dict[str, int] = {}
    folders: list[str | None] = [None]
    while folders:
        for each in repository.list_artifacts(folders.pop()):
            if each.is_dir:
                folders.append(each.path)
            else:
                found[each.path] = int(each.file_size or 0)
    return found


def _fetch(
    repository: Any, held: RegisteredVersion, path: str, known: Mapping[str, Any], scratch: Path, place: Path
) -> None:
    for _ in range(2):  # a transfer may bring wrong bytes; twice the same is what lies there
        with quiet():
            found = Path(retried(lambda: repository.download_artifacts(path, str(scratch))))
        size, digest = found.stat().st_size, sha256_file(found)
        if not known["sha256"] or (size, digest) == (known["bytes"], known["sha256"]):
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(found, place)
            return
    raise CorruptError(
        f"{held.title}: {path} in the artifact store is not the file that was registered ({size} bytes, sha256 "
        f"{digest[:12]}, instead of {known['bytes']} bytes, {known['sha256'][:12]}); nothing was written"
    )


def _rename(part: Path, folder: Path) -> None:
    try:
        os.rename(part, folder)
    except OSError:
        if not folder.exists():
            raise
        raise UsageError(f"--to {folder}: somebody else wrote it meanwhile; run again") from None
