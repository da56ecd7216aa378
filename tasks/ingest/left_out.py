"""Images that the spec leaves out without storing anything anew: `corpus.where`, and those that cannot be graded.

They lie in shards like all others and have their split, so that another `where` changes the catalog alone.
"""

from __future__ import annotations

from tasks.corpora.attributes import NO
from tasks.ingest.attribute_filter import having
from tasks.ingest.image_table import ImageTable
from tasks.spec import CorpusSection


def leave_out(images: ImageTable, corpus: CorpusSection) -> list[str]:
    """Mark usable rows that take no part; returns notes.

    Raises:
        CorpusError: a value that no image has, or nothing is left.
    """
    notes = []
    if corpus.ungradable == "leave_out":
        rows = images.usable & images.where("gradable", NO) & ~images.labelled
        images.leave_out(rows, "it cannot be graded")
        if rows.any():
            notes.append(f"{int(rows.sum())} unlabelled images cannot be graded and teach nobody (corpus.ungradable)")
    for attribute, wanted in (corpus.where or {}).items():
        rows = images.usable & ~having(images, attribute, wanted, "corpus.where")
        unknown = int((rows & images.where(attribute, "")).sum())
        images.leave_out(rows, f"left out by corpus.where: {attribute}")
        more = f", of them {unknown} whose {attribute} is not known" if unknown else ""
        notes.append(f"{int(rows.sum())} images are left out by corpus.where: {attribute}{more}")
    return notes
