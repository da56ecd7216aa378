"""Scanning a corpus as ingest does."""

from __future__ import annotations

from tasks.corpora import Scan, adapter_of
from tasks.sources import Tree, open_source
from tasks.spec import CorpusSection


def scan_of(section: CorpusSection) -> Scan:
    """Prepare the corpus, open its source and scan it."""
    adapter = adapter_of(section.adapter)
    adapter.prepare(section)
    return adapter.scan(section, Tree(open_source(section.root)))
