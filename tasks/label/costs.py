"""Cost of labelling before it starts: exact bytes, and hours where the speed is known."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from tasks.data.corpus import Corpus

HOUR = 3600.0
_SIZES = {"I32": 4, "F16": 2, "BOOL": 1}


@dataclass(frozen=True)
class LabelRate:
    """Speed and sizes of a teacher, from which its costs follow."""

    name: str
    classes: int
    features: tuple[int, ...] = ()  # shape of the features stored of an image; () for none
    rate: float | None = None  # views of images predicted in a second, all workers together; None: not known
    engine: str = ""  # engine and batch, for people
    settled: bool = True  # False: other engines are measured while labelling begins


@dataclass(frozen=True)
class LabelCost:
    """Cost of a teacher at a number of stored views."""

    teacher: str
    views: int  # random views beside the plain one
    files: int
    answers: int  # predicted views of images
    bytes: int
    hours: float | None  # None: the speed is not known


def label_cost(
    shards: Iterable[tuple[str, int]],
    teachers: Sequence[LabelRate],
    views: Iterable[int],
    *,
    mixed: bool,
    val_views: int = 0,
) -> list[LabelCost]:
    """Cost of labelling everything anew, teacher by teacher, for each number of views; what is cached costs nothing.

    Args:
        shards: split and number of images of every shard (`shard_rows`).
        views: numbers of random views of training images.
        mixed: random views are mixed with partners, whose rows are stored too.
        val_views: most random views of validation images.
    """
    alike = Counter(shards)
    found = []
    for teacher in teachers:
        for count in views:
            files = answers = size = 0
            for (split, rows), times in alike.items():
                random = {"train": count, "val": min(count, val_views)}.get(split, 0)
                plain = soft_label_bytes(rows, teacher.classes, teacher.features)
                other = soft_label_bytes(rows, teacher.classes, teacher.features, mixed=mixed)
                files += times * (1 + random)
                answers += times * (1 + random) * rows
                size += times * (plain + random * other)
            hours = answers / teacher.rate / HOUR if teacher.rate else None
            found.append(LabelCost(teacher.name, count, files, answers, size, hours))
    return found


def expected_cost_text(teacher: LabelRate, units: Iterable[tuple[int, bool]]) -> str:
    """One line for people before a teacher starts: predictions, files, bytes, and time where it is known.

    Args:
        units: rows of every unit that is to be made, and whether its view is mixed.
    """
    files = answers = size = 0
    for (rows, mixed), times in Counter(units).items():
        files, answers = files + times, answers + times * rows
        size += times * soft_label_bytes(rows, teacher.classes, teacher.features, mixed=mixed)
    text = f"teacher {teacher.name} is to make {answers:,} predictions in {files:,} files, {size / 1e6:,.1f} MB"
    text += f", on {teacher.engine}" if teacher.engine else ""
    text += " until faster engines are measured" if not teacher.settled else ""
    if not teacher.rate:
        return text
    seconds = answers / teacher.rate
    unit, length = next(
        (u, s) for u, s in (("hours", HOUR), ("minutes", 60.0), ("seconds", 1.0)) if seconds >= 2 * s or s == 1
    )
    return f"{text}, {seconds / length:.0f} {unit} or more"


def shard_rows(corpus: Corpus) -> list[tuple[str, int]]:
    """Split and number of images of every shard."""
    return [(shard.split, len(shard)) for shard in corpus.shards]


def planned_shard_rows(images: Mapping[str, int], shard_size: int) -> list[tuple[str, int]]:
    """As `shard_rows`, for a corpus that is ingested at once.

    Args:
        images: by split.
    """
    return [
        (split, min(shard_size, count - start))
        for split, count in images.items()
        for start in range(0, count, shard_size)
    ]


def soft_label_bytes(rows: int, classes: int, features: Sequence[int] = (), *, mixed: bool = False) -> int:
    """Bytes of a file that `tasks.data.soft_labels.write_soft_labels` makes.

    A safetensors file is eight bytes, a JSON header filled up with spaces to a multiple of eight, and the tensors:
    the widest types first, then by name.
    """
    tensors = {"logits": ("F16", (rows, classes)), "valid": ("BOOL", (rows,))}
    if mixed:
        tensors["partner"] = ("I32", (rows,))
    if features:
        tensors["features"] = ("F16", (rows, *features))
    header, end = {}, 0
    for name, (kind, shape) in sorted(tensors.items(), key=lambda each: (-_SIZES[each[1][0]], each[0])):
        start, end = end, end + _SIZES[kind] * prod(shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-length // 8) * 8 + end
