"""Files of a source that look like pictures and are not read."""

from __future__ import annotations

import pyarrow as pa

from tasks.sources.passed_over import passed_over


def notes(*paths: str) -> list[str]:
    return passed_over(pa.array(paths, pa.string()))


def test_images_tables_and_texts_leave_no_note() -> None:
    assert notes("a.jpg", "b.JFIF", "c.gif", "labels.csv", "README", "d/LICENSE", "x.pdf") == []


def test_nothing_leaves_no_note() -> None:
    assert notes() == []


def test_thumbnails_of_systems_are_counted() -> None:
    (note,) = notes("a.jpg", "@eaDir/a.jpg/SYNO_THUMB.jpg", "b/__MACOSX/c.png", "._d.tif")
    assert note.startswith("3 pictures in hidden or system folders (__MACOSX, @eaDir and the like)")


def test_formats_that_are_not_read_are_counted_by_suffix() -> None:
    (note,) = notes("a.heic", "b.HEIC", "c/d.nii", "c/e.jpg")
    assert note == "files of formats that are not read are passed over: 2 .heic, 1 .nii; convert them to PNG or JPEG"


def test_folders_of_which_nothing_is_read_are_named() -> None:
    (note,) = notes("normal/a.jpg", "polyp/b.png", "ulcer/1.nii", "ulcer/2.nii", "normal/c.nii")
    assert "passed over: 3 .nii; nothing is read in ulcer; convert them to PNG or JPEG" in note


def test_names_without_a_suffix_are_counted() -> None:
    (note,) = notes("IM0001", "s/IM0002", "a.jpg")
    assert note.startswith("2 files without a suffix are passed over; if they are pictures")
