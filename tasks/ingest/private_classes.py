"""Classes of a private corpus: cells of its table become names of classes only where many patients have them.

Names of classes stand in manifests, reports and the registry. A cell that few patients have may say who they are.
"""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc

from infra.errors import CorpusError
from tasks.corpora import Scan
from tasks.ingest.image_table import as_text, matrix
from tasks.spec import CorpusSection

FEWEST_PATIENTS = 5
_FROM_CELLS = (
    "table",
    "folder",
    "hyper-kvasir",
)  # adapters whose classes are the label texts, where the spec names none


def refuse_rare_classes(corpus: CorpusSection, scan: Scan) -> None:
    """Refuse classes that were taken from cells, and that fewer than FEWEST_PATIENTS patients have.

    Raises:
        CorpusError: there are such; their names are not in the text.
    """
    of_columns = corpus.table is not None and not isinstance(corpus.table.label, str)
    if corpus.classes or corpus.label_map or of_columns or corpus.adapter not in _FROM_CELLS:
        return
    rows = scan.rows.table.filter(pc.is_valid(scan.rows.table["path"]))
    # A patient who is not known is one for each image.
    patient = pc.if_else(
        pc.equal(rows["patient"], ""), pc.binary_join_element_wise("/", rows["path"], ""), rows["patient"]
    )
    codes = as_text(patient).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    label, labels = rows["label"].to_numpy(), matrix(rows["labels"])
    having = [label == number if labels is None else labels[:, number] == 1 for number in range(len(scan.classes))]
    rare = sum(len(np.unique(codes[own])) < FEWEST_PATIENTS for own in having)
    if rare:
        raise CorpusError(
            f"private corpus {corpus.title}: fewer than {FEWEST_PATIENTS} patients have {rare} of its "
            f"{len(scan.classes)} label texts, and names of classes are shown everywhere: write them in "
            "corpus.classes, and in corpus.table.unlabelled what is none"
        )
