"""What would stop a study, told before anything of it runs."""

from __future__ import annotations

from collections.abc import Sequence

from flows.line import line
from infra.errors import SpecError
from infra.storage.store import Store, open_store
from tasks.distill.checkpoints import FOLDER, other_format
from tasks.planning.combined_counts import count_corpora
from tasks.planning.dry_run import dry_run
from tasks.study.checks import check_labels
from tasks.study.design import Base, Study


def check_study(base: Base, study: Study, seeds: Sequence[int]) -> None:
    """Whether a study can run to its end, as far as that can be seen now; writes nothing.

    Raises:
        SpecError: a condition is no spec of the line, asks for labels that there are not, or an interrupted training of
            it was left by a release whose checkpoints this one does not read; it names condition, arm and key.
    """
    for condition in study.conditions:
        base.spec_of(condition, seeds, {}, fold=base.folds[0])
    check_labels(base, study)
    store = open_store(base.spec.store)
    if store.sizes(FOLDER):
        _check_interrupted(base, study, seeds, store)


def _check_interrupted(base: Base, study: Study, seeds: Sequence[int], store: Store) -> None:
    counts = count_corpora(base.spec, store)
    ingested = [each.manifest for each in counts.each]
    for condition in study.conditions:
        for fold in base.folds:
            for factor in base.section.rates:
                spec = base.spec_of(condition, seeds, dict.fromkeys(condition.arms, factor), fold=fold)
                for title, state in dry_run(spec, store, line(spec).up_to("evaluate"), ingested).items():
                    found = other_format(store, state.key) if state.key else None
                    if found is not None:
                        raise SpecError(
                            f"{base.where}: condition {condition.name}, {title}: it was interrupted by a release whose "
                            f"checkpoints have format {found}, which this one does not read; remove "
                            f"{FOLDER}{state.key} from the store to train it from the start"
                        )
