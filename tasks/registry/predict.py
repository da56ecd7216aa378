"""Predictions of a pulled student: its own code on files of this machine, one answer a file."""

from __future__ import annotations

import csv
import glob
import importlib.util
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from infra.errors import PermanentError, UsageError
from infra.servers.tracking import quiet, set_environment
from tasks.registry.pull import check_files, read_note
from tasks.sources.passed_over import HIDDEN, IMAGE_SUFFIXES

CODE = "student.py"
BATCH = 16
"""Files that are read before the student looks at them."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PulledStudent:
    """A student that is ready to answer.

    Attributes:
        student: object of the class `Student` of the folder's own code.
        names: keys of its answers, in order.
    """

    name: str
    version: str
    student: Any
    names: list[str]

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in order."""
        return list(self.student.about["classes"])

    @property
    def columns(self) -> list[str]:
        """Keys of a row, in order."""
        return ["file", *self.names, "error"]

    def rows(self, files: Sequence[Path], progress: Progress | None = None) -> Iterator[dict[str, Any]]:
        """A row a file, in order: `file`, what the student answers, and `error`, None where there is none.

        Args:
            progress: called with (files done, files).
        """
        if progress is not None:
            progress(0, len(files))
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            read = [_read(path) for path in batch]
            answers = iter(self.student.answers([each for each in read if isinstance(each, bytes)]))
            for path, each in zip(batch, read, strict=True):
                answer = next(answers) if isinstance(each, bytes) else {"error": each}
                yield {**dict.fromkeys(self.columns), **answer, "file": str(path), "error": _own_words(answer["error"])}
            if progress is not None:
                progress(min(start + BATCH, len(files)), len(files))


def load_pulled(folder: Path) -> PulledStudent:
    """The student of a pulled folder, whose files are compared with their digests before any of it runs.

    Raises:
        UsageError: it is no pulled folder, or of a release whose students do not answer.
        CorruptError: a file is not as it was pulled.
        PermanentError: the student cannot be loaded; a package that it needs may be missing.
    """
    note = read_note(folder)
    check_files(folder, note.files)
    title = f"{note.name} version {note.version}"
    artifacts = {path.partition("/")[2]: str(folder / path) for path in note.files if path.startswith("artifacts/")}
    names = {Path(path).stem: place for path, place in artifacts.items()}
    if not {"network", "about", "preprocessing"} <= names.keys() or CODE not in note.files:
        raise UsageError(f"{folder}: {title} is no student that `stillroom register` made")
    # Of graphs in several formats the student's code reads the .pt2.
    names["network"] = artifacts["network.pt2"]
    module, student = _loaded(folder / CODE, names, title)
    if not hasattr(module, "answer_names"):
        raise UsageError(f"{title} was registered by an older release, whose students do not answer; register it again")
    return PulledStudent(note.name, note.version, student, list(module.answer_names(student.about)))


def find_files(named: Sequence[str]) -> list[Path]:
    """Files of what a person names: files, folders (their images, sorted, subfolders too) and patterns.

    Raises:
        UsageError: there is no such file, or a folder or pattern has no image; it is named.
    """
    found: dict[Path, None] = {}
    for each in named:
        path = Path(each)
        if path.is_dir():
            own = sorted(one for one in path.rglob("*") if _is_image(one, path))
            if not own:
                raise UsageError(f"{each}: no image in this folder (of {', '.join(IMAGE_SUFFIXES)})")
        elif path.exists() or not glob.has_magic(each):
            own = [path]
        else:
            own = [Path(one) for one in sorted(glob.glob(each, recursive=True)) if os.path.isfile(one)]
            if not own:
                raise UsageError(f"{each}: no file fits this pattern")
        found |= dict.fromkeys(own)
    return list(found)


def csv_line(row: dict[str, Any] | None, columns: Sequence[str], classes: Sequence[str]) -> str:
    """A row as CSV, or the header where it is None; each class has a column `p(CLASS)`."""
    cells: list[Any] = []
    for name in columns:
        if name == "probabilities":
            shown = {} if row is None else row[name] or {}
            cells += [f"p({each})" if row is None else shown.get(each) for each in classes]
        else:
            cells.append(name if row is None else row[name])
    sink = io.StringIO()
    csv.writer(sink, lineterminator="").writerow([_cell(each) for each in cells])
    return sink.getvalue()


def _is_image(path: Path, folder: Path) -> bool:
    """Whether a file of a folder is called an image, and no hidden one, as file systems keep beside them."""
    hidden = re.search(HIDDEN, path.relative_to(folder).as_posix())
    return path.suffix.lower() in IMAGE_SUFFIXES and hidden is None and path.is_file()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else value


def _read(path: Path) -> bytes | str:
    try:
        return path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror or type(error).__name__}"


def _own_words(error: str | None) -> str | None:
    """Without the place in a batch, which a file's name replaces."""
    return None if error is None else re.sub(r"^image \d+:? ", "", error)


def _loaded(code: Path, artifacts: dict[str, str], title: str) -> tuple[ModuleType, Any]:
    """The folder's code as a module, and its student."""
    set_environment()
    spec = importlib.util.spec_from_file_location("pulled_student", code)
    if spec is None or spec.loader is None:
        raise PermanentError(f"{code} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        with quiet():
            spec.loader.exec_module(module)
            student = module.Student()
            student.load_context(SimpleNamespace(artifacts=artifacts))
    except Exception as error:
        raise PermanentError(f"{title} cannot be loaded: {type(error).__name__}: {error}") from error
    return module, student
