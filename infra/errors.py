"""Every error that Stillroom raises on purpose.

    StillroomError
    |-- UsageError            the command or the spec is wrong; exit code 2, never retried
    |   |-- SpecError         a key, value or name in the spec
    |   `-- CorpusError       the folder or table is not what the spec says
    |-- TransientError        the same call may well succeed: retried by Prefect and by the sliding window
    |-- PermanentError        the same input fails again: quarantined or reported, never retried
    |   |-- CorruptError      bytes are not those that the manifest promises
    |   |-- DiskError         a disk is full, read-only, over quota or closed to this user
    |   `-- PoisonError       a unit of work kills the workers that run it
    |-- BudgetError           more failures than the spec allows: the run stops
    `-- CancelledError        somebody asked the run to stop

An error's text names the file, row or key, and what to do about it.
"""

from __future__ import annotations

import pickle


class StillroomError(Exception):
    """Root of the tree."""


class UsageError(StillroomError):
    """The command line or the spec is wrong; the caller must change it."""


class SpecError(UsageError):
    """A key, value or name in a spec is wrong."""


class CorpusError(UsageError):
    """The corpus on disk is not what the spec says."""


class TransientError(StillroomError):
    """The same call may succeed later: a lost worker, a server that is busy."""


class PermanentError(StillroomError):
    """The same input will fail again."""


class CorruptError(PermanentError):
    """Bytes differ from what a manifest or an index promises."""


class DiskError(PermanentError):
    """A disk is full, read-only, over quota or closed to this user; nothing that is read from it is at fault."""


class PoisonError(PermanentError):
    """A unit of work that kills the workers that run it."""


class BudgetError(StillroomError):
    """More inputs failed than the spec allows."""


class CancelledError(StillroomError):
    """The run was asked to stop."""


TRANSIENT: tuple[type[BaseException], ...] = (TransientError, ConnectionError, TimeoutError)


def is_transient(error: BaseException) -> bool:
    """Whether a retry of the same call can help."""
    return isinstance(error, TRANSIENT)


def is_killed(error: BaseException | None) -> bool:
    """Whether an outcome's error says that its unit of work kills workers."""
    return isinstance(error, PoisonError)


def explained(error: BaseException, what: str) -> BaseException:
    """The error that a caller should raise for one that came out of a unit of work.

    Args:
        what: what failed, for people, such as "labelling shard 7 failed (3 tries)".

    Returns:
        Errors of Stillroom and transient ones as they are; any other as a PermanentError that names `what`, with the
        original as its cause.
    """
    if isinstance(error, StillroomError) or is_transient(error):
        return error
    permanent = PermanentError(f"{what}: {type(error).__name__}: {error}")
    permanent.__cause__ = error
    return permanent


def picklable(error: Exception) -> Exception:
    """The exception itself if it survives being pickled; otherwise a RuntimeError with its type and text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
