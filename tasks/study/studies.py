"""The studies by name, and the spec that one is made around."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from infra.errors import SpecError
from infra.storage.store import open_store
from models.statistics.metrics import FIT_FREE, LOWER_IS_BETTER
from tasks.data.corpus import Corpus
from tasks.distill.stage import TeacherTraining
from tasks.ingest.corpus_listing import scan_spec
from tasks.ingest.parent import read_head
from tasks.pipeline.context import Context
from tasks.spec import load_spec
from tasks.spec.corpora import POOL
from tasks.spec.load import set_override
from tasks.study.design import Base, Condition, Study
from tasks.study.guidance import guidance
from tasks.study.small_data import small_data
from tasks.study.unlabeled import unlabeled

STUDIES: Mapping[str, Callable[[Base, Sequence[str]], Study]] = MappingProxyType(
    {"unlabeled": unlabeled, "guidance": guidance, "small-data": small_data}
)
"""Studies by their names on the command line."""


def read_base(path: Path, overrides: Sequence[str]) -> Base:
    """The spec of a study, with what its corpus is; reads labels, decodes nothing.

    Raises:
        SpecError: as `load_spec`; or it uses only a part of the labels already.
        CorpusError: the corpus cannot be read.
    """
    spec = load_spec(path, overrides)
    if spec.labels is not None:
        raise SpecError(f"{path}: labels: a study chooses the labels itself; leave this section out")
    if spec.study is not None and spec.study.folds is not None and spec.views.mix != "none":
        raise SpecError(
            f"{path}: study.folds: a mixed view shows two images of one shard, which may be of two folds; set "
            "views.mix: none"
        )
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    for override in overrides:
        set_override(raw, override)
    number = next((n for n, entry in enumerate(spec.entries) if entry.use != POOL), 0)
    scan = scan_spec(spec, number).scan
    rows = None if spec.entries else scan.rows.table
    return Base(raw, str(path), path.resolve().parent, spec, scan.task, list(scan.classes), rows)


def trained_weights(base: Base) -> dict[str, str] | None:
    """Objects of the store with the weights of the teachers, trained on all labels; None where one is not there yet."""
    store = open_store(base.spec.store)
    head = None if base.spec.entries else read_head(store, base.spec.corpus_title)
    if head is None:
        return None
    context, corpus = Context(store, run=base.spec.run), Corpus(store, head)
    found = {}
    for teacher in base.spec.teachers:
        if teacher.train is None:
            continue
        manifest = TeacherTraining(context, corpus, teacher, base.spec).lookup()
        if manifest is None:
            return None
        found[teacher.name] = manifest.output(kind="model").name
    return found


def title_of_training(spec_arm: Mapping[str, Any], arm: str, seed: int) -> str:
    """Title of the line's step that trains an arm last.

    Args:
        spec_arm: keys of `student:` of the arm.
    """
    phases = spec_arm.get("phases") or []
    last = f" {phases[-1]['name']}" if phases else ""
    return f"distill {arm}{last} seed {seed}"


def best_rates(
    condition: Condition, tried: Mapping[float, Mapping[str, Any]], task: str, seed: int
) -> dict[str, float]:
    """Factor of the learning rates of each arm that is best on validation; of equal ones the first.

    Args:
        tried: facts of the line's steps by title, by factor.

    Raises:
        SpecError: no figure of an arm is known on validation.
    """
    metric = FIT_FREE[task]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    found = {}
    for arm, keys in condition.arms.items():
        title = title_of_training(keys, arm, seed)
        scores = {
            rate: sign * facts[title]["best"][f"val_{metric}"]
            for rate, facts in tried.items()
            if facts[title]["best"].get(f"val_{metric}") is not None
        }
        if not scores:
            raise SpecError(
                f"condition {condition.name}: {arm} has no {metric} on validation images, by which its learning rate "
                "is chosen; set study.rates: [1.0] to take student.train.lr as it is"
            )
        found[arm] = max(scores, key=lambda rate: scores[rate])
    return found
