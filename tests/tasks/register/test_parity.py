"""The packed student against its evaluation: stored images, and the files that they were made of."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from infra.compute.cluster import Cluster
from infra.digest import sha256_bytes
from infra.errors import PermanentError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus, read_image
from tasks.evaluate.stage import evaluate
from tasks.pipeline.context import Context
from tasks.register import parity as module
from tasks.register.model import pack, preprocessing_of
from tasks.register.parity import Parity, parity
from tests.tasks.ingest.dicoms import dicom
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_corpus


@dataclass(frozen=True)
class Line:
    """A corpus, its student, the report on it, and the student's packed model."""

    corpus: Corpus
    student: Manifest
    report: Manifest
    packed: Path

    def compared(self, root: Path, *overrides: str, packed: Path | None = None) -> Parity:
        """What comes of the comparison where the corpus lies at `root`."""
        spec = tiny_spec(self.corpus.store, f"corpus.root={root}", *overrides)
        return parity(self.corpus, self.student, self.report, packed or self.packed, spec.each_corpus)


def pack_new(corpus: Corpus, student: Manifest, folder: Path) -> Path:
    """The packed model in a new folder."""
    from mlflow.models import Model

    folder.mkdir()
    return pack(corpus, student, folder, Model())


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Line:
    folder = tmp_path_factory.mktemp("parity")
    store = LocalStore(folder / "store")
    corpus = tiny_corpus(store, val=6, test=8, size=70)
    student = trained(corpus, "taught")
    report = evaluate(Context(store, cluster, tiny_spec(store).run), corpus, [student], tiny_spec(store)).manifest
    return Line(corpus, student, report, pack_new(corpus, student, folder / "packed"))


@pytest.fixture
def root(line: Line, tmp_path: Path) -> Path:
    """The test images as a user has them, in a folder below the root."""
    below = tmp_path / "downloaded" / "images"
    below.mkdir(parents=True)
    for shard in line.corpus.of_split("test"):
        for row, key in enumerate(shard.keys):
            (below / f"{key}.png").write_bytes(read_image(line.corpus.store, shard, row))
    return below.parent


def test_source_files_are_compared_where_they_lie(line: Line, root: Path) -> None:
    found = line.compared(root)
    assert found.sources.startswith("8 of 8 source files: inputs equal, probabilities within 0.0000")
    assert (found.images, found.largest) == (8, pytest.approx(0, abs=1e-5))


def test_a_file_that_changed_since_it_was_ingested_says_nothing(line: Line, root: Path) -> None:
    files = sorted((root / "images").iterdir())
    files[0].write_bytes(files[1].read_bytes())
    files[2].unlink()
    assert line.compared(root).sources.startswith("6 of 8 source files: inputs equal")


def test_a_folder_with_other_files_says_so(line: Line, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("moved to the archive")
    assert line.compared(tmp_path).sources == "not compared: corpus.root has none of the files as they were ingested"


def test_a_folder_that_is_gone_says_so(line: Line, tmp_path: Path) -> None:
    assert line.compared(tmp_path / "gone").sources == "not compared: corpus.root cannot be read any more"


def test_files_of_a_private_corpus_are_not_looked_for(line: Line, root: Path) -> None:
    assert line.compared(root, "corpus.private=true").sources == "not compared: the corpus is private"


def test_dicom_files_where_nothing_reads_them_say_so(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dicom(np.zeros((70, 70), np.uint8))
    (tmp_path / "test-0000.png").write_bytes(data)
    catalog = line.corpus.catalog
    digests = pc.if_else(pc.equal(catalog["key"], "test-0000"), sha256_bytes(data), catalog["source_sha256"])
    at = catalog.schema.get_field_index("source_sha256")
    of_dicom = Corpus(line.corpus.store, line.corpus.manifest)
    of_dicom.catalog = catalog.set_column(at, "source_sha256", digests)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    found = replace(line, corpus=of_dicom).compared(tmp_path)
    assert found.sources == "not compared: the source files are DICOM, and pydicom is not installed"


def test_a_student_that_treats_source_files_otherwise_is_refused(
    line: Line, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = line.corpus.manifest.section["ingest"] | {"mask": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}
    blind = Corpus(line.corpus.store, line.corpus.manifest.model_copy(update={"section": {"ingest": how}}))
    packed = pack_new(blind, line.student, tmp_path / "packed")
    monkeypatch.setattr(module, "TOLERANCE", 1e-4)
    with pytest.raises(PermanentError, match="from its evaluation, given the source file, on test image test-"):
        line.compared(root, packed=packed)


def test_bits_that_the_first_ingest_found_count(line: Line) -> None:
    manifest = line.corpus.manifest
    deep = manifest.model_copy(update={"facts": {**manifest.facts, "bits": 12}})
    bits = [preprocessing_of(each, line.student.facts).document()["steps"][0]["bits"] for each in (manifest, deep)]
    assert bits == [16, 12]


def test_a_manifest_that_does_not_say_how_images_were_stored_is_refused(line: Line) -> None:
    silent = line.corpus.manifest.model_copy(update={"section": {}})
    with pytest.raises(PermanentError, match="does not say how images were stored"):
        preprocessing_of(silent, line.student.facts)
