"""How fast the engine is that labelling chose for a teacher before, as the store remembers it."""

from __future__ import annotations

import json

from infra.storage.store import MissingObjectError, Store
from models.engines.benchmark import EngineChoice
from tasks.label.engine_choices import ENGINES
from tasks.spec.run import LabelRunSection


def chosen_engine_rate(store: Store, teacher_id: str, how: LabelRunSection, kind: str) -> float | None:
    """Images a second of the engine that labelling chose for a teacher, as the store remembers it; None: not known.

    Args:
        teacher_id: `TeacherModel.id`.
        how: which engine, precision and batch the run would ask for; a choice that does not fit them does not count.
        kind: of the machine, from `machine_kind`.
    """
    for name in sorted(store.sizes(f"{ENGINES}{teacher_id[:16]}-")):
        try:
            record = json.loads(store.get(name))
            choice, measured_on = EngineChoice.from_json(record["choice"]), record["kind"]
        except (MissingObjectError, ValueError, KeyError, TypeError):
            continue
        family, _, precision = choice.engine.rpartition("-")
        fits = how.engine in ("auto", family) and how.precision in ("auto", precision)
        if measured_on == kind and fits and how.batch in (None, choice.batch) and choice.images_per_second:
            return choice.images_per_second
    return None
