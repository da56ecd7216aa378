"""Bytes of a table or a list as text: what the file really is, and which encoding it is in."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from dataclasses import dataclass

from infra.errors import CorpusError

LARGEST = 1 << 30
"""Bytes of an unpacked table; a packed file that holds more is refused."""

ENCODING = "corpus.table.encoding"

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    # Before UTF-16, whose little-endian mark it begins with.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

# What spreadsheets save tables in where nobody asked for UTF-8.
_COMMON = ("cp1252", "mac_roman", "gb18030", "shift_jis", "big5", "euc_kr", "cp1250", "cp1251")
_SHOWN = 5
_ENDS = (b"\n", b"\r", b",", b";", b"\t")  # of a cell

# Stretches of bytes beyond ASCII, with the letters at both ends.
_STRETCH = re.compile(rb"[A-Za-z]?[\x80-\xff]+[A-Za-z]?")
# One or two accented letters of Western Europe beside a plain one. In other encodings of the list these bytes are
# symbols, or come in longer stretches.
_WESTERN = re.compile(
    rb"(?:[A-Za-z][\xc0-\xd6\xd8-\xf6\xf8-\xff]{1,2}[A-Za-z]?|[\xc0-\xd6\xd8-\xf6\xf8-\xff]{1,2}[A-Za-z])"
)

_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|body|table|\?xml)\b", re.IGNORECASE)
_JSON = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:\{\s*\"|\[\s*[\[{])")
_WORKBOOK = "is an Excel workbook, not CSV; open it there and save it as `CSV UTF-8`"
_FORMATS = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _WORKBOOK),
    (b"PAR1", "is Parquet, not CSV; write it as CSV first"),
    (b"%PDF", "is a PDF, not CSV"),
    (b"{\\rtf", "is a text document (RTF), not CSV; save it as plain text"),
    (b"BZh", "is packed with bzip2; unpack it first"),
    (b"\xfd7zXZ\x00", "is packed with xz; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is packed with zstd; unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive; unpack it first"),
    (b"Rar!", "is a RAR archive; unpack it first"),
    (b"version https://git-lfs.github.com/spec/", "is a pointer of Git LFS, not the file itself; run `git lfs pull`"),
)


@dataclass(frozen=True)
class TextFile:
    """Bytes that are text, and how to read them.

    Args:
        data: without what it was packed in.
        encoding: a codec's name; every byte of `data` fits it.
        guessed: whether the encoding is a guess.
    """

    data: bytes
    encoding: str
    guessed: bool = False

    def open(self) -> io.TextIOWrapper:
        """The text, read bit by bit; ends of lines stay as they are."""
        return io.TextIOWrapper(io.BytesIO(self.data), self.encoding, newline="")

    def text(self) -> str:
        """The whole text."""
        return self.data.decode(self.encoding)


def text_file(data: bytes, shown: str, encoding: str | None = None) -> TextFile:
    """What a file holds as text; gzip is unpacked.

    Args:
        shown: the file's name for messages.
        encoding: that of the spec; default: by the byte order mark, else UTF-8, else a guess.

    Raises:
        CorpusError: the file is of another format, or a byte does not fit the encoding.
    """
    data = _unpacked(data, shown)
    _check_format(data, shown)
    if encoding is not None:
        return TextFile(data, _checked(data, shown, encoding))
    for mark, own in _MARKS:
        if data.startswith(mark):
            return TextFile(data, _checked(data, shown, own))
    if b"\0" not in data and _misfit(data, "utf-8") is None:
        return TextFile(data, "utf-8")
    if b"\0" not in data and all(_WESTERN.fullmatch(stretch) for stretch in _STRETCH.findall(data)):
        return TextFile(data, "cp1252", guessed=True)
    raise CorpusError(f"{shown} is not UTF-8: {_readings(data)}; save it as UTF-8, or set {ENCODING}")


def _readings(data: bytes) -> str:
    """Where a file is not UTF-8, and what stands there in the encodings that it may be in."""
    position = _misfit(data, "utf-8")
    if position is None or b"\0" in data:
        wide = [name for name in ("utf-16-le", "utf-16-be") if _misfit(data, name) is None]
        return "it holds zero bytes, as " + (" or ".join(wide) if wide else "no text does")
    start = max(data.rfind(mark, 0, position) for mark in _ENDS) + 1
    end = min((found for mark in _ENDS if (found := data.find(mark, position)) >= 0), default=len(data))
    texts: dict[str, str] = {}
    for encoding in _COMMON:
        if _misfit(data, encoding) is None:
            text = data[start:end].decode(encoding, "replace").strip()
            if text.isprintable() and text not in texts:
                texts[text] = encoding
    readings = ", ".join(f"{text!r} in {encoding}" for text, encoding in list(texts.items())[:_SHOWN])
    return f"{_where(data, position)}" + (f", which reads {readings}" if readings else "")


def _unpacked(data: bytes, shown: str) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            found = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{shown}: gzip that cannot be unpacked ({error}); pack it again") from None
    if len(found) > LARGEST:
        raise CorpusError(f"{shown}: gzip that holds more than {LARGEST >> 20} MiB; unpack it, and look at it, first")
    return found


def _check_format(data: bytes, shown: str) -> None:
    if data.startswith(b"PK\x03\x04"):
        workbook = b"xl/" in data or b"[Content_Types].xml" in data
        raise CorpusError(f"{shown} {_WORKBOOK if workbook else 'is a zip, not CSV; unpack it, or name it .zip'}")
    if _PAGE.match(data):
        raise CorpusError(f"{shown} is a web page or XML, not CSV; open it in a spreadsheet and save it as `CSV UTF-8`")
    if _JSON.match(data):
        raise CorpusError(f"{shown} is JSON, not CSV; write it as CSV first")
    for mark, problem in _FORMATS:
        if data.startswith(mark):
            raise CorpusError(f"{shown} {problem}")


def _checked(data: bytes, shown: str, encoding: str) -> str:
    try:
        codecs.lookup(encoding)
        misfit = _misfit(data, encoding)
    except LookupError:
        raise CorpusError(
            f"{ENCODING}: {encoding!r} is no encoding that Python has; such as utf-8, cp1252, gbk"
        ) from None
    if misfit is not None:
        raise CorpusError(f"{shown} is not {encoding}: {_where(data, misfit)}; set {ENCODING} to another")
    return encoding


def _misfit(data: bytes, encoding: str) -> int | None:
    """Position of the first byte that does not fit; None where all do."""
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        return error.start
    except UnicodeError:  # UTF-16 and UTF-32 without a mark
        return 0
    return None


def _where(data: bytes, position: int) -> str:
    line = data.count(b"\n", 0, position) + 1
    return f"line {line} has the byte 0x{data[position]:02X}"
