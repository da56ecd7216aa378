"""Logs of predictions in service: what is read of them, and when they ring."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.errors import UsageError
from infra.storage.store import LocalStore
from tasks.drift.production import log_digest, production_signals, read_log
from tasks.drift.reference import answers_of
from tasks.drift.signals import Signal
from tests.tasks.drift.conftest import MIX
from tests.tasks.drift.grown import Served, drifted, signal

CLASSES = ["class-0", "class-1", "class-2"]


def log_at(path: Path, prob: np.ndarray, **columns: Any) -> str:
    """A log of probabilities [N, 3], and its path."""
    table = {f"p({name})": prob[:, place] for place, name in enumerate(CLASSES)}
    pq.write_table(pa.table({**table, **columns}), path)
    return str(path)


def of_champion(served: Served, count: int = 200) -> np.ndarray:
    """What the champion would say in service of images like those of its evaluation."""
    answers = answers_of(served.corpus.store, served_tags(served))
    assert answers is not None
    assert (answers.classes, len(answers.prob)) == (CLASSES, 60)
    return answers.prob[np.random.default_rng(0).integers(len(answers.prob), size=count)]


def served_tags(served: Served) -> dict[str, str]:
    champion = served.work(served.corpus).champion
    assert champion is not None
    return dict(champion.tags)


def of(prob: np.ndarray) -> np.ndarray:
    """The same images, as of patients of the class that is the rarest among them."""
    rarest = np.bincount(prob.argmax(axis=1), minlength=3).argmin()
    shifted = prob * np.where(np.arange(3) == rarest, 400.0, 1.0)
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def test_answers_like_those_of_the_evaluation_are_no_drift(served: Served, tmp_path: Path) -> None:
    place = log_at(tmp_path / "log.parquet", of_champion(served), site=["a"] * 200)
    found = served.drift(served.grown(MIX), f"drift.predictions={place}")
    assert drifted(found) == []
    assert signal(found, "classes in service")["new"] == 200
    assert signal(found, "sites in service")["value"] == 0


def test_other_answers_than_those_of_the_evaluation_are_drift(served: Served, tmp_path: Path) -> None:
    place = log_at(tmp_path / "log.parquet", of(of_champion(served)))
    found = served.drift(served.grown(MIX), f"drift.predictions={place}")
    assert set(drifted(found)) == {"classes in service", "confidence in service"}


def test_a_log_is_judged_where_no_image_is_new(served: Served, tmp_path: Path) -> None:
    place = log_at(tmp_path / "log.parquet", of(of_champion(served)))
    found = served.drift(served.corpus, f"drift.predictions={place}")
    assert found.facts["verdict"] == "drift"
    assert found.facts["new"] == 0


def test_another_log_is_another_question(served: Served, tmp_path: Path) -> None:
    place = log_at(tmp_path / "log.parquet", of_champion(served))
    first = served.work(served.corpus, f"drift.predictions={place}").key
    log_at(tmp_path / "log.parquet", of_champion(served, 201))
    assert served.work(served.corpus, f"drift.predictions={place}").key != first


def test_sites_that_the_champion_never_saw_are_drift(served: Served, tmp_path: Path) -> None:
    place = log_at(tmp_path / "log.parquet", of_champion(served), site=["a", "b"] * 100)
    found = served.drift(served.corpus, f"drift.predictions={place}")
    assert drifted(found) == ["sites in service"]
    assert signal(found, "sites in service")["note"] == "1 never seen before"


def test_names_of_classes_alone_are_enough(served: Served, tmp_path: Path, store: LocalStore) -> None:
    answers = answers_of(served.corpus.store, served_tags(served))
    assert answers is not None
    assert answers.decided is not None
    decided = [CLASSES[number] for number in answers.decided]
    pq.write_table(pa.table({"prediction": decided}), tmp_path / "log.parquet")
    assert signals_of(served, tmp_path / "log.parquet")[0].value == 0
    rarest = CLASSES[int(np.bincount(answers.decided, minlength=3).argmin())]
    pq.write_table(pa.table({"class": [rarest] * 60}), tmp_path / "log.parquet")
    (found,) = signals_of(served, tmp_path / "log.parquet")
    assert found.value is not None
    assert found.value > 0.6


def signals_of(served: Served, path: Path) -> list[Signal]:
    answers = answers_of(served.corpus.store, served_tags(served))
    assert answers is not None
    log = read_log(str(path), served.corpus.store, CLASSES, many=False)
    return list(production_signals(log, answers, None, 30, many=False))


def test_a_folder_is_read_as_one_log_and_rows_without_an_answer_are_left_out(store: LocalStore, tmp_path: Path) -> None:
    prob = np.full((4, 3), 1 / 3)
    log_at(tmp_path / "monday.parquet", prob, error=[None, None, "not an image", None])
    log_at(tmp_path / "sunday.parquet", prob, error=pa.nulls(4, pa.string()))
    assert len(read_log(str(tmp_path), store, CLASSES, many=False)) == 7


def test_a_log_in_the_store_is_read(store: LocalStore, tmp_path: Path) -> None:
    path = log_at(tmp_path / "log.parquet", np.full((4, 3), 1 / 3))
    store.put("logs/log.parquet", Path(path).read_bytes())
    assert len(read_log("store:logs/log.parquet", store, CLASSES, many=False)) == 4
    with pytest.raises(UsageError, match=r"the store has no logs/other\.parquet"):
        log_digest("store:logs/other.parquet", store)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (
            {"score": [0.1]},
            r"has the columns score; it needs p\(class-0\), .* or `prediction` with the name of a class",
        ),
        (
            {"p(class-0)": [0.1], "p(class-1)": [0.1]},
            r"has p\(class-0\), p\(class-1\), but not p\(class-2\); write one",
        ),
        ({f"p({name})": [0.9] for name in CLASSES}, r"1 rows have no probabilities .* whose sum is 1\); row 1 .* 0\.9"),
        ({f"p({name})": ["x"] for name in CLASSES}, "probabilities are no numbers"),
        ({"prediction": ["melon"]}, "column prediction has melon, and the champion's classes are class-0, class-1"),
    ],
)
def test_a_log_that_says_something_else_is_refused(
    store: LocalStore, tmp_path: Path, table: dict[str, Any], text: str
) -> None:
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    with pytest.raises(UsageError, match=text):
        read_log(str(tmp_path / "log.parquet"), store, CLASSES, many=False)


def test_a_name_of_a_class_says_too_little_where_an_image_has_several(store: LocalStore, tmp_path: Path) -> None:
    pq.write_table(pa.table({"prediction": ["class-0"]}), tmp_path / "log.parquet")
    with pytest.raises(UsageError, match=r"it needs p\(class-0\), p\(class-1\), p\(class-2\) \(probabilities\)$"):
        read_log(str(tmp_path / "log.parquet"), store, CLASSES, many=True)


def test_a_log_that_is_not_there_or_no_parquet_is_refused(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file or folder"):
        log_digest(str(tmp_path / "none.parquet"), store)
    with pytest.raises(UsageError, match="there is no Parquet file in the folder"):
        log_digest(str(tmp_path), store)
    (tmp_path / "log.parquet").write_text("class-0,class-1")
    with pytest.raises(UsageError, match="is no Parquet file"):
        read_log(str(tmp_path / "log.parquet"), store, CLASSES, many=False)
