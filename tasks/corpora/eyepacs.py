"""Kaggle EyePACS (diabetic-retinopathy-detection): fundus photographs graded 0 to 4."""

from __future__ import annotations

from pathlib import Path

from infra.errors import CorpusError
from tasks.corpora.base import Scan, images_below, need_folder, stem
from tasks.corpora.claims import Claim, Coding, Rows, group
from tasks.corpora.tabular import read_table, table_exists
from tasks.spec import CorpusSection

LABELS, SOLUTION = "trainLabels.csv", "retinopathy_solution.csv"
GRADES = ("0", "1", "2", "3", "4")
USAGE = {"public": "val", "private": "test"}


class EyePacs:
    """Adapter `eyepacs`."""

    name = "eyepacs"

    def describe(self) -> str:
        return (
            "Kaggle diabetic-retinopathy-detection, extracted (7z x train.zip.001)\n"
            "  train/<patient>_left.jpeg, train/<patient>_right.jpeg\n"
            "  trainLabels.csv (or trainLabels.csv.zip): image,level\n"
            "  optional test/ with retinopathy_solution.csv: image,level,Usage\n"
            "    then the split is the usual one: train = train, val = Public, test = Private;\n"
            "    without it patients of train are split by corpus.split, and test/ is unlabelled\n"
            "Images of train without a label row form the unlabelled pool. Grades 0 to 4, ordinal."
        )

    def fits(self, folder: Path) -> str | None:
        if (folder / "train").is_dir() and table_exists(folder / LABELS):
            return f"train/ and {LABELS}"
        return None

    def scan(self, section: CorpusSection) -> Scan:
        root = section.root
        need_folder(root, self.name, "train")
        task = section.task or "ordinal"
        if task == "multilabel":
            raise CorpusError("corpus.task multilabel: an EyePACS image has one grade; use ordinal or single")
        classes = tuple(section.classes or GRADES)
        rows = Rows(Coding(task, classes, numbered=True))
        notes: list[str] = []
        official = frozenset[str]()
        solution = table_exists(root / SOLUTION) and (root / "test").is_dir()
        self._folder(rows, root, "train", self._claims(root / LABELS, "train" if solution else ""))
        if solution:
            claims = self._claims(root / SOLUTION, None)
            official = frozenset({"train"} | {c.split for own in claims.values() for c in own})
            self._folder(rows, root, "test", claims)
        elif (root / "test").is_dir():
            notes.append(f"no {SOLUTION}: images of test/ are unlabelled, patients of train/ are split")
            self._folder(rows, root, "test", {})
        elif table_exists(root / SOLUTION):
            notes.append(f"{SOLUTION} is there, but no test/: patients of train/ are split")
        found, heard = rows.finish()
        return Scan(task, classes, "fundus", 1024, official, found, notes + heard)

    def _claims(self, path: Path, split: str | None) -> dict[str, list[Claim]]:
        table = read_table(path)
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

    def _folder(self, rows: Rows, root: Path, folder: str, claims: dict[str, list[Claim]]) -> None:
        left = dict(claims)
        first: set[str] = set()
        for path in images_below(root, root / folder):
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
