"""The rule for the alias champion."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks.register.versions import decide


def _version(number: int, value: str, *, ingest: str = "a", metric: str = "qwk") -> SimpleNamespace:
    tags = {"stillroom.manifest.ingest": ingest, "stillroom.metric": metric, "stillroom.metric_value": value}
    return SimpleNamespace(version=number, tags=tags)


@pytest.mark.parametrize(
    ("policy", "new", "champion", "alias", "words"),
    [
        ("never", _version(1, "0.5"), None, "challenger", "a person promotes"),
        ("if_none", _version(1, "0.5"), None, "champion", "no champion"),
        ("if_none", _version(2, "0.9"), _version(1, "0.5"), "challenger", "if_none"),
        ("if_better", _version(2, "0.9"), _version(1, "0.5"), "champion", "0.9000 on the same test images"),
        ("if_better", _version(2, "0.5"), _version(1, "0.5"), "challenger", "version 1 has 0.5000"),
        ("if_better", _version(2, "0.9", ingest="b"), _version(1, "0.5"), "challenger", "other data"),
        ("if_better", _version(2, "0.9", metric="auc"), _version(1, "0.5"), "challenger", "judged by qwk"),
        ("if_better", _version(2, ""), _version(1, "0.5"), "challenger", "undefined"),
        ("if_better", _version(2, "0.1", metric="nll"), _version(1, "0.5", metric="nll"), "champion", "nll"),
        ("never", _version(1, "0.5"), _version(1, "0.5"), "champion", "already"),
    ],
)
def test_verdict(policy: str, new: SimpleNamespace, champion: SimpleNamespace | None, alias: str, words: str) -> None:
    found = decide(policy, new, champion)
    assert found.alias == alias
    assert words in found.reason
