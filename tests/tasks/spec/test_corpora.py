"""`corpora:` in a spec: what it takes and what it refuses before a corpus is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import SpecError
from tasks.spec import load_spec, parse_spec

TWO = """
name: dr
store: store
corpora:
  - {adapter: eyepacs, root: images, label_map: referable}
  - {adapter: messidor, root: base, label_map: referable, use: test, ingest: {size: 300}}
teachers: [{name: big, model: resnet18, train: {epochs: 2}}]
student: {model: micro}
"""


def test_several_corpora_are_one_training_set() -> None:
    spec = parse_spec(TWO)
    assert ([corpus.title for corpus in spec.each_corpus], spec.corpus_title) == (
        ["eyepacs", "messidor"],
        "eyepacs-and-messidor",
    )


def test_each_is_stored_as_it_says_or_as_all() -> None:
    spec = parse_spec(TWO + "ingest: {size: 512}\n")
    assert [spec.ingest_of(number).size for number in range(2)] == [512, 300]


def test_what_the_training_set_makes_of_a_corpus_moves_no_shard() -> None:
    one, other = (parse_spec(TWO.replace("use: test", f"use: {use}")).each_corpus[1] for use in ("test", "pool"))
    assert one.identity() == other.identity()


def test_roots_are_taken_from_the_folder_of_the_spec(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TWO)
    spec = load_spec(tmp_path / "s.yaml")
    assert [corpus.root for corpus in spec.each_corpus] == [str(tmp_path / "images"), str(tmp_path / "base")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TWO + "corpus: {adapter: eyepacs, root: images}\n", "give corpus, or corpora for several, and not both"),
        (TWO.replace("corpora:", "corpus:"), "corpus"),
        (TWO.replace("messidor, root", "eyepacs, root"), "two corpora have the name eyepacs"),
        (TWO.replace("referable}\n", "referable, use: pool}\n", 1), "no corpus gives training labels"),
        (TWO.replace("use: test", "use: tset"), "corpora.1.use"),
        (TWO.replace("use: test", "used: test"), "unknown key corpora.1.used; did you mean use"),
        (TWO.replace("  - {adapter: eyepacs, root: images, label_map: referable}\n", ""), "for two or more"),
    ],
)
def test_a_wrong_list_says_where(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_spec(text)
