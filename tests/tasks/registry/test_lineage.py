"""From a registered version to the digests of raw images, each held against the store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from flows.cli import cli
from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.pipeline.context import Context
from tasks.register.provenance import UNKNOWN, code_version, licence_of
from tasks.register.stage import register
from tasks.registry.lineage import lineage
from tasks.registry.lineage_text import lineage_lines
from tests.tasks.machine import own_machine
from tests.tasks.registered import JudgedStudents, judged
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_labels


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[tuple[JudgedStudents, Manifest]]:
    """`eyes` with a teacher that was trained here, and its soft labels."""
    with own_machine(tmp_path_factory.mktemp("home")):
        made = judged(tmp_path_factory.mktemp("line"), cluster)
        corpus = made.corpus
        teacher = trained(corpus, "teacher:big")
        labels = tiny_labels(corpus, "big", lambda shard, view: np.zeros((len(shard), 3), np.float32))
        weights = teacher.output(kind="model").id
        facts = {"teacher": "big", "weights": weights, "files": [weights]}
        labels = labels.model_copy(update={"facts": facts})
        corpus.store.put(labels.name, labels.to_bytes())
        spec = tiny_spec(corpus.store, "register.name=eyes")
        register(Context(corpus.store), made.report, made.models[0], corpus, [labels], spec)
        yield made, teacher


@pytest.fixture
def store(line: tuple[JudgedStudents, Manifest], tmp_path: Path) -> LocalStore:
    """A copy of the store that a test may damage."""
    original = Path(line[0].corpus.store.url)
    return LocalStore(shutil.copytree(original, tmp_path / "store"))


def flip(store: LocalStore, name: str, at: int) -> None:
    data = bytearray(store.get(name))
    data[at] ^= 1
    store.put(name, bytes(data))


def of_kind(line: tuple[JudgedStudents, Manifest], kind: str) -> list[str]:
    return [output.name for output in line[0].corpus.manifest.outputs_where(kind=kind)]


def test_a_version_leads_to_every_manifest_that_it_was_made_of(
    line: tuple[JudgedStudents, Manifest], store: LocalStore
) -> None:
    found = lineage("eyes", store)
    assert found.sound
    made, teacher = line
    digests = {node.digest for node in found.nodes}
    assert {made.corpus.manifest.digest, made.report.digest, made.models[0].digest, teacher.digest} <= digests
    assert [node.stage for node in found.nodes] == ["evaluate", "distill", "teach", "label", "ingest"]
    assert made.models[1].digest not in digests
    (corpus,) = [node for node in found.nodes if node.stage == "ingest"]
    assert corpus.facts["images"] == sum(len(shard) for shard in made.corpus.shards)
    assert found.weights == {"big": teacher.output(kind="model").id}
    assert found.code == code_version()
    assert found.environment["torch"]
    assert found.objects >= len(made.corpus.manifest.outputs) + 4
    text = "\n".join(lineage_lines(found))
    assert "eyes version 1 (alias champion)" in text
    assert "soft labels" in text
    assert f"verified: {found.objects} objects" in text


def test_one_byte_of_one_shard_is_found_and_its_image_named(
    line: tuple[JudgedStudents, Manifest], store: LocalStore
) -> None:
    shard = line[0].corpus.shards[1]
    flip(store, shard.output.name, int(shard.offsets[3]) + 20)
    (defect,) = lineage("eyes", store).defects
    assert (defect.object, defect.kind, defect.samples) == (shard.output.name, "bytes", (shard.keys[3],))


@pytest.mark.parametrize("kind", ["shard", "index", "catalog"])
def test_an_object_that_is_gone_is_found(line: tuple[JudgedStudents, Manifest], store: LocalStore, kind: str) -> None:
    name = of_kind(line, kind)[0]
    store.delete(name)
    found = lineage("eyes", store)
    assert (name, "missing") in [(defect.object, defect.kind) for defect in found.defects]


@pytest.mark.parametrize("what", ["student", "teacher", "report"])
def test_damage_of_what_the_student_was_made_with_is_found(
    line: tuple[JudgedStudents, Manifest], store: LocalStore, what: str
) -> None:
    made, teacher = line
    manifest = {"student": made.models[0], "teacher": teacher, "report": made.report}[what]
    name = manifest.outputs[0].name
    flip(store, name, 40)
    assert [(defect.object, defect.kind) for defect in lineage("eyes", store).defects] == [(name, "bytes")]


def test_a_manifest_that_is_gone_or_damaged_is_found(line: tuple[JudgedStudents, Manifest], store: LocalStore) -> None:
    store.delete(line[0].report.name)
    flip(store, line[0].models[0].name, 30)
    found = lineage("eyes", store)
    told = {defect.object: defect.detail for defect in found.defects}
    assert "no manifest of this digest" in told[f"evaluate manifest {line[0].report.digest}"]
    assert line[0].models[0].name in told[f"distill manifest {line[0].models[0].digest}"]


def test_without_a_store_the_registry_alone_speaks(line: tuple[JudgedStudents, Manifest]) -> None:
    found = lineage("eyes@champion")
    assert {node.stage for node in found.nodes} == {"evaluate", "distill", "label", "ingest"}
    assert lineage_lines(found)[-1].startswith("not verified")


def test_licences_are_those_of_the_spec_or_the_adapter(line: tuple[JudgedStudents, Manifest]) -> None:
    store = line[0].corpus.store
    ours = tiny_spec(store).each_corpus[0]
    assert licence_of(ours) == UNKNOWN
    assert licence_of(tiny_spec(store, "corpus.licence=CC0 1.0").each_corpus[0]) == "CC0 1.0"
    assert licence_of(tiny_spec(store, adapter="hyper-kvasir").each_corpus[0]) == "CC BY 4.0"
    assert lineage("eyes").licences == {"tiny": UNKNOWN}


def test_a_licence_enters_no_key(line: tuple[JudgedStudents, Manifest]) -> None:
    store = line[0].corpus.store
    with_it = tiny_spec(store, "corpus.licence=CC0 1.0").each_corpus[0]
    assert with_it.identity() == tiny_spec(store).each_corpus[0].identity()


def run(*arguments: str) -> tuple[int, Any]:
    done = CliRunner().invoke(cli, ["lineage", *arguments, "--json"])
    return done.exit_code, json.loads(done.stdout)


def test_the_command_ends_with_1_where_something_is_wrong(
    line: tuple[JudgedStudents, Manifest], store: LocalStore
) -> None:
    code, found = run("eyes", "--store", store.url)
    assert (code, found["defects"], found["version"]) == (0, [], "1")
    name = of_kind(line, "shard")[0]
    flip(store, name, 700)
    code, found = run("eyes", "--store", store.url)
    assert (code, found["defects"][0]["object"]) == (1, name)


def test_a_defect_is_a_line_of_the_tree(line: tuple[JudgedStudents, Manifest], store: LocalStore) -> None:
    name = of_kind(line, "shard")[0]
    flip(store, name, 700)
    *_, defect, counted = lineage_lines(lineage("eyes", store))
    assert name in defect
    assert counted.startswith("1 defects in ")
