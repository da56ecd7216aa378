"""Kvasir and Kvasir-v2: endoscopy frames in a folder for each of eight classes, no patients, no official split."""

from __future__ import annotations

from infra.errors import CorpusError
from tasks.corpora.base import ExistingCorpus, listed, need, within
from tasks.corpora.coding import Coding
from tasks.corpora.csv_table import table_of
from tasks.corpora.label_maps import KVASIR as CLASSES
from tasks.corpora.labelled_images import Naming, add_images
from tasks.corpora.resolve_labels import RowBuilder
from tasks.corpora.scan import Scan
from tasks.corpora.table_labels import labels_by_name
from tasks.sources import Tree
from tasks.spec import CorpusSection

COUNTS = {4000: "Kvasir", 8000: "Kvasir-v2"}
"""Images of a whole download."""


class Kvasir(ExistingCorpus):
    """Adapter `kvasir`."""

    name = "kvasir"
    licence = "research and education only (datasets.simula.no/kvasir)"
    citation = "Pogorelov et al., KVASIR, A Multi-Class Image Dataset for Computer Aided Detection, MMSys 2017"

    def describe(self) -> str:
        return (
            "Kvasir or Kvasir-v2, kvasir-dataset.zip or kvasir-dataset-v2.zip, packed or extracted\n"
            "  <class>/<uuid>.jpg for the eight classes dyed-lifted-polyps ... ulcerative-colitis\n"
            "There are no patients and no official split: splits are by image."
        )

    def fits(self, tree: Tree) -> str | None:
        # Half of them is half a download, which `scan` then tells.
        found = within(tree, CLASSES[0]) or within(tree, CLASSES[-1])
        if found and 2 * sum(found.is_dir(name) for name in CLASSES) >= len(CLASSES):
            return f"the class folders of Kvasir ({listed(CLASSES, 2)})"
        return None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        if section.task not in (None, "single"):
            raise CorpusError(f"corpus.task {section.task}: a Kvasir frame has one class; use single")
        tree = within(tree, CLASSES[0]) or need(tree, self.name, *CLASSES)
        wanted = tuple(section.classes or CLASSES)
        absent = [name for name in wanted if not tree.is_dir(name)]
        if absent:
            raise CorpusError(
                f"{tree.show()}: kvasir expects a folder for each of {len(wanted)} classes, and {listed(absent)} "
                f"{'is' if len(absent) == 1 else 'are'} not there (it holds {listed(tree.folders())}); complete the "
                "download, or name the classes that count in corpus.classes"
            )
        rows = RowBuilder(Coding("single", wanted))
        images = {name: tree.images(name) for name in wanted}
        labels = [(path, name) for name, paths in images.items() for path in paths]
        table = table_of("folders", ["image", "class"], enumerate(labels, 1))
        given = labels_by_name(table, table.texts("image"), table.texts("class"))
        add_images(rows, [path for path, _ in labels], Naming(key=lambda paths: paths), given, "folders")
        found, notes = rows.finish()
        whole = section.classes is None and len(labels) in COUNTS
        if not whole and section.classes is None:
            notes.append(
                f"{len(labels)} images; Kvasir has 4000 and Kvasir-v2 8000, "
                f"so many of each class: {listed((f'{name} {len(paths)}' for name, paths in images.items()), 8)}"
            )
        others = [name for name in tree.folders() if name not in wanted and tree.images(name)]
        if others:
            notes.append(f"folders {listed(others)} are no class and are left out")
        notes += tree.source.notes
        return Scan("single", wanted, "endoscopy", 512, frozenset(), found, notes, "endoscopy", tree.below)
