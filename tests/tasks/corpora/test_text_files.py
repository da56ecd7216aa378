"""Encodings and formats of tables and lists."""

from __future__ import annotations

import gzip
import io
import zipfile

import pytest

from infra.errors import CorpusError
from tasks.corpora.text_files import text_file

CHINESE = "image,label\nim1.png,正常\nim2.png,息肉\nim3.png,溃疡\n"
JAPANESE = "image,label\nim1.png,正常\nim2.png,潰瘍\nim3.png,ポリープ\n"
GERMAN = "image,label\nim1.png,Müller\nim2.png,Geschwür\nim3.png,Größe\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(encoding: str) -> None:
    file = text_file(CHINESE.encode(encoding), "a.csv")
    assert (file.text(), file.guessed) == (CHINESE, False)


def test_accents_of_western_europe_are_a_guess() -> None:
    file = text_file(GERMAN.encode("cp1252"), "labels.csv")
    assert (file.text(), file.encoding, file.guessed) == (GERMAN, "cp1252", True)


@pytest.mark.parametrize(
    ("encoding", "text", "reading"),
    [
        ("gbk", CHINESE, "'正常' in gb18030"),
        ("shift_jis", JAPANESE, "'正常' in shift_jis"),
        ("mac_roman", GERMAN, "'Müller' in mac_roman"),
        ("cp1251", "image,label\na,норма\n", "'норма' in cp1251"),
        ("utf-16-le", CHINESE, "it holds zero bytes, as utf-16-le"),
    ],
)
def test_an_encoding_that_is_not_sure_is_an_error_with_its_readings(encoding: str, text: str, reading: str) -> None:
    with pytest.raises(
        CorpusError, match=r"^labels\.csv is not UTF-8: .*; save it as UTF-8, or set corpus\.table"
    ) as e:
        text_file(text.encode(encoding), "labels.csv")
    assert reading in str(e.value)


def test_a_named_encoding_is_no_guess() -> None:
    file = text_file(CHINESE.encode("gbk"), "a.csv", "gbk")
    assert (file.text(), file.guessed) == (CHINESE, False)


def test_a_byte_that_does_not_fit_the_named_encoding_is_an_error_with_its_line() -> None:
    with pytest.raises(CorpusError, match=r"a\.csv is not ascii: line 2 has the byte 0xE6; set corpus\.table\.encod"):
        text_file(CHINESE.encode(), "a.csv", "ascii")


def test_an_unknown_encoding_is_an_error_of_the_spec() -> None:
    with pytest.raises(CorpusError, match=r"corpus\.table\.encoding: 'utf-99' is no encoding that Python has"):
        text_file(b"a", "a.csv", "utf-99")


def test_gzip_is_unpacked() -> None:
    assert text_file(gzip.compress(CHINESE.encode()), "a.csv.gz").text() == CHINESE


def test_gzip_that_is_cut_is_an_error() -> None:
    with pytest.raises(CorpusError, match=r"a\.csv\.gz: gzip that cannot be unpacked"):
        text_file(gzip.compress(CHINESE.encode() * 99)[:-20], "a.csv.gz")


def _workbook() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (_workbook(), "is an Excel workbook, not CSV; open it there and save it as `CSV UTF-8`"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "is an Excel workbook"),
        (b"PAR1" + bytes(99), "is Parquet"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "is a pointer of Git LFS"),
        (b"%PDF-1.7\n", "is a PDF"),
        (b"\xef\xbb\xbf\n<html><body><table>", "is a web page or XML, not CSV"),
        (b'[{"image": "a.png", "label": "x"}]', "is JSON, not CSV"),
        (b"BZh91AY", "is packed with bzip2; unpack it first"),
    ],
)
def test_a_file_of_another_format_is_named_as_what_it_is(data: bytes, said: str) -> None:
    with pytest.raises(CorpusError, match=r"labels\.csv") as caught:
        text_file(data, "labels.csv")
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
