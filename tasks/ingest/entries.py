"""One image of a corpus on its way from the adapter's row to the catalog's."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from tasks.catalog import CATALOG, OK, QUARANTINED
from tasks.corpora import Row

NOT_READABLE = "not readable: "  # begins every reason that reading the file gave, and no other


@dataclass(slots=True)
class Entry:
    """A row of the catalog, and what ingest knows beside it."""

    row: Row
    key: str
    source: str  # as the catalog shows it: "" where private
    patient: str  # as the catalog shows it: a keyed hash where private
    sha: str = ""
    split: str = ""
    leak: bool = False
    width: int = 0
    height: int = 0

    @property
    def person(self) -> str:
        """Who must not straddle splits: the patient, or the image itself where no patient is known."""
        return f"patient:{self.patient}" if self.patient else f"image:{self.key}"

    @property
    def lot(self) -> str:
        """What the splitter hashes: not the keyed hash, so that a private corpus splits alike in every store."""
        return f"patient:{self.row.patient}" if self.row.patient else f"image:{self.row.path}"

    @property
    def usable(self) -> bool:
        """Whether it may go into a shard."""
        return self.row.status == OK

    @property
    def told(self) -> list[object]:
        """What the corpus says of it; the source digest covers this."""
        r = self.row
        return [self.key, self.sha, r.label, r.labels, self.patient, r.exam, r.eye, r.split, r.status, r.reason]

    @property
    def shown(self) -> str:
        """How messages and quarantine name it."""
        return self.source or self.key

    def refuse(self, reason: str) -> None:
        """Quarantine it."""
        self.row.status, self.row.reason, self.split = QUARANTINED, reason, ""


def catalog_table(entries: Iterable[Entry]) -> pa.Table:
    """The catalog, sorted by key."""
    rows = [
        {
            "key": e.key,
            "source": e.source,
            "source_sha256": e.sha,
            "label": e.row.label,
            "labels": list(e.row.labels) if e.row.labels is not None else None,
            "patient": e.patient,
            "exam": e.row.exam,
            "eye": e.row.eye,
            "site": "",
            "camera": "",
            "date": "",
            "split": e.split if e.usable else "",
            "leak": e.leak,
            "width": e.width,
            "height": e.height,
            "quality": math.nan,
            "status": e.row.status,
            "reason": e.row.reason,
        }
        for e in sorted(entries, key=lambda e: e.key)
    ]
    return pa.Table.from_pylist(rows, schema=CATALOG)


def entry_of(record: dict[str, object]) -> Entry:
    """The entry that a row of an earlier catalog stands for; its file is gone, so its path is ""."""
    labels = record["labels"]
    row = Row(
        path="",
        name=str(record["key"]),
        label=int(record["label"]),  # type: ignore[call-overload]
        labels=tuple(labels) if labels is not None else None,  # type: ignore[arg-type]
        patient=str(record["patient"]),
        exam=str(record["exam"]),
        eye=str(record["eye"]),
        status=str(record["status"]),
        reason=str(record["reason"]),
    )
    return Entry(
        row,
        key=row.name,
        source=str(record["source"]),
        patient=row.patient,
        sha=str(record["source_sha256"]),
        split=str(record["split"]),
        width=int(record["width"]),  # type: ignore[call-overload]
        height=int(record["height"]),  # type: ignore[call-overload]
    )
