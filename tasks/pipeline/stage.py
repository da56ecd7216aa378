"""The contract of a stage: key, lookup, missing units, making them, commit (DESIGN: Identity).

A stage's folder holds one subclass of `StageWork` and a `Stage` that says how it is bound to its inputs. `run_stage`
is the only way a stage runs; `flows/line.py` is the only place that says which stage waits for which.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

from infra.disk_errors import disk_error
from infra.errors import CancelledError
from infra.storage.manifest import Manifest
from tasks.pipeline.context import Context


class UnitCount(NamedTuple):
    """Units of a stage that are in the store, and all of them; (0, 0) where a stage is one unit."""

    done: int
    total: int


@dataclass(frozen=True)
class Made:
    """What a stage made, before it is committed.

    Attributes:
        manifest: names every output, those found included.
        made: outputs (or units) made now.
        total: all of them.
        samples: samples of what was made now, where the stage counts them.
    """

    manifest: Manifest
    made: int
    total: int
    samples: int = 0


@dataclass(frozen=True)
class StageResult:
    """A finished stage: `made` of `total` outputs were made now; the others were found in the store."""

    manifest: Manifest
    made: int
    total: int
    samples: int = 0

    @property
    def cached(self) -> bool:
        """Whether nothing had to be made."""
        return self.made == 0

    @property
    def message(self) -> str:
        """For people: what was found or made."""
        return f"{self.total} of {self.total} outputs found" if self.cached else f"made {self.made} of {self.total}"


class StageWork(ABC):
    """One stage bound to its inputs.

    Binding, `key`, `lookup` and `missing` read the store and write nothing, so that `plan` can ask them.
    """

    stage: ClassVar[str]
    """Name in keys, manifests and unit records; never renamed."""

    version: ClassVar[int]
    """Raised by a person when what the stage makes of the same inputs changes."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.cache, self.store = context.cache, context.store

    @cached_property
    @abstractmethod
    def key(self) -> str:
        """Key of the stage's manifest."""

    def lookup(self) -> Manifest | None:
        """The committed manifest, when every output that it names is in the store."""
        hit = self.cache.lookup(self.stage, self.key, verify=self.context.run.verify)
        return hit.manifest if hit is not None and hit.whole else None

    def confirmed(self, manifest: Manifest) -> bool:
        """Whether a manifest that was found still holds outside of the store, such as in the model registry."""
        return True

    def missing(self) -> UnitCount:
        """How many units are there; asked only when `lookup` found nothing."""
        return UnitCount(0, 0)

    @abstractmethod
    def make(self) -> Made:
        """Make what is missing, on the cluster where it is much; commits nothing."""

    def count(self, manifest: Manifest) -> int:
        """Outputs that a message about a found manifest counts."""
        return len(manifest.outputs)

    def says(self, manifest: Manifest) -> str:
        """What a message about the stage adds: its one figure that people should see without opening anything."""
        return ""

    def finish(self, manifest: Manifest) -> None:  # noqa: B027  (most stages have nothing to do)
        """Runs after a hit and after a commit: what follows from the manifest, such as a corpus's head."""

    def artifacts(self, result: StageResult, seconds: float) -> Sequence[Artifact]:
        """What people are shown of the result beside its state."""
        return ()


@dataclass(frozen=True)
class Artifact:
    """A page or table for people; never a picture of a patient, because it would stay when the store is erased.

    Attributes:
        key: small letters, digits and dashes.
        description: one line.
        content: Markdown, or the rows of a table.
    """

    key: str
    description: str
    content: str | list[dict[str, str]]


@dataclass(frozen=True)
class Stage:
    """A stage as the line names it.

    Attributes:
        name: of the task in Prefect and of `--upto`.
        bind: `bind(context, spec, **inputs, **parameters) -> StageWork`; inputs are manifests or lists of them under
            the names that the line gives, parameters are plain values. Writes nothing.
        folders: of the store that it writes outputs to; gc removes from these alone.
        share: called with the works of one stage that start together, before each runs by itself; makes units that
            several of them need. An error of it is left to the works themselves.
    """

    name: str
    bind: Callable[..., StageWork]
    folders: tuple[str, ...] = ()
    share: Callable[[Sequence[Any]], None] | None = None


def run_stage(work: StageWork) -> StageResult:
    """Find the stage's manifest, or make what is missing and commit it.

    Raises:
        CancelledError: the run was asked to stop.
        StillroomError: as the stage says.
    """
    if work.context.stop():
        raise CancelledError("stopped on request")
    manifest = work.lookup()
    if manifest is not None and work.confirmed(manifest):
        result = StageResult(manifest, 0, work.count(manifest))
    else:
        try:
            made = work.make()
        except OSError as error:
            found = disk_error(error)
            if found is None:
                raise
            raise found from error
        result = StageResult(work.cache.commit(made.manifest), made.made, made.total, made.samples)
    work.finish(result.manifest)
    return result


def slug(text: str) -> str:
    """A key of an artifact: small letters, digits and dashes."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower()).strip("-")
