"""The champion as the registry has it when the gate judges: whom a student is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.errors import StillroomError, TransientError, UsageError
from infra.servers.mlflow_database import database_file
from infra.servers.tracking import alias_of, connect, tracking_place, tracking_uri
from infra.servers.tracking_check import check_reachable
from tasks.register.aliases import CHAMPION
from tasks.register.gate_tags import AGAINST_TAG

_STUDENT_TAG = "stillroom.student"


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
        held = alias_of(connect(), name, CHAMPION)
    return None if held is None else Champion(name, held, held.tags.get(_STUDENT_TAG) == student)


class answering:
    """A block that asks MLflow: its errors become ours.

    Raises:
        UsageError: MLflow does not let us read.
        TransientError: it fails in another way; the same call may succeed later.
    """

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # Servers and databases fail with errors of many libraries.
        if not isinstance(error, Exception) or isinstance(error, StillroomError):
            return
        code, first = getattr(error, "error_code", ""), str(error).partition("\n")[0]
        place = tracking_place()
        if code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
            raise UsageError(f"MLflow at {place} does not let us read {self.what} ({code}); ask who runs it") from error
        raise TransientError(f"MLflow at {place} does not tell {self.what}: {first}") from error
