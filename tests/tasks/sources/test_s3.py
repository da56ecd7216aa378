"""A corpus in a bucket reads as the same corpus in a folder does."""

from __future__ import annotations

import errno
import hashlib
import shutil
import zipfile
from pathlib import Path

import pytest

from infra.errors import CorpusError
from tasks.sources import SourceFileChangedError, Tree, open_source
from tasks.spec import CorpusSection
from tests.faultproxy import FaultProxy
from tests.s3server import S3Server
from tests.tasks.corpora.layouts import eyepacs
from tests.tasks.sources.packing import cut, tar_of, zip_of, zip_with
from tests.tasks.sources.test_kinds import EYEPACS, KINDS, KVASIR, PACKED_FOLDERS, layout, scan, told
from tests.tasks.sources.test_reading import CONTENT, rows


@pytest.mark.parametrize("section", [EYEPACS, KVASIR], ids=lambda s: s.adapter)
@pytest.mark.parametrize("kind", [*KINDS, *PACKED_FOLDERS])
def test_every_kind_reads_the_same_from_a_bucket(
    tmp_path: Path, s3_server: S3Server, kind: str, section: CorpusSection
) -> None:
    folder = layout(section, tmp_path / "folder")
    (tmp_path / "place").mkdir()
    made = {**KINDS, **PACKED_FOLDERS}[kind](folder, tmp_path / "place")
    bucket = s3_server.bucket()
    here = tmp_path / "place" if made.is_file() else made
    shutil.copytree(here, s3_server.file(bucket, "deep/corpus"))
    url = s3_server.url(bucket, f"deep/corpus/{made.name}" if made.is_file() else "deep/corpus")
    source = open_source(url)
    found = scan(section, source)
    assert told(found) == told(scan(section, open_source(folder)))
    listed = rows(source)
    again = open_source(source.url)
    images = [row.path for row in found.rows if row.path]
    for path in images[:3]:
        data = (folder / path).read_bytes()
        full = "/".join(part for part in (found.below, path) if part)
        assert again.read(full, listed[full][1]) == data
        assert again.digest(full, listed[full][1]) == hashlib.sha256(data).hexdigest()
        assert listed[full][0] == len(data)


def placed(server: S3Server, archive: Path) -> tuple[str, str, Path]:
    """(url of the bucket, url of the archive, the file behind it)."""
    bucket = server.bucket()
    target = server.file(bucket, archive.name)
    shutil.copyfile(archive, target)
    return server.url(bucket), server.url(bucket, archive.name), target


def test_an_object_that_changed_is_noticed(s3_server: S3Server) -> None:
    bucket = s3_server.bucket()
    s3_server.file(bucket, "a.jpg").write_bytes(b"one")
    source = open_source(s3_server.url(bucket))
    stamp = rows(source)["a.jpg"][1]
    s3_server.file(bucket, "a.jpg").write_bytes(b"two")
    for way in (source.read, source.digest):
        with pytest.raises(SourceFileChangedError, match=r"a\.jpg: .*run again"):
            way("a.jpg", stamp)


@pytest.mark.parametrize("kind", ["a.zip", "a.zip.001", "a.tar"])
def test_an_archive_that_changed_is_noticed_by_an_open_source_and_by_a_new_one(
    tmp_path: Path, s3_server: S3Server, kind: str
) -> None:
    folder = eyepacs(tmp_path / "f", {"1_left": 0, "1_right": 1})
    made = tar_of(folder, tmp_path / kind) if kind == "a.tar" else zip_of(folder, tmp_path / "a.zip")
    if kind == "a.zip.001":
        made = cut(made, tmp_path / kind, 1)
    _, url, file = placed(s3_server, made)
    source = open_source(url)
    stamp = rows(source)["train/1_left.jpeg"][1]
    assert source.read("train/1_left.jpeg", stamp) == (folder / "train/1_left.jpeg").read_bytes()
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    for reader in (source, open_source(url)):
        with pytest.raises(SourceFileChangedError, match="run again"):
            reader.read("train/1_left.jpeg", stamp)


def test_an_object_that_is_gone_cannot_be_read(s3_server: S3Server) -> None:
    bucket = s3_server.bucket()
    s3_server.file(bucket, "a.jpg").write_bytes(b"one")
    source = open_source(s3_server.url(bucket))
    stamp = rows(source)["a.jpg"][1]
    s3_server.file(bucket, "a.jpg").unlink()
    for way in (source.read, source.digest):
        with pytest.raises(OSError) as caught:
            way("a.jpg", stamp)
        assert caught.value.errno == errno.ENOENT


def test_a_prefix_without_objects_is_told_with_what_is_there(s3_server: S3Server) -> None:
    bucket = s3_server.bucket()
    s3_server.file(bucket, "kvasir").mkdir()
    s3_server.file(bucket, "kvasir/a.jpg").write_bytes(b"x")
    with pytest.raises(CorpusError, match=r"s3://.*/kvasirr: no object below this prefix; the bucket has kvasir"):
        open_source(s3_server.url(bucket, "kvasirr")).files()


def test_an_archive_that_is_not_there_is_told(s3_server: S3Server) -> None:
    bucket = s3_server.bucket()
    s3_server.file(bucket, "b.zip").write_bytes(b"")
    with pytest.raises(CorpusError, match=r"s3://.*/a\.zip: no such archive; the bucket has b\.zip"):
        open_source(s3_server.url(bucket, "a.zip")).files()
    with pytest.raises(CorpusError, match=r"s3://.*/a\.tar\.gz: no such archive"):
        open_source(s3_server.url(bucket, "a.tar.gz")).files()


def test_a_prefix_is_a_folder_not_the_beginning_of_a_name(s3_server: S3Server) -> None:
    bucket = s3_server.bucket()
    for name in ("corpus", "corpus-old"):
        s3_server.file(bucket, name).mkdir()
        s3_server.file(bucket, f"{name}/a.jpg").write_bytes(b"x")
    assert list(rows(open_source(s3_server.url(bucket, "corpus")))) == ["a.jpg"]


def test_a_malformed_archive_in_a_bucket_is_refused_by_its_address(tmp_path: Path, s3_server: S3Server) -> None:
    whole = zip_with(tmp_path / "a.zip", CONTENT.items())
    whole.write_bytes(whole.read_bytes()[:-30])
    for url in placed(s3_server, whole)[:2]:
        with pytest.raises(CorpusError, match=r"s3://.*/a\.zip: its end is missing: the archive is cut"):
            open_source(url).files()


def test_a_member_costs_one_request(tmp_path: Path, s3_server: S3Server, fault_proxy: FaultProxy) -> None:
    whole = zip_with(tmp_path / "a.zip", CONTENT.items(), zipfile.ZIP_STORED)
    bucket = s3_server.bucket()
    shutil.copyfile(whole, s3_server.file(bucket, "a.zip"))
    listed = rows(open_source(s3_server.url(bucket, "a.zip")))
    worker = open_source(s3_server.url(bucket, "a.zip", endpoint=fault_proxy.endpoint))
    for path, data in CONTENT.items():
        assert worker.read(path, listed[path][1]) == data
    methods = [request.method for request in fault_proxy.requests]
    assert methods == ["HEAD"] + ["GET"] * len(CONTENT)


@pytest.mark.parametrize("fault", ["500", "503", "reset", "short", "wrong"])
def test_a_fault_on_the_way_costs_another_attempt_and_no_wrong_byte(
    tmp_path: Path, s3_server: S3Server, fault_proxy: FaultProxy, fault: str
) -> None:
    bucket = s3_server.bucket()
    shutil.copyfile(zip_with(tmp_path / "a.zip", CONTENT.items()), s3_server.file(bucket, "a.zip"))
    s3_server.file(bucket, "b.jpg").write_bytes(b"b" * 5000)
    source = open_source(s3_server.url(bucket, endpoint=fault_proxy.endpoint))
    tree = Tree(source)
    tree.images()
    fault_proxy.fail(fault, key="b.jpg", times=2)
    assert tree.read("b.jpg") == b"b" * 5000
    path = "train/0.jpeg"
    fault_proxy.fail(fault, key="a.zip", times=1)
    assert tree.read(path) == CONTENT[path]
    fault_proxy.fail(fault, key="a.zip", times=1)
    assert source.digest(path, rows(source)[path][1]) == hashlib.sha256(CONTENT[path]).hexdigest()
