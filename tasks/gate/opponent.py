"""The champion as the registry has it when the gate judges: whom a student is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from infra.errors import StillroomError, TransientError, UsageError
from infra.servers.mlflow_database import database_file
from infra.servers.tracking import alias_of, connect, quiet, tracking_place, tracking_uri
from infra.servers.tracking_check import check_reachable
from infra.storage.manifest import Manifest
from tasks.register.aliases import CHAMPION
from tasks.register.gate_tags import AGAINST_TAG

_STUDENT_TAG = "stillroom.student"


def best_student(report: Manifest) -> str:
    """Key of the student that a report offers.

    Raises:
        UsageError: it has none.
    """
    if report.facts["best"] is None:
        raise UsageError(f"report {report.key[:12]} has no student to register")
    return str(report.facts["best"]["key"])


@dataclass(frozen=True)
class Champion:
    """The version that serves.

    Attributes:
        held: of MLflow.
        same: it is the student that is judged.
    """

    name: str
    held: Any
    same: bool

    @property
    def version(self) -> str:
        """Its number."""
        return str(self.held.version)

    @property
    def tags(self) -> Mapping[str, str]:
        """Its tags."""
        return dict(self.held.tags)

    @property
    def against(self) -> str:
        """The version that the student is, or was, compared with, and the key of its student; "" for none.

        A student that serves already was compared with the champion before it. The key of its verdict is of that one,
        so that the same run finds the verdict again once its student was promoted.
        """
        return self.tags.get(AGAINST_TAG, "") if self.same else f"{self.version} {self.tags.get(_STUDENT_TAG, '')[:12]}"


def champion_of(name: str, student: str) -> Champion | None:
    """The champion of a registered model; None where there is none. Writes nothing.

    Args:
        student: key of the training of the student that is judged.

    Raises:
        TransientError: MLflow cannot be reached, or does not answer.
        UsageError: it refuses us, or is none.
    """
    file = database_file(tracking_uri())
    if file is not None and not file.exists():
        return None
    check_reachable()
    with answering(f"the champion of {name}"):
        client = connect()
        try:
            held = alias_of(client, name, CHAMPION)
        except Exception as error:
            # Where MLflow knows its users, it forbids to read what is not there yet, as it does what is another's.
            if getattr(error, "error_code", "") != "PERMISSION_DENIED" or _listed(client, name):
                raise
            held = None
    return None if held is None else Champion(name, held, held.tags.get(_STUDENT_TAG) == student)


def _listed(client: Any, name: str) -> bool:
    """Whether we are shown a model of that name; of another's, registering fails."""
    with quiet():
        return bool(client.search_registered_models(f"name = '{name}'", max_results=1))


@contextmanager
def answering(what: str) -> Iterator[None]:
    """A block that asks MLflow for something: its errors become ours.

    Raises:
        UsageError: MLflow does not let us read.
        TransientError: it fails in another way; the same call may succeed later.
    """
    try:
        yield
    except StillroomError:
        raise
    # Servers and databases fail with errors of many libraries.
    except Exception as error:
        code, first = getattr(error, "error_code", ""), str(error).partition("\n")[0]
        place = tracking_place()
        if code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
            raise UsageError(f"MLflow at {place} does not let us read {what} ({code}); ask who runs it") from error
        raise TransientError(f"MLflow at {place} does not tell {what}: {first}") from error
