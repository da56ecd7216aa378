"""Hyper-Kvasir: labelled and unlabelled endoscopy frames, official folds, no patient numbers."""

from __future__ import annotations

from infra.errors import CorpusError
from tasks.corpora.base import Found, Scan, need, stem, within
from tasks.corpora.claims import Claim, Coding, Rows, group
from tasks.corpora.tabular import read_table, table_exists
from tasks.sources import Tree
from tasks.spec import CorpusSection

LABELS = "labeled-images/image-labels.csv"
POOL = "unlabeled-images"


class HyperKvasir(Found):
    """Adapter `hyper-kvasir`."""

    name = "hyper-kvasir"

    def describe(self) -> str:
        return (
            "Hyper-Kvasir, hyper-kvasir-labeled-images.zip and hyper-kvasir-unlabeled-images.zip, packed or extracted\n"
            "  labeled-images/image-labels.csv: Video file,Organ,Finding,Classification\n"
            "  labeled-images/<tract>/<group>/<class>/<uuid>.jpg\n"
            "  optional unlabeled-images/images/<uuid>.jpg: the unlabelled pool\n"
            "  optional 2_fold_split.csv or 5_fold_split.csv (also in official_splits/):\n"
            "    file-name;class-name;split-index, used when corpus.split.official names it:\n"
            "    corpus.split.test_fold is the test split, validation is taken out of the other folds\n"
            "The class is the Finding of image-labels.csv. There are no patients: splits are by image."
        )

    def fits(self, tree: Tree) -> str | None:
        return LABELS if within(tree, LABELS) else None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        top, tree = tree, need(tree, self.name, "labeled-images", LABELS)
        task = section.task or "single"
        if task == "multilabel":
            raise CorpusError("corpus.task multilabel: a Hyper-Kvasir frame has one finding; use single")
        table = read_table(tree, LABELS)
        claims = group(
            (stem(name), Claim(where, finding))
            for where, (name, finding) in table.cells(table.column("Video file"), table.column("Finding"))
        )
        images = {path: stem(path) for path in tree.images("labeled-images")}
        present = {c.label for name in set(images.values()) for c in claims.get(name, ()) if c.label}
        classes = tuple(section.classes or sorted(present))
        rows = Rows(Coding(task, classes))
        folds, notes = self._folds(section, (tree, top), set(images.values()))
        self._labelled(rows, images, claims, folds, str(section.split.official))
        for path in tree.images(POOL):
            rows.image(path, stem(path))
        found, heard = rows.finish()
        official = frozenset({"train", "test"}) if folds is not None else frozenset[str]()
        notes += heard + tree.source.notes
        return Scan(task, classes, "endoscopy", 512, official, found, notes, crop="endoscopy", below=tree.below)

    def _labelled(
        self,
        rows: Rows,
        images: dict[str, str],
        claims: dict[str, list[Claim]],
        folds: dict[str, str] | None,
        split_file: str,
    ) -> None:
        seen: set[str] = set()
        for path, name in images.items():
            own = claims.get(name, [])
            row = rows.image(path, name, own, split=(folds or {}).get(name, ""))
            if name in seen and own:
                rows.refuse(row, f"{own[0].where} names two files in labeled-images/; keep one of them")
            elif folds is not None and own and name not in folds:
                # To train on it could be to train on the test fold.
                rows.refuse(row, f"{split_file} has no row for it, so its fold is unknown")
            seen.add(name)
        for name, own in claims.items():
            if name not in seen:
                rows.missing(name, own)

    def _folds(
        self, section: CorpusSection, places: tuple[Tree, Tree], names: set[str]
    ) -> tuple[dict[str, str] | None, list[str]]:
        """Image name to split, joined on the file name: class names differ between table and folders.

        Args:
            places: where the file may lie: the folder of the images, or the top of the source.
        """
        file = section.split.official
        if file is None:
            return None, []
        tried = [(tree, path) for tree in places for path in (file, f"official_splits/{file}")]
        place = next(((tree, path) for tree, path in tried if table_exists(tree, path)), None)
        if place is None:
            shown = [tree.show(path) for tree, path in tried[:2]]
            raise CorpusError(f"corpus.split.official {file!r}: neither {shown[0]} nor {shown[1]} is there")
        table = read_table(*place)
        folds: dict[str, int] = {}
        for where, (name, fold) in table.cells(table.column("file-name"), table.column("split-index")):
            if not (fold.isascii() and fold.isdigit()):
                raise CorpusError(f"{where}: split-index is {fold!r}; a fold number is expected")
            if folds.setdefault(stem(name), int(fold)) != int(fold):
                raise CorpusError(f"{where}: {name} stands in two folds")
        test = section.split.test_fold
        if test not in folds.values():
            raise CorpusError(f"{file}: no fold {test} (corpus.split.test_fold); it has {sorted(set(folds.values()))}")
        absent = sum(name not in names for name in folds)
        notes = [f"{absent} of {len(folds)} rows of {table.name} have no image here"] if absent else []
        return {name: "test" if fold == test else "train" for name, fold in folds.items()}, notes
