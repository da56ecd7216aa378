"""A student that begins with the weights of the champion of a real MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from infra.compute.cluster import Cluster
from infra.errors import SpecError, UsageError
from infra.servers.tracking import connect
from infra.storage.manifest import Manifest
from tasks.data.corpus import Corpus
from tasks.distill.stage import StudentTraining, distill
from tasks.pipeline.context import Context
from tasks.register.mlflow_run import lineage
from tasks.spec import Spec, parse_spec
from tasks.spec.arms import LABELS_ONLY
from tasks.teachers.champion_start import FACT, TAG, champion_start
from tests.databases import copy_databases
from tests.tasks.machine import own_machine
from tests.tasks.registered import JudgedStudents, judged
from tests.tiny import tiny_corpus, tiny_labels


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Iterator[JudgedStudents]:
    """Student 0 is version 1 of `eyes`, champion."""
    home = tmp_path_factory.mktemp("home")
    with own_machine(home):
        copy_databases(home)
        made = judged(tmp_path_factory.mktemp("line"), cluster, "evaluate.baselines=false", "evaluate.compare=false")
        assert made.register("eyes").facts["aliases"] == ["challenger", "champion"]
        yield made


@pytest.fixture(scope="module")
def grown(served: JudgedStudents) -> Corpus:
    """The champion's corpus with more training images."""
    return tiny_corpus(served.corpus.store, train=40, val=9, test=8, size=70)


def spec_of(
    corpus: Corpus,
    name: str = "eyes",
    *,
    start: str = "champion",
    student: str = "model: micro_xs, size: 32",
    views: int = 36,
) -> Spec:
    return parse_spec(
        f"""
name: tiny
store: {corpus.store.url}
corpus: {{adapter: eyepacs, root: .}}
views: {{size: {views}, count: 0}}
teachers: [{{name: t, model: micro_xs}}]
student: {{{student}, start: {start}, train: {{steps: 1, batch: 8, lr: 1.0e-9}}}}
register: {{name: {name}}}
run: {{device: cpu, train: {{threads: 1}}}}
"""
    )


def work_of(corpus: Corpus, spec: Spec, arm: str = "taught") -> StudentTraining:
    return StudentTraining(Context(corpus.store), corpus, [labels_of(corpus)], None, spec, arm=arm)


def labels_of(corpus: Corpus) -> Manifest:
    return tiny_labels(corpus, "t", lambda shard, view: np.zeros((len(shard), 3), np.float32))


def first_layer(corpus: Corpus, manifest: Manifest) -> np.ndarray:
    return load(corpus.store.get(manifest.output(kind="model").name))["stem.0.0.weight"]


def test_a_student_begins_with_the_weights_of_the_champion(
    served: JudgedStudents, grown: Corpus, cluster: Cluster
) -> None:
    spec, said = spec_of(grown), []
    context = Context(grown.store, cluster, spec.run, message=said.append)
    student = distill(context, grown, [labels_of(grown)], None, spec).manifest
    np.testing.assert_allclose(first_layer(grown, student), first_layer(grown, served.models[0]), atol=1e-6)
    assert (student.facts[FACT]["name"], student.facts[FACT]["version"]) == ("eyes", "1")
    assert "student taught seed 0 begins from the weights of eyes version 1" in said
    assert TAG in lineage(served.report, student, grown, [])


def test_without_a_champion_it_begins_as_its_weights_say(
    grown: Corpus, served: JudgedStudents, cluster: Cluster
) -> None:
    spec, said = spec_of(grown, "nobody"), []
    context = Context(grown.store, cluster, spec.run, message=said.append)
    student = distill(context, grown, [labels_of(grown)], None, spec).manifest
    assert student.key == work_of(grown, spec_of(grown, start="weights")).key
    assert FACT not in student.facts
    assert any("there is no champion" in each for each in said)


def test_another_champion_is_another_training(served: JudgedStudents, grown: Corpus) -> None:
    served.register("moved")
    before = work_of(grown, spec_of(grown, "moved")).key
    served.register("moved", 1)
    assert work_of(grown, spec_of(grown, "moved")).key != before


def test_a_student_that_was_promoted_is_found_again(served: JudgedStudents, grown: Corpus) -> None:
    served.register("again")
    work = work_of(grown, spec_of(grown, "again"))
    client = connect()
    tags = {"stillroom.manifest.ingest": grown.manifest.digest, TAG: _json(work)}
    version = client.create_model_version("again", source="/x", tags=tags)
    client.set_registered_model_alias("again", "champion", version.version)
    assert work_of(grown, spec_of(grown, "again")).key == work.key


def _json(work: StudentTraining) -> str:
    assert work.champion is not None
    return json.dumps(work.champion.to_json())


def test_a_champion_of_these_very_images_is_no_start(served: JudgedStudents) -> None:
    assert work_of(served.corpus, spec_of(served.corpus)).champion is None


def test_on_labels_alone_no_champion_is_a_start(served: JudgedStudents, grown: Corpus) -> None:
    assert work_of(grown, spec_of(grown), LABELS_ONLY).champion is None
    assert work_of(grown, spec_of(grown)).champion is not None


@pytest.mark.parametrize(
    ("facts", "section", "text"),
    [
        ({"classes": ["class-0", "class-1"]}, {}, "classes class-0, class-1, class-2, here class-0, class-1"),
        ({"task": "ordinal"}, {}, "task single, here ordinal"),
        ({}, {"size": 64}, "ingest.size null, here 64"),
    ],
)
def test_a_champion_of_other_images_is_refused(
    served: JudgedStudents, grown: Corpus, facts: dict[str, Any], section: dict[str, Any], text: str
) -> None:
    changed = {
        "facts": {**grown.manifest.facts, **facts},
        "section": {"ingest": {**grown.manifest.section["ingest"], **section}},
    }
    other = Corpus(grown.store, grown.manifest.model_copy(update=changed))
    with pytest.raises(UsageError, match=f"cannot begin from eyes version 1: {text}.*write student.start: weights"):
        champion_start("eyes", spec_of(grown).student, 32, 36, other)


@pytest.mark.parametrize(
    ("student", "views", "text"),
    [
        ("model: micro, size: 32", 36, "model micro_xs, here micro"),
        ("model: micro_xs, size: 48", 36, "input_size 32, here 48"),
        ("model: micro_xs, size: 32", 40, "view_size 36, here 40"),
    ],
)
def test_a_champion_of_another_shape_is_refused(
    served: JudgedStudents, grown: Corpus, student: str, views: int, text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        work_of(grown, spec_of(grown, student=student, views=views))


def test_two_starts_are_refused(grown: Corpus) -> None:
    with pytest.raises(SpecError, match="are two starts; keep one"):
        spec_of(grown, student="model: micro_xs, size: 32, weights: teacher:t")
