"""Why a file's bytes cannot become a stored image, in words that hold neither its name nor an address."""

from __future__ import annotations

from infra.errors import PermanentError

# What is met under an image's name, by the bytes it starts with.
_STARTS = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"%PDF", "a PDF"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (b"8BPS", "a Photoshop file"),
    (b"SQLite format", "a database"),
)
_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF", b"avif": "AVIF"}
READABLE = "JPEG, PNG, TIFF, BMP, WebP or GIF"


class UnreadableError(PermanentError):
    """The bytes are no whole image that can be stored; the text says why, without naming the file."""


def check_size(width: int, height: int, kind: str, max_pixels: int) -> None:
    """Refuse what the header announces before anything is decoded.

    Args:
        width: of the picture in pixels, as its header says; so is the height.
        kind: format, for the message.
        max_pixels: most pixels that a picture may have.

    Raises:
        UnreadableError: no pixels, or too many.
    """
    if width < 1 or height < 1:
        raise UnreadableError(f"damaged {kind}: its header says {width} x {height} pixels")
    if width * height > max_pixels:
        raise UnreadableError(f"too large: {width} x {height} pixels, and max_pixels allows {max_pixels}")


def no_image(data: bytes) -> UnreadableError:
    """The error for bytes that start like none of the formats that can be read."""
    if not data:
        return UnreadableError("the file is empty (zero bytes)")
    if not data.strip(b"\0"):
        return UnreadableError(f"the file holds nothing but {len(data)} zero bytes")
    for start, what in _STARTS:
        if data.startswith(start):
            return UnreadableError(f"the content is {what}, whatever the name says; convert it to {READABLE}")
    if data[4:8] == b"ftyp" and data[8:12] in _BRANDS:
        return UnreadableError(f"the content is {_BRANDS[data[8:12]]}; convert it to {READABLE}")
    if data.startswith(b"version https://git-lfs.github.com/spec/"):
        return UnreadableError("the content is a pointer of Git LFS, not the image itself; run `git lfs pull`")
    text = data[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return UnreadableError("the content is an HTML page, perhaps the error page of a failed download")
    if text.startswith((b"<svg", b"<?xml")):
        return UnreadableError(f"the content is XML or SVG; draw it as {READABLE}")
    return UnreadableError("the content is no image, whatever the name says")
