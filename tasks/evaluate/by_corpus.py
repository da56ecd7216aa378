"""Every model on the test images of each corpus apart, where several form the training set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tasks.drawing.markdown import cell_text, interval_text, number, table_text
from tasks.evaluate.arms import Judged
from tasks.evaluate.groups import FEWEST, judged_group, rows_of_test
from tasks.evaluate.titles import METRIC_TITLES, title_of

COLUMN = "corpus"


def corpora_of(catalog: pa.Table, main: Judged, *, resamples: int, bins: int) -> list[dict[str, Any]]:
    """The main metric of every arm on each corpus's test images, mean over its seeds; the largest corpus first.

    A row has `corpus`, `images`, `patients` and `arms`: arm to `value` and `interval`, both None where the corpus has
    fewer than FEWEST test images. No rows where the catalog is of one corpus.
    """
    if COLUMN not in catalog.column_names:
        return []
    titles = np.array(rows_of_test(catalog, main)[COLUMN].to_pylist(), dtype=str)
    names, counts = np.unique(titles, return_counts=True)
    found = []
    for name in names[np.lexsort((names, -counts))]:
        rows = {arm.name: judged_group(main, arm, str(name), titles == name, resamples, bins) for arm in main.arms}
        first = next(iter(rows.values()))
        arms = {arm: {key: row[key] for key in ("value", "interval")} for arm, row in rows.items()}
        found.append({"corpus": str(name), "images": first["images"], "patients": first["patients"], "arms": arms})
    return found


def corpora_text(numbers: Mapping[str, Any]) -> str:
    """Section "Corpora" in Markdown."""
    rows, name = numbers["corpora"], METRIC_TITLES[numbers["metric"]]
    head = ["model", *(f"{cell_text(row['corpus'])} ({row['images']:,} images)" for row in rows)]
    cells = [
        [
            title_of(arm),
            *(number(row["arms"][arm]["value"]) + interval_text(row["arms"][arm]["interval"]) for row in rows),
        ]
        for arm in rows[0]["arms"]
    ]
    return (
        f"{name} on the test images of each corpus, mean over seeds; a corpus of fewer than {FEWEST} test images is "
        f"not judged.\n\n{table_text(head, cells)}"
    )
