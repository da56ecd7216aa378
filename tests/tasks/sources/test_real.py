"""The real subsets read the same packed, in parts and from a bucket."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from tasks.sources import open_source
from tests.s3server import S3Server
from tests.tasks.sources.packing import cut, tar_of, zip_of
from tests.tasks.sources.test_kinds import KVASIR, scan, told
from tests.tasks.sources.test_reading import rows

pytestmark = pytest.mark.real


@pytest.mark.parametrize("kind", ["zip", "parts", "tar", "s3"])
def test_hyper_kvasir_has_its_counts_and_bytes(real_data: Path, tmp_path: Path, s3_server: S3Server, kind: str) -> None:
    folder = real_data / "hyper-kvasir"
    if kind == "tar":
        url = str(tar_of(folder, tmp_path / "a.tar"))
    elif kind == "s3":
        bucket = s3_server.bucket()
        url = s3_server.url(bucket, "hk")
        shutil.copytree(folder / "labeled-images", s3_server.file(bucket, "hk/labeled-images"))
        shutil.copy(folder / "2_fold_split.csv", s3_server.file(bucket, "hk"))
        zip_of(folder / "unlabeled-images", s3_server.file(bucket, "hk/pool.zip"), within="unlabeled-images/")
    else:
        url = str(zip_of(folder, tmp_path / "a.zip", within="hk/", method=zipfile.ZIP_STORED))
        url = str(cut(Path(url), tmp_path / "p/a.zip.001", 5)) if kind == "parts" else url
    source = open_source(url)
    found = scan(KVASIR, source)
    assert told(found) == told(scan(KVASIR, open_source(folder)))
    assert (sum(r.labelled for r in found.rows), len(found.rows)) == (800, 1098)
    listed = rows(source)
    for row in list(found.rows)[:: 100 if kind == "s3" else 10]:
        path = "/".join(p for p in (found.below, row.path) if p)
        assert source.read(path, listed[path][1]) == (folder / str(row.path)).read_bytes()
