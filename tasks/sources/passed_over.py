"""What of a source is no image of the corpus: system folders, thumbnails, and formats that are not read."""

from __future__ import annotations

import re
from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from tasks.sources.masks import masks_note

DICOM_SUFFIXES = (".dcm", ".dicom")
IMAGE_SUFFIXES = (
    *(".jpeg", ".jpg", ".jfif", ".jpe", ".jif", ".png"),
    *(".tif", ".tiff", ".bmp", ".webp", ".gif", *DICOM_SUFFIXES),
)
"""Suffixes of files that are read as images, whatever their content then is."""

SYSTEM_FOLDERS = (
    *("__MACOSX", "@eaDir", "@tmp", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information"),
    "lost+found",
)
"""Folders that file systems and archivers keep beside one's own, some of them full of thumbnails."""

HIDDEN = rf"(^|/)(\.|(?:{'|'.join(re.escape(name) for name in SYSTEM_FOLDERS)})/)"
"""Matches paths of hidden files, and of files in hidden or system folders. RE2 and Python read it alike."""

_OTHER = (
    *(".ima", ".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".jp2", ".j2k", ".jpf", ".jxl"),
    *(".heic", ".heif", ".avif", ".psd", ".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".czi", ".qptiff"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raw", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico"),
    *(".svg", ".eps", ".exr", ".hdr", ".mp4", ".avi", ".mov", ".wmv", ".mpg", ".mpeg", ".mkv"),
)
_TEXTS = ("license", "licence", "readme", "copying", "citation", "changelog", "makefile", "notice", "authors")
_SHOWN = 6


def is_visible(name: str) -> bool:
    """Whether a folder's name is neither hidden nor a system's."""
    return not name.startswith(".") and name not in SYSTEM_FOLDERS


def passed_over(paths: pa.StringArray) -> list[str]:
    """Notes, with counts, on files that look like pictures and are not read.

    Args:
        paths: of all files.
    """
    if not len(paths):
        return []
    hidden = pc.match_substring_regex(paths, HIDDEN)
    notes = []
    if thumbnails := len(paths.filter(pc.and_(hidden, _ends(paths, IMAGE_SUFFIXES)))):
        notes.append(
            f"{thumbnails} pictures in hidden or system folders ({', '.join(SYSTEM_FOLDERS[:2])} and the like), or "
            "with a hidden name, are passed over"
        )
    shown = paths.filter(pc.invert(hidden))
    pictures = shown.filter(_ends(shown, IMAGE_SUFFIXES))
    notes += masks_note(pictures)
    other = shown.filter(_ends(shown, _OTHER))
    if len(other):
        kinds = Counter(path[path.rindex(".") :].lower() for path in other.to_pylist())
        named = ", ".join(f"{count} {suffix}" for suffix, count in kinds.most_common(_SHOWN))
        # A class may be one of these folders: that it vanishes must be said.
        lost = sorted(_folders(other) - _folders(pictures))
        more = f" and {len(lost) - _SHOWN} more folders" if len(lost) > _SHOWN else ""
        where = f"; nothing is read in {', '.join(lost[:_SHOWN])}{more}" if lost else ""
        notes.append(f"files of formats that are not read are passed over: {named}{where}; convert them to PNG or JPEG")
    bare = shown.filter(pc.match_substring_regex(shown, r"(^|/)[^./]+$"))
    unknown = [path for path in bare.to_pylist() if path.rpartition("/")[2].lower() not in _TEXTS]
    if unknown:
        notes.append(
            f"{len(unknown)} files without a suffix are passed over; if they are pictures, give them the suffix of one"
        )
    return notes


def _folders(paths: pa.StringArray) -> set[str]:
    """Folders that hold some of the files, without the root."""
    return {path.rpartition("/")[0] for path in paths.to_pylist()} - {""}


def _ends(paths: pa.StringArray, suffixes: tuple[str, ...]) -> pa.BooleanArray:
    ending = "|".join(re.escape(suffix) for suffix in suffixes)
    return pc.match_substring_regex(paths, f"({ending})$", ignore_case=True)
