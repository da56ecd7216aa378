"""The combine stage: several ingested corpora become one training set, and no image is stored again.

Its manifest names the shards of all, with a catalog and an index of their own; later stages read it as they read that
of an ingest. Soft labels belong to shards, so that a corpus that was labelled alone is not labelled again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import pyarrow as pa

from infra.digest import unit_key
from infra.errors import CorpusError
from infra.storage.manifest import Manifest, Quarantined
from tasks.combine.members import Member, check_alike, check_keys, sources
from tasks.combine.rows import combined_index, combined_rows, combined_shards
from tasks.corpora import adapter_of
from tasks.data.catalog import SPLITS
from tasks.ingest.corpus_tables import store_table
from tasks.ingest.image_table import as_text, place_in
from tasks.ingest.leakage import mark_leaks
from tasks.ingest.near_duplicates import limit_of
from tasks.ingest.parent import Parent
from tasks.ingest.splits import check_splits
from tasks.ingest.summary import counts_of
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Artifact, Made, Stage, StageResult, StageWork, run_stage
from tasks.spec import Spec, SplitSection
from tasks.spec.corpora import ALL

STAGE, VERSION = "combine", 1


class CombineWork(StageWork):
    """Catalog, index and manifest of a training set of several corpora.

    Outputs by `meta["kind"]`: `shard` (those of the corpora, in order), `index`, `catalog` (schema CATALOG, and the
    column `corpus`).

    Raises:
        CorpusError: the corpora do not go together, have a key in common, or a split or class has no image.
        MissingObjectError: a corpus's catalog or index is lost; repair makes it again.
    """

    stage, version = STAGE, VERSION

    def __init__(self, context: Context, spec: Spec, corpora: Sequence[Manifest]) -> None:
        super().__init__(context)
        self.members = [Member(entry, manifest) for entry, manifest in zip(spec.entries, corpora, strict=True)]
        self.title = spec.corpus_title

    @cached_property
    def key(self) -> str:
        uses = [[member.title, member.entry.use, member.entry.numbering] for member in self.members]
        inputs = [member.manifest.digest for member in self.members]
        return unit_key(STAGE, VERSION, inputs=inputs, section={"corpora": uses})

    def make(self) -> Made:
        members = self.members
        check_alike([member.entry for member in members], [member.manifest.facts for member in members])
        parents = [Parent.load(self.store, member.manifest) for member in members]
        check_keys(members, parents)
        images, notes = combined_rows(members, parents)
        index = combined_index(parents)
        first = next(member for member in members if member.entry.use == ALL)
        facts = first.manifest.facts
        leaks = mark_leaks(images, index, limit_of(str(facts["modality"])))
        try:
            notes += check_splits(images, facts["classes"], self._splits)
        except CorpusError as error:
            raise CorpusError(f"corpora, all together: {error}") from None
        catalog = images.catalog()
        keys, titles = sources(members, parents)
        own = titles.take(pa.array(place_in(as_text(catalog["key"]), keys)))
        index_output, new_index = store_table(self.cache, self.title, "index", index)
        catalog_output, new_catalog = store_table(
            self.cache, self.title, "catalog", catalog.append_column("corpus", own)
        )
        manifest = Manifest(
            stage=STAGE,
            version=VERSION,
            key=self.key,
            inputs=[member.manifest.digest for member in members],
            # How a raw image is prepared for the student: as those of the first corpus that it learns from.
            section={"ingest": first.manifest.section["ingest"], "corpora": [m.manifest.section for m in members]},
            outputs=[*combined_shards(members, parents), index_output, catalog_output],
            quarantine=self._quarantine,
            facts={
                "corpus": self.title,
                "task": facts["task"],
                "classes": facts["classes"],
                "modality": facts["modality"],
                "private": any(member.manifest.facts["private"] for member in members),
                "size": facts["size"],
                "crop": facts["crop"],
                "official": [],
                **counts_of(images, facts["classes"], leaks),
                "corpora": [_about(member) for member in members],
                "notes": [*self._notes, *notes],
            },
        )
        return Made(manifest, new_index + new_catalog, len(manifest.outputs))

    @property
    def _splits(self) -> SplitSection:
        """Whether val and test may be empty: where every corpus asks for none."""
        asked = [member.entry.split for member in self.members if member.entry.use == ALL]
        some = 0.1  # any share above 0
        return SplitSection(
            val=some if any(split.val for split in asked) else 0.0,
            test=some if any(split.test for split in asked) else 0.0,
        )

    @property
    def _notes(self) -> list[str]:
        """What the corpora's ingests noted; and where their images are prepared in different ways."""
        notes = [f"{m.title}: {note}" for m in self.members for note in m.manifest.facts["notes"]]
        ways = {str(member.manifest.section["ingest"]) for member in self.members}
        if len(ways) > 1:
            first = next(member.title for member in self.members if member.entry.use == ALL)
            notes.append(
                f"the corpora are stored in different ways (ingest); a student prepares raw images as {first}'s are"
            )
        return notes

    @property
    def _quarantine(self) -> list[Quarantined]:
        return [
            row.model_copy(update={"source": f"{member.title}: {row.source}"})
            for member in self.members
            for row in member.manifest.quarantine
        ]

    def artifacts(self, result: StageResult, seconds: float) -> list[Artifact]:
        rows = [
            {
                "corpus": row["corpus"],
                "use": row["use"],
                **{split: f"{row['images'][split]:,}" for split in SPLITS},
                "licence": row["licence"] or "your own",
            }
            for row in result.manifest.facts["corpora"]
        ]
        return [Artifact(key=f"corpora-{self.title}", description="the corpora of the training set", content=rows)]


def _about(member: Member) -> dict[str, Any]:
    """Of one corpus, for the manifest's facts: its images by split as it was ingested."""
    facts = member.manifest.facts
    return {
        "corpus": member.title,
        "adapter": member.entry.adapter,
        "licence": adapter_of(member.entry.adapter).licence,
        "use": member.entry.use,
        "images": facts["images"],
        "manifest": member.manifest.digest,
    }


def combine(context: Context, spec: Spec, corpora: Sequence[Manifest]) -> StageResult:
    """Run the stage; `corpora` are the manifests of the spec's ingests, in order. See `CombineWork`."""
    return run_stage(_bind(context, spec, corpora))


def _bind(context: Context, spec: Spec, corpora: Sequence[Manifest]) -> CombineWork:
    return CombineWork(context, spec, corpora)


COMBINE = Stage(STAGE, _bind, folders=("catalogs/",))
