"""`corpora:`: several corpora that form one training set, each with its own shards, splits and licence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from tasks.spec.corpus import CorpusSection, IngestSection

Use = Literal["all", "test", "pool"]
ALL: Literal["all"] = "all"
TEST: Literal["test"] = "test"
POOL: Literal["pool"] = "pool"


class CorpusEntry(CorpusSection):
    """One of `corpora:`"""

    OUTSIDE_OF_IDENTITY: ClassVar[tuple[str, ...]] = (*CorpusSection.OUTSIDE_OF_IDENTITY, "use", "patients", "ingest")

    use: Use = Field(
        ALL,
        description="all: its splits as they are; test: all its labelled images are test images; pool: its labels are "
        "not used, and all its images are unlabelled training images",
    )
    patients: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        description="who numbers its patients, such as a hospital: corpora with the same name here share their "
        "patients; default: the corpus's own name, so that patient 7 of one is not patient 7 of another",
    )
    ingest: IngestSection | None = Field(None, description="how its images are stored; default: as the spec's ingest")

    @property
    def numbering(self) -> str:
        """Who numbers its patients."""
        return self.patients or self.title


def check_corpora(corpora: Sequence[CorpusEntry]) -> None:
    """What can be seen without reading a corpus.

    Raises:
        ValueError: fewer than two, two with one name, or none that has training labels.
    """
    if len(corpora) < 2:
        raise ValueError("corpora is for two or more; give one as `corpus`")
    titles = [corpus.title for corpus in corpora]
    for title in titles:
        if titles.count(title) > 1:
            raise ValueError(f"two corpora have the name {title}; give each a `name` of its own")
    if all(corpus.use != ALL for corpus in corpora):
        raise ValueError("no corpus gives training labels: at least one has use: all")


def combined_title(corpora: Sequence[CorpusEntry]) -> str:
    """What the training set of several corpora is called in the store."""
    return "-and-".join(corpus.title for corpus in corpora)
