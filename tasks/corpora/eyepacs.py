"""Kaggle EyePACS (diabetic-retinopathy-detection): fundus photographs graded 0 to 4."""

from __future__ import annotations

from infra.errors import CorpusError
from tasks.corpora.base import Found, Scan, need, stem, within
from tasks.corpora.claims import Claim, Coding, Rows, group
from tasks.corpora.tabular import read_table, table_exists
from tasks.sources import Tree
from tasks.spec import CorpusSection

LABELS, SOLUTION = "trainLabels.csv", "retinopathy_solution.csv"
GRADES = ("0", "1", "2", "3", "4")
USAGE = {"public": "val", "private": "test"}


class EyePacs(Found):
    """Adapter `eyepacs`."""

    name = "eyepacs"

    def describe(self) -> str:
        return (
            "Kaggle diabetic-retinopathy-detection, as downloaded (train.zip.001 ...) or extracted\n"
            "  train/<patient>_left.jpeg, train/<patient>_right.jpeg\n"
            "  trainLabels.csv (or trainLabels.csv.zip): image,level\n"
            "  optional test/ with retinopathy_solution.csv: image,level,Usage\n"
            "    then the split is the usual one: train = train, val = Public, test = Private;\n"
            "    without it patients of train are split by corpus.split, and test/ is unlabelled\n"
            "Images of train without a label row form the unlabelled pool. Grades 0 to 4, ordinal."
        )

    def fits(self, tree: Tree) -> str | None:
        found = within(tree, "train")
        if found and found.is_dir("train") and table_exists(found, LABELS):
            return f"train/ and {LABELS}"
        return None

    def scan(self, section: CorpusSection, tree: Tree) -> Scan:
        tree = need(tree, self.name, "train")
        task = section.task or "ordinal"
        if task == "multilabel":
            raise CorpusError("corpus.task multilabel: an EyePACS image has one grade; use ordinal or single")
        classes = tuple(section.classes or GRADES)
        rows = Rows(Coding(task, classes, numbered=True))
        notes: list[str] = []
        official = frozenset[str]()
        solution = table_exists(tree, SOLUTION) and tree.is_dir("test")
        self._folder(rows, tree, "train", self._claims(tree, LABELS, "train" if solution else ""))
        if solution:
            claims = self._claims(tree, SOLUTION, None)
            official = frozenset({"train"} | {c.split for own in claims.values() for c in own})
            self._folder(rows, tree, "test", claims)
        elif tree.is_dir("test"):
            notes.append(f"no {SOLUTION}: images of test/ are unlabelled, patients of train/ are split")
            self._folder(rows, tree, "test", {})
        elif table_exists(tree, SOLUTION):
            notes.append(f"{SOLUTION} is there, but no test/: patients of train/ are split")
        found, heard = rows.finish()
        notes += heard + tree.source.notes
        return Scan(task, classes, "fundus", 1024, official, found, notes, crop="fundus", below=tree.below)

    def _claims(self, tree: Tree, path: str, split: str | None) -> dict[str, list[Claim]]:
        table = read_table(tree, path)
        columns = [table.column("image"), table.column("level")]
        if split is not None:
            return group((stem(n), Claim(w, level, split=split)) for w, (n, level) in table.cells(*columns))
        columns.append(table.column("Usage"))
        pairs = []
        for where, (name, level, usage) in table.cells(*columns):
            if usage.casefold() not in USAGE:
                raise CorpusError(f"{where}: Usage is {usage!r}; Public or Private is expected")
            pairs.append((stem(name), Claim(where, level, split=USAGE[usage.casefold()])))
        return group(pairs)

    def _folder(self, rows: Rows, tree: Tree, folder: str, claims: dict[str, list[Claim]]) -> None:
        left = dict(claims)
        first: set[str] = set()
        for path in tree.images(folder):
            name = stem(path)
            patient, _, side = name.rpartition("_")
            eye = side.lower() if patient and side.lower() in ("left", "right") else ""
            own = left.pop(name, claims.get(name, ()))
            row = rows.image(path, name, own, patient=name.partition("_")[0], eye=eye)
            if name in first and own:
                rows.refuse(row, f"{own[0].where} names two files in {folder}/; keep one of them")
            first.add(name)
        for name, own in left.items():
            rows.missing(name, own, patient=name.partition("_")[0])
