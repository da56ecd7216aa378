"""Where a student's images come from: corpora, licences, how to cite."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.corpora import adapter_of
from tasks.spec import Spec


@dataclass(frozen=True)
class CorpusSource:
    """One corpus of the training set, without its place."""

    name: str
    adapter: str
    licence: str
    citation: str
    private: bool
    use: str


def sources_of(spec: Spec) -> list[CorpusSource]:
    """The corpora of a spec, in order."""
    entries = {entry.title: entry.use for entry in spec.entries}
    return [
        CorpusSource(
            name=corpus.title,
            adapter=corpus.adapter,
            licence=adapter_of(corpus.adapter).licence or "your own",
            citation=adapter_of(corpus.adapter).citation,
            private=corpus.private,
            use=str(entries.get(corpus.title, "all")),
        )
        for corpus in spec.each_corpus
    ]
