"""Real photographs as they were downloaded: a registered student sees and answers what the evaluation did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.compute.cluster import Cluster
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.evaluate.stage import evaluate
from tasks.pipeline.context import Context
from tasks.register import parity as module
from tests.tasks.ingest.real_corpora import CORPORA
from tests.tasks.ingest.specs import run, spec
from tests.tasks.ingest.test_real_sources import part_of
from tests.tasks.register.test_parity import pack_new
from tests.tasks.trained import trained

pytestmark = pytest.mark.real

FUNDUS = {**CORPORA["imo-fundus"], "table": {**CORPORA["imo-fundus"]["table"], "label": "DME"}}
KVASIR, CHEST = CORPORA["hyper-kvasir"], CORPORA["chestx-ray14"]
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "crop endoscopy": ("hyper-kvasir", KVASIR, {"size": 256}),
    "mask": ("hyper-kvasir", KVASIR, {"size": 256, "mask": "hyper-kvasir"}),
    "crop fundus": ("imo-fundus", FUNDUS, {"size": 256}),
    "chest x-rays": ("chestx-ray14", CHEST, {"size": 128}),
    "keep": ("hyper-kvasir", KVASIR, {"size": None, "encode": "keep"}),
    "size null": ("chestx-ray14", CHEST, {"size": None, "encode": "png"}),
}
KINDS = {"crop endoscopy": "endoscopy", "crop fundus": "fundus"}


@pytest.mark.parametrize("case", CASES)
def test_source_files_are_seen_as_evaluated(
    case: str, real_data: Path, tmp_path: Path, store: LocalStore, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, corpus_section, ingest = CASES[case]
    part_of(real_data / name, tmp_path / name)
    sections = {"ingest": ingest, "evaluate": {"bootstrap": 50}, "run": {"device": "cpu"}}
    own = spec(tmp_path / name, store, corpus_section, **sections)
    corpus = Corpus(store, run(own, cluster).manifest)
    assert (corpus.manifest.facts["cropped"] > 0) == (case in KINDS)
    assert corpus.manifest.section["ingest"]["crop"] == KINDS.get(case, "none")
    student = trained(corpus, "taught", view_size=96, input_size=80)
    report = evaluate(Context(store, cluster, own.run), corpus, [student], own).manifest
    monkeypatch.setattr(module, "CHECKED", 24)
    found = module.parity(corpus, student, report, pack_new(corpus, student, tmp_path / "packed"), own.each_corpus)
    assert found.sources.startswith(f"{found.images} of {found.images} source files: inputs equal")
    assert found.images >= 3
    assert found.largest == pytest.approx(0, abs=1e-5)
