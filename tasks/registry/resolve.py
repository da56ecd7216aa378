"""Which version of a registered model NAME, NAME@ALIAS or NAME/VERSION means, asked once."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from infra.errors import PermanentError, UsageError
from infra.servers.mlflow_database import database_file
from infra.servers.mlflow_errors import mlflow_errors
from infra.servers.tracking import connect, quiet, tracking_place, tracking_uri, versions
from infra.servers.tracking_check import check_reachable
from tasks.register.champion import CHAMPION
from tasks.register.upload import FILES_TAG, Files

_TARGET = re.compile(r"(?:models:/)?(?P<name>[^/@:]+)(?:@(?P<alias>[^/@:]+)|/(?P<version>[0-9]+))?")


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model; an alias may move on, this stays.

    Attributes:
        alias: that it was asked by; "" where its number was.
        location: address of its files.
    """

    name: str
    version: str
    alias: str
    run_id: str
    location: str
    tags: dict[str, str]

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.name} version {self.version}"

    @property
    def files(self) -> Files | None:
        """What the version's tag says of its files; None for a version of an older release.

        Raises:
            PermanentError: the tag is not what a registration writes.
        """
        text = self.tags.get(FILES_TAG)
        if text is None:
            return None
        try:
            found = {
                str(path): {"sha256": str(each["sha256"]), "bytes": int(each["bytes"])}
                for path, each in json.loads(text).items()
            }
        except (ValueError, TypeError, KeyError, AttributeError):
            raise PermanentError(f"{self.title}: the tag {FILES_TAG} is damaged; register the student again") from None
        return found


def resolve(target: str) -> RegisteredVersion:
    """The version that `target` means now.

    Args:
        target: NAME (its champion), NAME@ALIAS or NAME/VERSION.

    Raises:
        UsageError: there is no such model, alias or version, in words that list those there are; or the registry
            refuses us.
        TransientError: the registry cannot be reached.
    """
    found = _TARGET.fullmatch(target)
    if found is None:
        raise UsageError(f"{target!r} is neither NAME, NAME@ALIAS nor NAME/VERSION")
    file = database_file(tracking_uri())
    if file is not None and not file.is_file():
        raise UsageError(f"there is no registry at {tracking_place()}; set STILLROOM_MLFLOW_URI to its address")
    check_reachable()
    with mlflow_errors(), quiet():
        client = connect()
        name = found["name"]
        alias = "" if found["version"] else found["alias"] or CHAMPION
        held = _version(client, name, alias, found["version"])
        return RegisteredVersion(
            name=name,
            version=str(held.version),
            alias=alias,
            run_id=str(held.run_id or ""),
            location=_location(client, str(held.source)),
            tags=dict(held.tags),
        )


def _version(client: Any, name: str, alias: str, number: str | None) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = ", ".join(sorted(each.name for each in client.search_registered_models())) or "none"
        raise UsageError(f"the registry at {tracking_place()} has no model {name!r}; it has {known}") from None
    all_versions = {str(each.version): each for each in versions(client, name)}
    aliases = {each: str(version) for each, version in model.aliases.items()}
    wanted = number or aliases.get(alias)
    if wanted is None or wanted not in all_versions:
        what = f"no alias {alias!r}" if number is None else f"no version {number}"
        told = ", ".join(f"{each} (version {version})" for each, version in sorted(aliases.items())) or "none"
        raise UsageError(f"{name} has {what}; aliases: {told}; versions: {', '.join(all_versions) or 'none'}")
    return all_versions[wanted]


def _location(client: Any, source: str) -> str:
    if not source.startswith("models:/"):
        return source
    # MLflow would ask the process-wide registry where that is.
    return str(client.get_logged_model(source.removeprefix("models:/")).artifact_location)
