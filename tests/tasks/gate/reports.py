"""Facts of a report, as small as the gate's rules need them."""

from __future__ import annotations

from typing import Any


def report_facts(**changes: Any) -> dict[str, Any]:
    """A student that is clearly better than every baseline on 40 patients."""
    facts: dict[str, Any] = {
        "task": "single",
        "metric": "macro_f1",
        "classes": ["dark", "bright"],
        "patients": 40,
        "resamples": 200,
        "best": {"arm": "taught", "seed": 1, "key": "k", "val": 0.9},
        "arms": {
            "taught": {"seeds": [0, 1], "per_seed": [{"ece": 0.3}, {"ece": 0.04}]},
            "majority": {},
            "thumbnails": {},
            "borders": {},
        },
        "against_majority": {
            "value": 0.9,
            "interval": [0.85, 0.95],
            "majority": 0.35,
            "better": True,
            "reason": None,
            "one_answer": None,
        },
        "against_baselines": {
            "thumbnails": {"value": 0.2, "interval": [0.1, 0.3]},
            "borders": {"value": 0.3, "interval": [0.2, 0.4]},
        },
        "per_class": [{"class": "dark", "n": 35, "recall": 0.9}, {"class": "bright", "n": 12, "recall": 0.5}],
    }
    return facts | changes
