"""The whole stage on a tiny corpus with real workers."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.compute.cluster import Cluster
from infra.errors import CorpusError, SpecError, UsageError
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from tasks.data.catalog import CATALOG, to_parquet
from tasks.data.corpus import Corpus
from tasks.evaluate.scope import check_models, first_referred, main_metric
from tasks.evaluate.stage import Evaluation, evaluate
from tasks.pipeline.context import Context
from tasks.pipeline.stage import StageResult
from tasks.spec import Spec
from tests.tasks.evaluate import deadly
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_corpus

ARMS = [("taught", 0), ("taught", 1), ("labels_only", 0), ("labels_only", 1), ("teacher:big", 0)]


def _models(corpus: Corpus) -> list[Manifest]:
    return [trained(corpus, arm, seed) for arm, seed in ARMS]


def run(corpus: Corpus, models: list[Manifest], spec: Spec, cluster: Cluster) -> StageResult:
    return evaluate(Context(corpus.store, cluster, spec.run), corpus, models, spec)


def key(corpus: Corpus, models: list[Manifest], spec: Spec) -> str:
    return Evaluation(Context(corpus.store), corpus, models, spec).key


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster):  # type: ignore[no-untyped-def]
    """One evaluation that the tests below look at: corpus, models, spec and result."""
    store = LocalStore(tmp_path_factory.mktemp("evaluate") / "store")
    corpus = tiny_corpus(store, train=30, val=12, test=24, task="ordinal")
    models = _models(corpus)
    spec = tiny_spec(store)
    steps: list[tuple[int, int]] = []
    context = Context(store, cluster, spec.run, progress=lambda n, of: steps.append((n, of)))
    result = evaluate(context, corpus, models, spec)
    return corpus, models, spec, result, steps


def _table(manifest: Manifest, store: LocalStore) -> dict[str, np.ndarray]:
    table = pq.read_table(io.BytesIO(store.get(manifest.output(kind="predictions").name)))
    return {name: table[name].to_numpy(zero_copy_only=False) for name in table.schema.names}


def test_every_arm_has_its_row(done) -> None:  # type: ignore[no-untyped-def]
    facts = done[3].manifest.facts
    assert list(facts["arms"]) == ["taught", "labels_only", "teacher:big", "majority", "thumbnails", "borders"]
    assert (facts["metric"], facts["chosen_by"]) == ("qwk_cut_points", "grade_auc")
    assert facts["images"] == {"val": 12, "test": 24}
    assert facts["difference"]["seeds"] == 2


def test_outputs_lie_together_with_their_digest_in_the_name(done) -> None:  # type: ignore[no-untyped-def]
    manifest = done[3].manifest
    assert [o.meta["kind"] for o in manifest.outputs] == [
        "report",
        "metrics",
        "confusion",
        "reliability",
        "predictions",
    ]
    folder = f"reports/tiny/{manifest.key[:12]}/"
    assert all(o.name.startswith(folder) and o.sha256[:8] in o.name for o in manifest.outputs)


def test_facts_are_those_of_metrics_json(done) -> None:  # type: ignore[no-untyped-def]
    corpus, _, _, result, _ = done
    assert json.loads(corpus.store.get(result.manifest.output(kind="metrics").name)) == result.manifest.facts


def test_best_seed_is_a_taught_model(done) -> None:  # type: ignore[no-untyped-def]
    _, models, _, result, _ = done
    best = result.manifest.facts["best"]
    chosen = next(m for m in models if m.key == best["key"])
    assert (chosen.facts["arm"], chosen.facts["seed"]) == ("taught", best["seed"])


def test_report_says_what_a_reader_needs(done) -> None:  # type: ignore[no-untyped-def]
    corpus, _, _, result, _ = done
    text = corpus.store.get(result.manifest.output(kind="report").name).decode()
    assert "- Test images that leak from training: 0 seen." in text
    assert "phantoms, drawn by code" in text
    assert "| student, taught (2 seeds) |" in text
    assert "| teacher big |" in text
    assert "95 % t interval over 2 seeds" in text
    assert result.manifest.output(kind="confusion").name.rpartition("/")[2] in text
    assert "class-2" in text


def test_the_report_begins_with_what_the_student_is_worth(done) -> None:  # type: ignore[no-untyped-def]
    corpus, _, _, result, _ = done
    lines = corpus.store.get(result.manifest.output(kind="report").name).decode().splitlines()
    said = result.manifest.facts["headline"]
    assert lines[2] == f"**{said[0]}**"
    assert said[0].startswith("The student is")
    assert [line for line in lines if line.startswith("- ")][: len(said) - 1] == [f"- {line}" for line in said[1:]]
    assert any("labels-alone arm" in line for line in said)
    assert "| gap closed | parameters |" in "\n".join(lines)


def test_what_the_student_is_worth_is_logged(store: LocalStore, cluster: Cluster) -> None:
    corpus, said = tiny_corpus(store), []
    context = Context(store, cluster, tiny_spec(store).run, message=said.append)
    result = evaluate(context, corpus, [trained(corpus, "taught")], tiny_spec(store))
    assert said == result.manifest.facts["headline"]


def test_classes_without_order_are_judged_beside_a_shift(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store)
    facts = run(
        corpus, [trained(corpus, "taught")], tiny_spec(store, "evaluate.decide_for=mcc"), cluster
    ).manifest.facts
    assert facts["decisions"]["metric"] == "mcc"
    assert sum(facts["decisions"]["counts"]) == sum(int(s.labelled.sum()) for s in corpus.of_split("train"))
    assert facts["arms"]["taught"]["values"]["mcc_shifted"] is not None


def test_a_shift_of_grades_is_refused(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store, task="ordinal")
    with pytest.raises(SpecError, match=r"evaluate\.decide_for: tiny has task ordinal, not single; leave it out"):
        run(corpus, [trained(corpus, "taught")], tiny_spec(store, "evaluate.decide_for=mcc"), cluster)


def test_grades_without_validation_labels_are_judged_by_what_needs_no_fit(store: LocalStore) -> None:
    corpus = tiny_corpus(store, val=0, task="ordinal")
    assert main_metric(corpus, tiny_spec(store)) == "grade_auc"
    with pytest.raises(SpecError, match="none of tiny has a label; take grade_auc"):
        check_models(corpus, [trained(corpus, "taught")], tiny_spec(store, "evaluate.metric=qwk_cut_points"))


def test_a_referable_area_needs_a_referable_grade(store: LocalStore) -> None:
    corpus = tiny_corpus(store, task="ordinal")
    spec = tiny_spec(store, "evaluate.metric=referable_auc")
    with pytest.raises(SpecError, match=r"set evaluate\.referable"):
        check_models(corpus, [trained(corpus, "taught")], spec)


def test_graded_corpora_are_judged_by_grade(done) -> None:  # type: ignore[no-untyped-def]
    corpus, _, _, result, _ = done
    facts = result.manifest.facts
    assert facts["grades"]["referable"] is None
    assert len(facts["grades"]["readings"]["taught"]) == 2
    assert all(len(row["interval"]["mae"]) == 2 for row in facts["arms"].values())
    assert "## Grades" in corpus.store.get(result.manifest.output(kind="report").name).decode()


def test_plots_are_png(done) -> None:  # type: ignore[no-untyped-def]
    corpus, _, _, result, _ = done
    for kind in ("confusion", "reliability"):
        assert corpus.store.get(result.manifest.output(kind=kind).name)[:4] == b"\x89PNG"


def test_predictions_cover_val_and_test_of_every_seed(done) -> None:  # type: ignore[no-untyped-def]
    corpus, _, _, result, _ = done
    table = _table(result.manifest, corpus.store)
    assert len(table["key"]) == (5 + 3) * (12 + 24)
    prob = np.stack(table["prob"].tolist())
    assert prob.sum(axis=1) == pytest.approx(np.ones(len(prob)), abs=1e-5)
    test = [s for s in corpus.of_split("test")]
    first = (table["arm"] == "taught") & (table["seed"] == 0) & (table["split"] == "test")
    assert table["key"][first].tolist() == [k for s in test for k in s.keys.tolist()]
    assert table["label"][first].tolist() == [k for s in test for k in s.label.tolist()]


def test_progress_ends_whole(done) -> None:  # type: ignore[no-untyped-def]
    steps = done[4]
    assert steps[0][0] == 0
    assert steps[-1][0] == steps[-1][1] == 5 * (1 + 2) + 2 + (1 + 2)


def test_second_call_is_cached_whatever_the_order_of_models(done, cluster: Cluster) -> None:  # type: ignore[no-untyped-def]
    corpus, models, spec, result, _ = done
    again = evaluate(Context(corpus.store, cluster, spec.run), corpus, models[::-1], spec)
    assert again.cached
    assert again.manifest.digest == result.manifest.digest


def test_a_cached_call_imports_no_torch_and_starts_no_worker(done, tmp_path) -> None:  # type: ignore[no-untyped-def]
    corpus, models, spec, _, _ = done
    (tmp_path / "spec.json").write_text(spec.model_dump_json(by_alias=True))
    code = f"""
import sys
from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import open_store
from tasks.data.corpus import Corpus
from tasks.evaluate.stage import evaluate
from tasks.pipeline.context import Context
from tasks.spec import load_spec
store = open_store({corpus.store.url!r})
read = lambda name: Manifest.from_bytes(store.get(name))
corpus = Corpus(store, read({corpus.manifest.name!r}))
spec = load_spec({str(tmp_path / "spec.json")!r})
handle = Cluster(spec.run.cluster)
result = evaluate(Context(store, handle, spec.run), corpus, [read(n) for n in {[m.name for m in models]!r}], spec)
assert result.cached
assert handle._client is None
assert "torch" not in sys.modules and "distributed" not in sys.modules
print("nothing was loaded", flush=True)
"""
    done_process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    # Not its exit code: pyarrow's threads may abort an interpreter that is ending on a busy machine.
    assert done_process.stdout == "nothing was loaded\n", done_process.stderr


def test_a_lost_report_is_made_again_from_stored_predictions(done) -> None:  # type: ignore[no-untyped-def]
    corpus, models, spec, result, _ = done
    page = result.manifest.output(kind="report")
    before = {o.name: o.sha256 for o in result.manifest.outputs}
    corpus.store.delete(page.name)
    # No cluster: every prediction is found, so none is asked for.
    again = evaluate(Context(corpus.store, None), corpus, models, spec)  # type: ignore[arg-type]
    assert not again.cached
    assert {o.name: o.sha256 for o in again.manifest.outputs} == before


def test_the_key_follows_models_and_section_and_nothing_under_run(done) -> None:  # type: ignore[no-untyped-def]
    corpus, models, spec, result, _ = done
    assert key(corpus, models[1:], spec) != result.manifest.key
    assert key(corpus, models, tiny_spec(corpus.store, "evaluate.bins=5")) != result.manifest.key
    assert key(corpus, models, tiny_spec(corpus.store, "run.predict_batch=3")) == result.manifest.key


def test_batch_size_changes_no_prediction_beyond_rounding(store: LocalStore, cluster: Cluster, done) -> None:  # type: ignore[no-untyped-def]
    corpus = tiny_corpus(store, train=30, val=12, test=24, task="ordinal")
    models = _models(corpus)
    again = run(corpus, models, tiny_spec(store, "run.predict_batch=5"), cluster)
    first = _table(done[3].manifest, done[0].store)
    second = _table(again.manifest, store)
    assert np.stack(second["prob"].tolist()) == pytest.approx(np.stack(first["prob"].tolist()), abs=1e-5)


def test_multilabel_with_unknown_labels(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store, task="multilabel", test=20, val=10)
    models = [trained(corpus, "taught"), trained(corpus, "labels_only")]
    facts = run(corpus, models, tiny_spec(store), cluster).manifest.facts
    assert facts["metric"] == "auc"
    assert 0 <= facts["arms"]["thumbnails"]["values"]["auc"] <= 1
    assert facts["arms"]["majority"]["values"]["auc"] == 0.5


def test_a_test_split_without_labels_says_so(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store, test=0)
    with pytest.raises(CorpusError, match="no test image is labelled"):
        run(corpus, [trained(corpus, "taught")], tiny_spec(store), cluster)


def test_no_validation_images_leave_the_first_seed(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store, val=0)
    models = [trained(corpus, "taught", seed) for seed in (2, 1)]
    result = run(corpus, models, tiny_spec(store, "evaluate.bootstrap=0"), cluster)
    assert result.manifest.facts["best"]["seed"] == 1
    assert "no intervals were asked for" in store.get(result.manifest.output(kind="report").name).decode()


def test_a_metric_of_another_task_names_the_nearest(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store, task="single")
    with pytest.raises(SpecError, match=r"evaluate\.metric: 'macro-f1' .* did you mean macro_f1\?"):
        run(corpus, [trained(corpus, "taught")], tiny_spec(store, "evaluate.metric=macro-f1"), cluster)


def test_five_grades_of_fundus_images_are_referred_from_the_second(store: LocalStore) -> None:
    spec = tiny_spec(store)
    asked = tiny_spec(store, "evaluate.referable=1")

    def corpus(classes: int, modality: str, task: str = "ordinal") -> Corpus:
        title = f"{task}-{modality}-{classes}"
        return tiny_corpus(store, train=4, val=2, test=2, task=task, classes=classes, modality=modality, title=title)

    assert first_referred(corpus(5, "fundus"), spec) == 2
    assert first_referred(corpus(4, "fundus"), spec) is None
    assert first_referred(corpus(5, "other"), spec) is None
    assert first_referred(corpus(5, "fundus", "single"), spec) is None
    assert first_referred(corpus(5, "fundus"), asked) == 1


def test_the_referable_grade_is_judged(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store, task="ordinal")
    spec = tiny_spec(store, "evaluate.referable=1", "evaluate.baselines=false")
    result = run(corpus, [trained(corpus, "taught")], spec, cluster)
    row = result.manifest.facts["arms"]["taught"]
    assert 0 <= row["values"]["referable_auc"] <= 1
    assert "Referable is grade 1 (class-1) or worse" in store.get(result.manifest.output(kind="report").name).decode()
    assert key(corpus, [trained(corpus, "taught")], tiny_spec(store, "evaluate.baselines=false")) != result.manifest.key


@pytest.mark.parametrize(
    ("task", "grade", "text"), [("ordinal", 3, "past the last grade, 2"), ("single", 1, "leave it")]
)
def test_a_referable_grade_that_is_none_is_refused(
    store: LocalStore, cluster: Cluster, task: str, grade: int, text: str
) -> None:
    corpus = tiny_corpus(store, task=task)
    with pytest.raises(SpecError, match=text):
        run(corpus, [trained(corpus, "taught")], tiny_spec(store, f"evaluate.referable={grade}"), cluster)


def test_a_model_of_other_classes_is_refused(store: LocalStore, cluster: Cluster) -> None:
    corpus, other = tiny_corpus(store), tiny_corpus(store, classes=4, title="four")
    with pytest.raises(UsageError, match="taught seed 0 knows the classes"):
        run(corpus, [trained(other, "taught")], tiny_spec(store), cluster)


def test_a_gpu_that_nobody_offers_is_missed(store: LocalStore, cluster: Cluster) -> None:
    if cluster.offers("GPU"):
        pytest.skip("this machine has a GPU")
    corpus = tiny_corpus(store)
    with pytest.raises(UsageError, match="--resources GPU=1"):
        run(corpus, [trained(corpus, "taught")], tiny_spec(store, "run.device=cuda"), cluster)


def test_an_image_that_kills_its_process_is_left_out_of_every_figure(
    store: LocalStore, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.evaluate.predict.predict_shard", deadly.predict_shard)
    monkeypatch.setattr("tasks.evaluate.predict.probe_predictions", deadly.probe_predictions)
    corpus = tiny_corpus(store, train=12, val=6, test=12)
    models = [trained(corpus, "taught")]
    manifest = run(corpus, models, tiny_spec(store), cluster).manifest
    (out,) = manifest.quarantine
    assert (out.source, out.reason, out.stage) == (deadly.KEY, "killed by signal 9", "predict")
    assert (manifest.facts["images"]["test"], manifest.facts["unpredicted"]) == (11, 1)
    table = _table(manifest, store)
    assert deadly.KEY not in table["key"]
    assert len(table["key"]) == 4 * (6 + 11)
    assert np.isfinite(np.stack(table["prob"].tolist())).all()
    assert "kill the process" in store.get(manifest.output(kind="report").name).decode()
    again = evaluate(Context(store, None), corpus, models, tiny_spec(store))  # type: ignore[arg-type]
    assert again.cached


def test_nothing_is_said_of_imageability_where_nothing_is_known(done: Any) -> None:
    corpus, _, _, result, _ = done
    assert not {"imageability", "screening"} & result.manifest.facts.keys()
    assert "Imageability" not in corpus.store.get(result.manifest.output(kind="report").name).decode()


def test_a_unit_that_no_image_has_is_refused(store: LocalStore) -> None:
    corpus = tiny_corpus(store, task="ordinal")
    models, given = [trained(corpus, "taught")], ("evaluate.unit=exam", "evaluate.referable=1")
    with pytest.raises(SpecError, match="of no judged image of tiny the exam is known; take image, patient"):
        key(corpus, models, tiny_spec(store, *given))
    with pytest.raises(SpecError, match="nothing is referred in tiny"):
        key(corpus, models, tiny_spec(store, *given[:1]))


def test_the_report_of_a_corpus_with_ungradable_images_refers_them(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store, train=30, val=12, test=24, task="ordinal")
    old, catalog = corpus.manifest.output(kind="catalog"), corpus.catalog
    gradable = [not key.startswith("test-000") for key in catalog["key"].to_pylist()]
    at = catalog.schema.get_field_index("gradable")
    data = to_parquet(catalog.set_column(at, "gradable", pa.array(gradable)), CATALOG)
    new = StageCache(store).put_object("catalogs/tiny/{sha}.parquet", data, meta=old.meta)
    outputs = [new if output == old else output for output in corpus.manifest.outputs]
    other = Corpus(store, corpus.manifest.model_copy(update={"outputs": outputs}))
    models = [trained(other, arm) for arm in ("taught", "labels_only")]
    given = tiny_spec(store, "evaluate.referable=1")
    manifest = run(other, models, given, cluster).manifest
    assert manifest.facts["imageability"]["ungradable"] == manifest.facts["screening"]["referred"] == 10
    text = store.get(manifest.output(kind="report").name).decode()
    assert "## Imageability\n\nOf 24 test images of 12 patients 14 can be graded, a share of 0.583 [" in text
    assert "## Screening\n\nReferred is grade 1 (class-1) or worse. The decision is made for the patient." in text
    assert "10 labelled test images that cannot be graded count as referred" in text
    plain = run(corpus, models, given, cluster).manifest.facts
    assert manifest.facts["arms"] == plain["arms"]
