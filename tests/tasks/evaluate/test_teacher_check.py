"""The stage compare with real workers: what it says, what evaluate finds of it, when the run stops, what waits."""

from __future__ import annotations

import pytest

from flows.line import line
from infra.compute.cluster import Cluster
from infra.errors import PermanentError
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.evaluate.stage import Evaluation, evaluate
from tasks.evaluate.teacher_check import TeacherCheck
from tasks.evaluate.teacher_verdicts import BETTER, NO_BETTER, UNCLEAR
from tasks.maintenance.reachability import reachable
from tasks.maintenance.store_contents import read_contents
from tasks.pipeline.context import Context
from tasks.pipeline.stage import run_stage
from tasks.spec import Spec, parse_spec
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_corpus

TRAINED = "teachers.0.train.steps=1"
REQUIRED = "teachers.0.require_better=true"
CLEARLY = "teachers.0.require_better=clearly"
BY_LOSS = "evaluate.metric=nll"
SURE = 50.0
"""Added to a logit: the class is said of every image, and the log loss is large."""

LITTLE = 0.05
"""So little makes the teacher better on these images by less than the interval is wide."""


def work(
    cluster: Cluster,
    corpus: Corpus,
    *overrides: str,
    teacher: float = 0.0,
    student: float = 0.0,
    said: list[str] | None = None,
) -> TeacherCheck:
    """A comparison of two networks that are equal but for what is added to their logit of the first class."""
    spec = tiny_spec(corpus.store, TRAINED, *overrides)
    lines = [] if said is None else said
    context = Context(corpus.store, cluster, spec.run, message=lines.append)
    big, alone = trained(corpus, "teacher:big", lean=teacher), trained(corpus, "labels_only", lean=student)
    return TeacherCheck(context, corpus, [big], [alone], spec)


def test_a_better_teacher_is_said_to_be_so(store: LocalStore, cluster: Cluster) -> None:
    said: list[str] = []
    check = work(cluster, tiny_corpus(store), BY_LOSS, CLEARLY, student=SURE, said=said)
    result = run_stage(check)
    (row,) = result.manifest.facts["teachers"]
    assert (row["teacher"], row["verdict"], row["images"], row["patients"]) == ("teacher:big", BETTER, 8, 4)
    (text,) = said
    assert text.startswith("On validation teacher big is better than the student's own labels-alone arm: log loss ")
    assert [artifact.content for artifact in check.artifacts(result, 1.0)] == [f"- {text}"]


def test_a_teacher_that_is_no_better_is_told_again_by_every_run(store: LocalStore, cluster: Cluster) -> None:
    corpus, said = tiny_corpus(store), list[str]()
    first, again = (run_stage(work(cluster, corpus, said=said)) for _ in range(2))
    assert (first.cached, again.cached) == (False, True)
    assert first.manifest.facts["teachers"][0]["verdict"] == NO_BETTER
    assert said[0] == said[1]
    assert "is no better than" in said[0]


def test_the_run_stops_where_the_spec_asks_for_it(store: LocalStore, cluster: Cluster) -> None:
    said: list[str] = []
    with pytest.raises(PermanentError, match=r"difference \+0\.000.* It cannot teach, and `require_better` is set"):
        run_stage(work(cluster, tiny_corpus(store), REQUIRED, said=said))
    assert "is no better than" in said[0]


def test_what_is_not_clearly_better_stops_only_a_run_that_asks_for_that(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store)
    (row,) = run_stage(work(cluster, corpus, BY_LOSS, REQUIRED, teacher=LITTLE)).manifest.facts["teachers"]
    assert row["difference"] > 0
    assert row["verdict"] == UNCLEAR
    with pytest.raises(PermanentError, match=r"not above zero, and `require_better: clearly` is set: label more"):
        run_stage(work(cluster, corpus, BY_LOSS, CLEARLY, teacher=LITTLE))


def test_what_cannot_be_told_stops_a_run_that_requires_it(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store, val=0)
    assert run_stage(work(cluster, corpus)).manifest.facts["teachers"][0]["verdict"] is None
    with pytest.raises(PermanentError, match=r"no validation image is labelled.*label validation images"):
        run_stage(work(cluster, corpus, REQUIRED))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster):  # type: ignore[no-untyped-def]
    """A comparison of an ensemble and another teacher, and the evaluation after it."""
    store = LocalStore(tmp_path_factory.mktemp("compare") / "store")
    corpus = tiny_corpus(store, val=12)
    teachers = (
        "teachers=[{name: big, model: micro, members: 2, average: 2, train: {steps: 1}}, "
        "{name: other, model: micro_xs, train: {steps: 1}}]"
    )
    spec = tiny_spec(store, teachers, "student.seeds=[0, 1]")
    students = [trained(corpus, "labels_only", seed) for seed in (0, 1)]
    wholes = [trained(corpus, f"teacher:{name}", seed) for seed, name in enumerate(("big-1", "big-2", "other"))]
    context = Context(store, cluster, spec.run)
    models = [trained(corpus, "taught"), *students, *wholes]
    evaluation = Evaluation(context, corpus, models, spec)
    before = evaluation.missing()
    compared = run_stage(TeacherCheck(context, corpus, wholes, students, spec)).manifest
    after = evaluation.missing()
    made = {path: path.stat().st_mtime_ns for path in store.root.glob("predictions/**/*.safetensors")}
    report = evaluate(context, corpus, models, spec).manifest
    return store, before, after, made, compared, report


def test_what_was_predicted_is_not_predicted_again(both) -> None:  # type: ignore[no-untyped-def]
    _, before, after, made, _, _ = both
    # Two members over three views, another teacher and two students over one; one shard of validation images.
    assert (before.done, after.done, after.total) == (0, 2 * 3 + 1 + 2, before.total)
    assert len(made) == 9
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_the_report_says_first_what_the_comparison_says(both) -> None:  # type: ignore[no-untyped-def]
    store, _, _, _, compared, report = both
    rows = compared.facts["teachers"]
    assert [row["teacher"] for row in rows] == ["teacher:big", "teacher:other", "teachers"]
    assert [(row["members"], row["views"], row["seeds"]) for row in rows] == [(2, 3, 2), (1, 1, 2), (3, 1, 2)]
    assert report.facts["teachers_on_validation"] == rows
    text = store.get(report.output(kind="report").name).decode()
    assert "- On validation teacher big (mean of 2 members, 3 views) " in text


def test_the_mean_of_the_teachers_is_that_of_the_report(both) -> None:  # type: ignore[no-untyped-def]
    compared, report = both[4:]
    (row,) = [row for row in compared.facts["teachers"] if row["teacher"] == "teachers"]
    assert report.facts["chosen_by"] == row["metric"]
    assert row["patients"] == 6


def test_gc_keeps_a_comparison_as_long_as_what_it_is_of(both) -> None:  # type: ignore[no-untyped-def]
    store, *_, compared, _ = both
    contents = read_contents(store)
    of = [name for name, manifest in contents.manifests.items() if manifest.stage in ("ingest", "teach", "distill")]
    assert compared.name in reachable(contents, of)
    assert compared.name not in reachable(contents, [name for name in of if "/teach/" not in name])


def test_a_teacher_has_the_name_that_the_spec_gives_it_now(store: LocalStore, cluster: Cluster) -> None:
    corpus = tiny_corpus(store)
    spec = tiny_spec(store, TRAINED, "teachers.0.average=1", REQUIRED, BY_LOSS)
    teacher, student = trained(corpus, "teacher:old"), trained(corpus, "labels_only", lean=SURE)
    context = Context(store, cluster, spec.run)
    (row,) = run_stage(TeacherCheck(context, corpus, [teacher], [student], spec)).manifest.facts["teachers"]
    assert (row["teacher"], row["views"]) == ("teacher:big", 2)


def test_the_key_is_of_what_is_judged_and_how(store: LocalStore) -> None:
    corpus = tiny_corpus(store, val=8)
    more = tiny_corpus(store, val=8, test=12)

    def key(*overrides: str, of: Corpus = corpus, lean: float = 0.0) -> str:
        spec = tiny_spec(store, TRAINED, *overrides)
        teacher, student = trained(corpus, "teacher:big", lean=lean), trained(corpus, "labels_only")
        return TeacherCheck(Context(store), of, [teacher], [student], spec).key

    assert key("views.rotate=3", "evaluate.baselines=false") == key()
    others = [key(lean=1.0), key(REQUIRED), key(CLEARLY), key("evaluate.bootstrap=7"), key("teachers.0.average=1")]
    assert len({key(), key(of=more), *others}) == 7


def spec_of(store: LocalStore, *overrides: str) -> Spec:
    text = f"""
name: tiny
store: {store.url}
corpus: {{adapter: eyepacs, root: .}}
teachers: [{{name: t, model: micro_xs, train: {{steps: 12}}}}]
student: {{model: micro_xs, seeds: [0, 1]}}
"""
    return parse_spec(text, overrides=overrides)


def waits_for(spec: Spec, title: str) -> set[str]:
    """Titles of all that a step waits for."""
    graph = line(spec)
    found, pending = set[str](), [step for step in graph.steps if step.title == title]
    while pending:
        for step in pending.pop().waits_for:
            found.add(step.title)
            pending.append(step)
    return found


@pytest.mark.parametrize("required", [REQUIRED, CLEARLY])
def test_labelling_waits_for_the_check_only_where_it_may_stop_the_run(store: LocalStore, required: str) -> None:
    alone = {"distill labels_only seed 0", "distill labels_only seed 1", "compare"}
    assert not alone & waits_for(spec_of(store), "label t")
    assert alone <= waits_for(spec_of(store, required), "label t")
    assert alone <= waits_for(spec_of(store), "evaluate")


@pytest.mark.parametrize("override", ["evaluate.compare=false", "teachers.0.train=null"])
def test_where_there_is_nothing_to_compare_there_is_no_check(override: str, store: LocalStore) -> None:
    assert "compare" not in [step.title for step in line(spec_of(store, override)).steps]
