"""What is said of a private corpus: fixed sentences, in which numbers alone vary."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from infra.errors import BudgetError, CorpusError, PermanentError, TransientError
from tasks.ingest.private_words import PrivateWords, guarded, marked
from tasks.sources.base import SourceFileChangedError

WORDS = PrivateWords("ours")


@pytest.fixture(autouse=True)
def own_home(home: Path) -> Path:
    return home


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("too large: 9 x 8 pixels, and max_pixels allows 7", "too large: 9 x 8 pixels, and max_pixels allows 7"),
        ("the file is empty (zero bytes)", "the file is empty (zero bytes)"),
        ("damaged PNG: crc of chunk b'DoeJ' at byte 8 is wrong", "damaged PNG"),
        ("the TIFF is cut off or damaged: tag b'doe' is wrong", "the TIFF is cut off or damaged"),
        ("the content is a PDF, whatever the name says", "the content is a PDF"),
        ("kills its process: exit code 9, doe", "kills its process"),
        ("too large: 9 x 8 pixels, and max_pixels allows 7 doe", "kept out"),
        ("doe", "kept out"),
    ],
)
def test_of_a_file_only_the_kind_is_said(reason: str, said: str) -> None:
    assert WORDS.of_file(reason) == said


def test_rows_keep_their_places() -> None:
    reasons = pa.array(["", "doe.csv line 3: label 'doe' is outside the classes (x)", "doe", ""])
    assert WORDS.of_rows(reasons, pa.array(["a", "b", "c", "d"])).to_pylist() == [
        "",
        "its label is outside the classes",
        "kept out",
        "",
    ]


def test_notes_keep_their_numbers_and_none_is_dropped() -> None:
    notes = [
        "3 of 7 names in doe.txt have no image here",
        "patient 'doe' stands for nobody: 4 rows, each",
        "5 rows of doe.csv have labels that corpus.label_map kvasir leaves out (doe); their images are unlabelled",
        "6 rows have labels that corpus.label_map kvasir does not cover: 'doe' (6 rows, first doe.csv line 2); their",
        "7 rows of doe.csv have a grade that is not referable and none of macular oedema; their images are unlabelled",
        "doe",
    ]
    assert WORDS.of_notes(notes) == [
        "3 of 7 names in a list have no image here",
        "a patient stands for nobody: 4 rows, each image a patient of its own",
        "5 rows have labels that corpus.label_map leaves out; their images are unlabelled",
        "6 rows have labels that corpus.label_map does not cover; their labels are unknown",
        "7 rows have no grade of macular oedema that would decide; their images are unlabelled",
        "a note on the corpus, which ours.log has",
    ]


def test_the_system_says_why_a_file_cannot_be_read_without_its_name() -> None:
    assert WORDS.of_os_error(OSError(errno.EACCES, "doe", "doe.jpg")) == "Permission denied"


def test_a_text_stands_once_in_the_log() -> None:
    for _ in range(2):
        WORDS.of_file("doe", "key")
    assert WORDS.log.read_text().count("key\tdoe\n") == 1


def test_while_a_corpus_is_read_no_text_is_trusted() -> None:
    with pytest.raises(CorpusError, match="private corpus ours") as caught, WORDS.guard(reading=True):
        raise CorpusError("doe.csv: no column 'doe'")
    assert "doe" not in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args


def test_errors_made_of_keys_pass_without_what_they_came_from() -> None:
    with pytest.raises(BudgetError, match="3 of 9") as caught, WORDS.guard():
        raise BudgetError("3 of 9 images") from ValueError("doe")
    assert caught.value.__cause__ is None


def test_an_error_is_worded_once() -> None:
    with pytest.raises(PermanentError, match=r"^said$"), WORDS.guard(reading=True):
        raise marked(PermanentError("said"))


@pytest.mark.parametrize(
    "error", [SourceFileChangedError("doe changed after the corpus was listed"), TimeoutError("doe")]
)
def test_what_may_pass_stays_transient(error: Exception) -> None:
    with pytest.raises(TransientError) as caught, WORDS.guard():
        raise error
    assert "doe" not in str(caught.value)


def test_a_log_that_cannot_be_written_is_said(home: Path) -> None:
    WORDS.log.parent.write_text("a file where the folder should be")
    with pytest.raises(PermanentError, match=r"ours\.log cannot be written"), WORDS.guard():
        raise ValueError("doe")


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (
            "patient 'doe' stands for 12 of 48 images that have a patient; if it is nobody, leave its cells blank",
            "one patient stands for 12 of 48 images that have a patient; if it is nobody, leave its cells blank",
        ),
        ("3 patients are spelled in several ways; first 'Doe' and 'doe'", "3 patients are spelled in several ways"),
        ("3 labels are other spellings of their class (case); first 'Doe' for 'doe'", "3 labels are other spellings"),
        (
            "classes 'doe', 'Doe' are spellings of one word; each stays a class",
            "some classes are spellings of one word",
        ),
    ],
)
def test_notes_on_classes_and_patients_keep_their_kind(note: str, said: str) -> None:
    (found,) = WORDS.of_notes([note])
    assert found.startswith(said)
    assert "doe" not in found.lower()


def test_other_corpora_say_everything() -> None:
    with pytest.raises(CorpusError, match=r"^doe\.csv$"), guarded(None, reading=True):
        raise CorpusError("doe.csv")
