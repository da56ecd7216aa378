"""A table none of whose rows names an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CorpusError
from tests.tasks.corpora.tables import scan


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("1.0", "im/1.png", "'1.0' would be 'im/1.png' as a whole number: the numbers of the table became decimals"),
        ("7", "007.png", "'7' would be '007.png' with other leading zeros"),
        ("train/a.png", "resized/a/a.png", "have the same name in other folders"),
    ],
)
def test_both_spellings_are_shown_with_how_they_differ(tmp_path: Path, name: str, path: str, said: str) -> None:
    with pytest.raises(CorpusError, match=r"none of the 1 rows of labels\.csv names an image") as caught:
        scan(tmp_path, [f"{name},x"], [path])
    text = str(caught.value)
    assert f"the table has {name!r} (labels.csv line 2, column 'name'), the folder has {path!r}" in text
    assert said in text


@pytest.mark.parametrize("name", ["7_left", "a.png"])
def test_a_table_that_begins_with_an_image_has_no_header(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorpusError, match=rf"labels\.csv: its first line names the image '{name}'; put a header"):
        scan(
            tmp_path, ["b,y"], [f"{name.removesuffix('.png')}.png", "b.png"], header=f"{name},x", image=name, label="x"
        )


def test_a_column_may_be_called_like_an_image(tmp_path: Path) -> None:
    assert len(scan(tmp_path, ["name,x", "b,y"], ["name.png", "b.png"]).rows) == 2


def test_names_that_have_nothing_in_common_are_shown_alone(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"the folder has 'b\.png'$"):
        scan(tmp_path, ["a,x"], ["b.png"])
