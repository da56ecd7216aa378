"""Every error that Stillroom raises on purpose.

    StillroomError
    |-- UsageError            the command or the spec is wrong; exit code 2, never retried
    |   |-- SpecError         a key, value or name in the spec
    |   `-- CorpusError       the folder or table is not what the spec says
    |-- TransientError        the same call may well succeed: retried by Prefect and by the sliding window
    |-- PermanentError        the same input fails again: quarantined or reported, never retried
    |   `-- CorruptError      bytes are not those that the manifest promises
    |-- BudgetError           more failures than the spec allows: the run stops
    `-- CancelledError        somebody asked the run to stop

An error's text names the file, row or key, and what to do about it.
"""

from __future__ import annotations


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


class BudgetError(StillroomError):
    """More inputs failed than the spec allows."""


class CancelledError(StillroomError):
    """The run was asked to stop."""


TRANSIENT: tuple[type[BaseException], ...] = (TransientError, ConnectionError, TimeoutError)


def is_transient(error: BaseException) -> bool:
    """Whether a retry of the same call can help."""
    return isinstance(error, TRANSIENT)
