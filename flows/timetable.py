"""When the flows of a deployed spec run."""

from __future__ import annotations

from dataclasses import dataclass

NIGHTLY, WEEKLY = "0 2 * * *", "0 4 * * 0"
POLL_MINUTES = 15.0


@dataclass(frozen=True)
class Timetable:
    """When the flows of a spec run; times of day are those of `timezone`.

    Attributes:
        cron: of `retrain`; "": only by hand.
        verify_cron: of `verify`; "": only by hand.
        poll_minutes: between two looks for new files; 0: only on the event and by hand.
        timezone: a name of the IANA database, such as Europe/Berlin.
        paused: deployments are made, and no schedule fires until somebody resumes them.
    """

    cron: str = NIGHTLY
    verify_cron: str = WEEKLY
    poll_minutes: float = POLL_MINUTES
    timezone: str = "UTC"
    paused: bool = False
