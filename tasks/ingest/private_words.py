"""What is said of a private corpus: the one place that words its reasons, notes and errors.

A text of the outside (a table's cell, a file's name, a tag of a TIFF) never passes. A reason is looked up by its kind
among fixed sentences, in which numbers alone vary; what is not known becomes "kept out", and no more. The text itself
goes to a log of the owner's on this machine, which messages name.
"""

from __future__ import annotations

import os
import re
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from infra.errors import (
    BudgetError,
    CancelledError,
    CorpusError,
    CorruptError,
    PermanentError,
    PoisonError,
    SpecError,
    StillroomError,
    TransientError,
    UsageError,
    is_transient,
)
from infra.owner_files import append_owner_file, owner_folder
from infra.storage.store import MissingObjectError
from tasks.corpora.scan import ATTRIBUTES
from tasks.spec import CorpusSection

KINDS = "JPEG|PNG|TIFF|BMP|WebP|GIF|JPEG 2000|DICOM|HEIC|HEIF|AVIF"

# Of files. Texts of `tasks/preprocessing/unreadable.py` hold nothing of the file but numbers, and may stay as a whole.
_FILE = tuple(
    re.compile(pattern)
    for pattern in (
        r"too large: \d+ x \d+ pixels, and max_pixels allows \d+$",
        rf"damaged ({KINDS}): its header says \d+ x \d+ pixels$",
        r"the file is empty \(zero bytes\)$",
        r"the file holds nothing but \d+ zero bytes$",
        rf"the content is ({KINDS}|an? (empty )?(GIF|zip archive|gzip file|PDF|JPEG 2000|Photoshop file|database)"
        r"|an HTML page|XML or SVG|no image)\b",
        rf"(damaged|cut-off) ({KINDS})\b",
        rf"the ({KINDS}) (is cut off or damaged|cannot be decoded|is damaged)",
        r"its pixels have \d+ bits",
        rf"OpenCV cannot store this ({KINDS}) as PNG$",
        r"kills its process",
        r"the DICOM (has (no pixels|\d+ frames)|says that text is burned into its pixels|cannot be kept as it is)\b",
        r"the DICOM is of a transfer syntax that is not read\b",
    )
)


def _compiled(words: Iterable[tuple[str, str]]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(pattern, re.DOTALL), said) for pattern, said in words)


# Of rows, notes and errors: what a text holds, and what is said instead; numbers come from the first groups.
_ROW = _compiled(
    (
        (
            rf" disagree on its (label|patient|split|{'|'.join(ATTRIBUTES)})\b",
            "its rows in the table disagree on its {0}",
        ),
        (r"^by Messidor's errata a copy of another image", "by the corpus's errata a copy of another image"),
        (r"is outside the classes", "its label is outside the classes"),
        (r"is neither 1 nor 0", "a cell of its label columns is neither 1 nor 0"),
        (r": (\d+) of the columns are 1; one is needed", "{0} of its label columns are 1; one is needed"),
        (r" names (\d+) files; give the folder", "its row in the table fits {0} files"),
        (r" names two files in ", "its row in the table fits two files; keep one of them"),
        (
            r"^it stands in the lists of ((?:train|val|test)(?: and (?:train|val|test))+)$",
            "it stands in the lists of {0}",
        ),
        (r": no such image$", "a row of the table, and no such image"),
    )
)
_NOTE = _compiled(
    (
        (
            r"^(\d+) images have no patient; each counts",
            "{0} images have no patient; each counts as a patient of its own",
        ),
        (r" stands for nobody: (\d+) rows", "a patient stands for nobody: {0} rows, each image a patient of its own"),
        (r"^(\d+) of (\d+) names in .* have no image here$", "{0} of {1} names in a list have no image here"),
        (r"^(\d+) images have several rows with other labels", "{0} images have several rows; their labels are united"),
        (
            r"^(\d+) images have more than one row, all alike",
            "{0} images have more than one row, all alike; one is kept",
        ),
        (r"^(\d+) labels are outside the classes", "{0} labels are outside the classes"),
        (
            r"^(\d+) labels are other spellings",
            "{0} labels are other spellings of their class",
        ),
        (r" are spellings of one word; each stays", "some classes are spellings of one word; each stays a class"),
        (
            r"^(\d+) patients are spelled in several ways",
            "{0} patients are spelled in several ways and are one each",
        ),
        (
            r" stands for (\d+) of (\d+) images that have a patient",
            "one patient stands for {0} of {1} images that have a patient; if it is nobody, leave its cells blank",
        ),
        (r"^(\d+) pictures in hidden or system folders", "{0} pictures in hidden or system folders are passed over"),
        (r"^(\d+) masks beside images", "{0} masks beside images are passed over"),
        (r"^files of formats that are not read", "files of formats that are not read are passed over"),
        (r"^(\d+) files without a suffix", "{0} files without a suffix are passed over"),
        (r"^(\d+) links to folders", "{0} links to folders are not followed"),
        (r"^(\d+) of (\d+) images that .* names are not in ", "{0} of {1} images that a table names are not here"),
        (
            rf"^(\d+) cells of column .* are not understood as ({'|'.join(ATTRIBUTES)}) and left blank",
            "{0} cells are not understood as {1} and left blank",
        ),
        (r" is not UTF-8; read as ", "the table is not UTF-8 and its encoding a guess; set corpus.table.encoding"),
        (r"^(\d+) labels are corrections of (\d+) people", "{0} labels are corrections of {1} people"),
        (
            r": (\d+) of its files are unpacked beside it",
            "{0} files of an archive are unpacked beside it; those are read",
        ),
        (
            r"^(\d+) rows of .* have labels that corpus\.label_map .* leaves out",
            "{0} rows have labels that corpus.label_map leaves out; their images are unlabelled",
        ),
        (
            r"^(\d+) rows have labels that corpus\.label_map .* does not cover",
            "{0} rows have labels that corpus.label_map does not cover; their labels are unknown",
        ),
        (
            r"^(\d+) rows of .* and none of macular oedema",
            "{0} rows have no grade of macular oedema that would decide; their images are unlabelled",
        ),
        (r"(?i)patient leakage cannot be checked", "no patient is known; patient leakage cannot be checked"),
    )
)
_ERROR = _compiled(
    (
        (
            r"^corpus\.label_map .* does not cover the label",
            "corpus.label_map does not cover a label of the table; correct the table, or set corpus.outside",
        ),
        (
            r"cells, but the header has|cells, while the rows before",
            "a row of the table has more or fewer cells than its header",
        ),
        (r"the header stands here once more", "the header of the table stands in it twice"),
        (r"^none of the (\d+) rows of ", "none of the {0} rows of the table names an image"),
        (r"is not an image's name and its grade", "a line of a list is not an image's name and its grade"),
        (r"its first line names the image", "the table begins with an image's row; put a header before it"),
        (r": no column ", "the table lacks a column that the spec names"),
        (r" times in the header", "a column stands several times in the header of the table"),
        (r"the first line is blank", "the first line of the table is blank; a header is needed there"),
        (r"is blank; an image's name is needed", "a row of the table names no image"),
        (r"train, val or test is expected", "a split in the table is neither train, val nor test"),
        (r"the corpus has no image", "corpus.corrections names an image that the corpus does not have"),
        (r"a name and a date \(", "a row of corpus.corrections lacks who or when"),
        (r"correct .* on one day to different labels", "two rows of corpus.corrections of one day differ"),
        (r"do not lie as corpus\.folder says", "some images do not lie as corpus.folder says"),
        (r"corpus\.folder", "corpus.folder has a layout that cannot be read, or a split that is none"),
        (r"corpus\.corrections", "corpus.corrections is not there, or lacks a column"),
        (r"not CSV", "the table is not CSV"),
        (
            r"corpus\.table\.encoding|is not [\w-]+: line",
            "the table does not fit its encoding; set corpus.table.encoding",
        ),
        (r"stand for no value", "labels stand for no value; list them in corpus.table.unlabelled"),
        (r"are spellings of one word", "labels are spellings of one word; set corpus.classes"),
        (r"are below 0", "labels are below 0; list them in corpus.table.unlabelled or corpus.classes"),
        (r"needs the order of the grades", "corpus.task: ordinal needs the order of the grades in corpus.classes"),
        (r"is a list; set corpus\.task", "a label is a list; set corpus.task: multilabel"),
        (r"among the classes; first", "no label of the table is among the classes; set corpus.classes"),
        (r"is outside the classes", "a label of corpus.corrections is outside the classes"),
        (
            r"corpus\.table\.patient_pattern",
            "corpus.table.patient_pattern is no pattern with a group, or fits no image",
        ),
        (
            r"changed after the corpus was listed|length changed while",
            "a file changed while it was read; run again when nothing writes",
        ),
        (r": no image in it|^no image found", "no image was found in the corpus"),
        (
            r"no such folder or archive|looks for|no such archive|no object below",
            "corpus.root is not there, or not what the adapter expects",
        ),
        (r"(?i)\barchive\b|\.zip|\.tar|two entries", "an archive of the corpus cannot be read as a whole"),
    )
)

# Built from keys, counts, classes of the spec and names of the store alone, wherever an ingest raises them; subclasses,
# such as that of a source whose file changed, are not among them.
_WORDED: tuple[type[BaseException], ...] = (
    *(BudgetError, CancelledError, CorpusError, CorruptError, MissingObjectError, PoisonError, SpecError),
    *(TransientError, UsageError),
)
_MARK = "quotes_nothing"  # attribute of errors whose text quotes nothing of a corpus
_logged: set[tuple[str, ...]] = set()

Method = TypeVar("Method", bound=Callable[..., Any])


@dataclass(frozen=True)
class PrivateWords:
    """Words about one private corpus.

    Args:
        title: of the corpus.
    """

    title: str

    @property
    def log(self) -> Path:
        """Where the texts themselves go, on the machine that met them."""
        return owner_folder() / f"{self.title}.log"

    def of_file(self, reason: str, name: str = "") -> str:
        """Why a file cannot be stored; `name` (key or path) begins the line of the log."""
        for pattern in _FILE:
            found = pattern.match(reason)
            if found:
                if found.group() != reason:
                    self._keep((name, reason))
                return found.group()
        self._keep((name, reason))
        return "kept out"

    def of_os_error(self, error: OSError, name: str = "") -> str:
        """Why the system cannot read a file."""
        self._keep((name, str(error)))
        return os.strerror(error.errno) if error.errno else "it cannot be read"

    def of_rows(self, reasons: pa.StringArray, names: pa.StringArray) -> pa.StringArray:
        """Why rows do not count, "" where they do; `names` are for the log."""
        texts = reasons.to_pylist()
        known = {text: (_said(text, _ROW) or "kept out") if text else "" for text in set(texts)}
        self._keep(*((name, text) for name, text in zip(names.to_pylist(), texts, strict=True) if text))
        return pa.array([known[text] for text in texts], pa.string())

    def of_notes(self, notes: Sequence[str]) -> list[str]:
        """Notes on the corpus; one of an unknown kind says only that it was made."""
        self._keep(*(("note", note) for note in notes))
        return [_said(note, _NOTE) or f"a note on the corpus, which {self.log.name} has" for note in notes]

    def of_error(self, error: BaseException) -> StillroomError:
        """The error to raise instead of one that may quote the corpus."""
        kept = self._keep(("error", "".join(traceback.format_exception(error))))
        where = f"details, which may name patients, are in {self.log}" if kept else f"{self.log} cannot be written"
        kind: type[StillroomError] = PermanentError
        said = f"ingest ended in an error ({type(error).__name__})"
        if is_transient(error):
            kind, said = TransientError, "the corpus cannot be read at the moment"
        elif isinstance(error, UsageError | OSError):
            kind, said = CorpusError, "the corpus is not what the spec says, or cannot be read"
        said = _said(str(error), _ERROR) or said
        return marked(kind(f"private corpus {self.title}: {said}; {where}"))

    @contextmanager
    def guard(self, *, reading: bool = False) -> Iterator[None]:
        """Errors that leave are worded.

        Args:
            reading: the source or its tables are read inside, so that no error's text can be trusted.
        """
        try:
            yield
        except Exception as error:
            trusted = getattr(error, _MARK, False) or isinstance(error, CancelledError)
            if trusted or (not reading and type(error) in _WORDED):
                # Without what it came from, which a traceback would show.
                error.__cause__ = None
                raise error from None
            raise self.of_error(error) from None

    def _keep(self, *lines: tuple[str, str]) -> bool:
        """Add lines (whose, text) to the log that this process has not added yet; whether it could."""
        place = str(self.log)
        known = _logged if self.log.exists() else frozenset[tuple[str, ...]]()
        fresh = [line for line in dict.fromkeys(lines) if (place, *line) not in known]
        if not fresh:
            return True
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        try:
            append_owner_file(self.log, "".join(f"{now}\t{name}\t{text}\n" for name, text in fresh))
        except OSError:
            return False
        _logged.update((place, *line) for line in fresh)
        return True


def words_of(corpus: CorpusSection) -> PrivateWords | None:
    """Words about a corpus; None where it is not private."""
    return PrivateWords(corpus.title) if corpus.private else None


@contextmanager
def guarded(words: PrivateWords | None, *, reading: bool = False) -> Iterator[None]:
    """`PrivateWords.guard`; nothing where the corpus is not private."""
    if words is None:
        yield
        return
    with words.guard(reading=reading):
        yield


def guarded_method(method: Method) -> Method:
    """A method of an object with an attribute `words`, under its guard."""

    @wraps(method)
    def call(self: Any, *args: Any, **rest: Any) -> Any:
        with guarded(self.words):
            return method(self, *args, **rest)

    return call  # type: ignore[return-value]


def marked(error: Any) -> Any:
    """The error, known as one that quotes nothing of a corpus."""
    setattr(error, _MARK, True)
    return error


def _said(text: str, known: Sequence[tuple[re.Pattern[str], str]]) -> str | None:
    for pattern, said in known:
        found = pattern.search(text)
        if found:
            return said.format(*(group or "" for group in found.groups()))
    return None
