"""What people read on MLflow's pages, and what is linked there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.compute.cluster import Cluster
from infra.servers.tracking import connect, versions
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.evaluate.stage import evaluate
from tasks.gate.stage import judge
from tasks.pipeline.context import Context
from tasks.register.stage import register
from tasks.report.stage import write_report
from tests.tasks.machine import own_machine
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_corpus


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with own_machine(tmp_path_factory.mktemp("home")) as folder:
        yield folder


@pytest.fixture(scope="module")
def held(home: Path, tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> tuple[Corpus, Any, Any]:
    """The corpus, the manifest of the report and the version of a student of a private corpus."""
    store = LocalStore(tmp_path_factory.mktemp("described") / "store")
    corpus = tiny_corpus(store, val=8, test=16, size=70)
    models = [trained(corpus, "taught")]
    private = "corpus.private=true"
    spec = tiny_spec(store, private, "corpus.table={csv: a.csv, image: f, label: l}", "corpus.classes=[a, b, c]",
                     adapter="table")  # fmt: skip
    context = Context(store, cluster, spec.run)
    report = evaluate(context, corpus, models, spec).manifest
    gate = judge(context, corpus, report, spec).manifest
    page = write_report(context, corpus, report, gate, models, spec).manifest
    register(context, report, models, corpus, [], spec, gate, page=page)
    (version,) = versions(connect(), "tiny-student")
    return corpus, report, version


def test_a_version_says_verdict_figures_and_how_to_load(held: tuple[Corpus, Any, Any]) -> None:
    _, report, version = held
    text = version.description
    assert "**Gate: failed**" in text
    assert f"{report.facts['arms']['taught']['per_seed'][0]['macro_f1']:.3f}" in text
    assert "stillroom pull tiny-student/VERSION" in text
    assert 'mlflow.pyfunc.load_model("models:/tiny-student/VERSION")' in text
    assert "For research only." in text


def test_the_model_says_what_it_looks_at(held: tuple[Corpus, Any, Any]) -> None:
    assert "distilled by Stillroom from tiny" in connect().get_registered_model("tiny-student").description


def test_figures_and_data_are_linked_to_the_logged_model(held: tuple[Corpus, Any, Any]) -> None:
    corpus, report, version = held
    client = connect()
    (made,) = client.get_run(version.run_id).outputs.model_outputs
    found = {metric.key: metric for metric in client.get_logged_model(made.model_id).metrics}
    own = report.facts["arms"]["taught"]["per_seed"][0]["macro_f1"]
    assert found["test_macro_f1"].value == pytest.approx(own)
    assert found["test_macro_f1"].dataset_name == "tiny"
    assert found["test_macro_f1"].dataset_digest == corpus.manifest.digest[:32]


def test_the_page_of_a_private_corpus_is_logged_without_pictures(held: tuple[Corpus, Any, Any], tmp_path: Path) -> None:
    corpus, _, version = held
    client = connect()
    names = [each.path for each in client.list_artifacts(version.run_id, "report")]
    (page,) = [name for name in names if name.endswith(".html")]
    assert page.rpartition("/")[2] in version.description
    text = Path(client.download_artifacts(version.run_id, page, str(tmp_path))).read_text()
    assert "<img" not in text
    assert not [key for shard in corpus.shards for key in shard.keys if key in text]
    assert any(name.endswith(".md") and "card" in name for name in names)
