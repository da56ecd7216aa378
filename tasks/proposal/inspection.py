"""Inspect a folder that no named layout fits: a table beside images, or one folder for each class."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace

from infra.errors import CorpusError
from tasks.corpora.base import stem, unpack_hint
from tasks.corpora.csv_table import CsvTable, read_lines, read_table
from tasks.corpora.path_matching import PathMatcher
from tasks.corpora.spellings import header_missing, meant_otherwise
from tasks.corpora.table import WORDS
from tasks.proposal.class_folders import ADVICE, from_folders
from tasks.proposal.columns import (
    MOST_CLASSES,
    LabelColumn,
    PatientSource,
    image_column,
    label_columns,
    modality_of,
    one_hot_label,
    patient_source,
    split_column,
)
from tasks.proposal.folder_layout import layout_of
from tasks.sources import Tree
from tasks.spec import FolderSection

PICTURES = re.compile(r"image|img|photo|picture|original|\braw\b", re.I)
FEW_TABLES = 30


@dataclass(frozen=True)
class FolderContents:
    """A table, in the folder or to be written, and what its columns seem to be."""

    csv: str  # below the folder; "" when `text` has to be written first
    within: str  # folder of the images, "." for the whole
    image: str
    label: LabelColumn
    others: list[LabelColumn]
    patient: PatientSource
    split: str | None
    split_lists: dict[str, str]
    images: int
    rows: int  # rows of the table
    modality: str
    text: str = ""  # a table made from the folders' names
    layout: FolderSection | None = None  # what says the same, without a table
    notes: list[str] = field(default_factory=list)


def inspect_folder(tree: Tree) -> FolderContents:
    """Find the table of a folder and its columns.

    Raises:
        CorpusError: no image, no table that names the images and no folder for each class, or no column that
            could be the label; says what was looked for.
    """
    images = tree.images()
    if not images:
        raise CorpusError(
            f"{tree.show()}: no image below it (looked for .jpg, .jpeg, .png, .tif, .bmp, .webp)" + unpack_hint(tree)
        )
    within, finder, (name, table, column, paths, notes) = _best_images(tree, images)
    text = ""
    if table is None:
        table, text = from_folders(tree, images, notes)
        column, paths = 0, table.columns[0].to_pylist()
    lists = _split_lists(tree, finder)
    split = split_column(table, [column])
    skip = [column] + ([table.header.index(split)] if split else [])
    rows = [i for i, path in enumerate(paths) if path]
    candidates = _candidates(table, skip, rows, paths, text)
    label, others = candidates[0], candidates[1:] if not text else []
    skip += [table.header.index(name) for c in candidates for name in c.columns or (c.column,)]
    splits = _official_splits(table, split, paths, lists, tree, finder)
    source = patient_source(table, paths, images, skip, splits, len(label.counts))
    if text and "patient" in table.header:
        source = PatientSource("patient", None, "the folders within each class")
    return FolderContents(
        csv="" if text else name,
        within=within,
        image=table.header[column],
        label=label,
        others=others,
        patient=source,
        split=split,
        split_lists={} if split else lists,
        images=len(images) if within == "." else sum(p.startswith(f"{within}/") for p in images),
        rows=len(table),
        modality=modality_of(tree.show().rpartition("/")[2], name, *table.header, *label.counts, label.negative or ""),
        text=text,
        layout=layout_of(text) if text else None,
        notes=notes + _images_without_row([p for p in images if within == "." or p.startswith(f"{within}/")], paths),
    )


def _candidates(table: CsvTable, skip: list[int], rows: list[int], paths: list[str], text: str) -> list[LabelColumn]:
    """What may be the label, the likeliest first; several columns of 1 and 0 go before each of them."""
    found = label_columns(table, skip, rows)
    if text:
        found = [each for each in found if each.column == "label"]
        if not found:
            raise CorpusError(f"the folders are no classes: their names are numbers of many values. {ADVICE}")
        return found
    together = one_hot_label(table, skip, rows)
    found = [_of_several_rows(table, each, rows, paths) for each in found]
    return [together, *found] if together is not None else found


def _of_several_rows(table: CsvTable, label: LabelColumn, rows: list[int], paths: list[str]) -> LabelColumn:
    """The column as multilabel where images have several rows with other labels, as in lists of findings."""
    if label.task == "multilabel" or len({paths[row] for row in rows}) == len(rows):
        return label
    cells = [cell for _, (cell,) in table.cells(table.header.index(label.column))]
    seen: dict[str, set[str]] = {}
    for row in rows:
        seen.setdefault(paths[row], set()).add(cells[row])
    several = sum(len(own - {""}) > 1 for own in seen.values())
    return replace(label, task="multilabel") if several > len(seen) / 20 else label


_Chosen = tuple[str, CsvTable | None, int, list[str], list[str]]


def _best_images(tree: Tree, images: list[str]) -> tuple[str, PathMatcher, _Chosen]:
    """The whole folder, unless its names stand twice (images/1.png, masks/1.png): then the part that rows name."""
    finder = PathMatcher(images)
    chosen = _table(tree, finder)
    whole = len(set(chosen[3]))
    parts = []
    if len({stem(path) for path in images}) < len(images):
        for top in sorted({path.split("/")[0] for path in images if "/" in path})[:FEW_TABLES]:
            own = PathMatcher(path for path in images if path.startswith(f"{top}/"))
            part = _table(tree, own)
            # Only a clear gain counts: masks found by chance are not the images.
            if len(set(part[3])) > 1.2 * whole:
                parts.append((len(set(part[3])), bool(PICTURES.search(top)), top, own, part))
    if not parts:
        return ".", finder, chosen
    most = max(part[:2] for part in parts)
    (_, _, top, finder, chosen), *others = [part for part in parts if part[:2] == most]
    if others:
        raise CorpusError(
            f"{tree.show()}: the names of {chosen[0]} fit images in {top}/ and in {others[0][2]}/; give the folder "
            "too in the column of the names, or run init on one of the folders"
        )
    elsewhere = sum(not path.startswith(f"{top}/") for path in images)
    chosen[4].append(f"{elsewhere} images outside {top}/ are left out; their names are those of images there (masks?)")
    return top, finder, chosen


def _table(tree: Tree, finder: PathMatcher) -> _Chosen:
    """The table whose rows name most images: its path, itself, image column, a row's image, notes."""
    best: tuple[int, str, CsvTable, int, list[str]] | None = None
    reasons, also = [], []
    places = sorted(tree.with_suffix(".csv", ".tsv", ".csv.gz", ".tsv.gz"), key=lambda name: (name.count("/"), name))
    for name in places[:FEW_TABLES]:
        try:
            table = read_table(tree, name)
        except CorpusError as error:
            reasons.append(f"not used: {error}")
            continue
        found = None if (why := header_missing(table, finder)) else image_column(table, finder)
        if found is None:
            why = why or meant_otherwise(table, finder.paths.to_pylist())
            reasons += [f"not used: {why}"] * bool(why)
            continue
        hits = len({p for p in found[1] if p})
        # A table without a label column (a list of sizes, say) is of no use, however many images it names.
        if not label_columns(table, [found[0]], [i for i, p in enumerate(found[1]) if p]):
            reasons.append(
                f"not used: {name} names images, but none of its columns ({', '.join(table.header)}) looks like a "
                f"label: 2 to {MOST_CLASSES} values that repeat"
            )
            continue
        also.append(name)
        if best is None or hits > best[0]:
            best = (hits, name, table, *found)
    if best is None:
        return "", None, 0, [], reasons
    others = [name for name in also if name != best[1]]
    if others:
        reasons.append(f"{', '.join(others[:5])} name images too; one table is read, join them if you need more")
    return best[1], best[2], best[3], best[4], reasons


def _split_lists(tree: Tree, finder: PathMatcher) -> dict[str, str]:
    """Split to the text file that lists its images; a file called train_val holds what train is carved from."""
    found: dict[str, str] = {}
    for place in sorted(tree.with_suffix(".txt"), key=lambda p: (p.count("/"), p.rpartition("/")[2])):
        tokens = set(re.split(r"[^a-z]+", place.rpartition("/")[2].lower().removesuffix(".txt")))
        split = next((s for s in ("train", "test", "val") if tokens & set(WORDS[s])), None)
        if split is None or split in found:
            continue
        lines = read_lines(tree, place)
        if lines and (finder.find(lines[:2000]).count == 1).sum() > 0.02 * min(len(lines), 2000):
            found[split] = place
    return found


def _official_splits(
    table: CsvTable, split: str | None, paths: list[str], lists: dict[str, str], tree: Tree, finder: PathMatcher
) -> dict[str, str]:
    """Official split by image, as far as there is one."""
    if split:
        cells = [cell.casefold() for _, (cell,) in table.cells(table.header.index(split))]
        return {path: cell for path, cell in zip(paths, cells, strict=True) if path and cell}
    return {p: name for name, file in lists.items() for p in finder.meant(read_lines(tree, file))}


def _images_without_row(images: list[str], paths: list[str]) -> list[str]:
    """Images that no row names, by folder: a pool, or masks that should be left out."""
    named = set(paths)
    folders = Counter(path.rpartition("/")[0] or "." for path in images if path not in named)
    twins = Counter(stem(path) for path in images)
    notes = []
    if folders:
        shown = ", ".join(f"{n} in {name}/" for name, n in folders.most_common(3))
        notes.append(f"{sum(folders.values())} images have no row and count as the unlabelled pool ({shown})")
    if any(n > 1 for n in twins.values()):
        notes.append(
            f"{sum(n > 1 for n in twins.values())} image names stand in more than one folder (masks?); "
            "set corpus.table.images to the folder that counts"
        )
    return notes
