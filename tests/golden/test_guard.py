"""The guard itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.guard import check


def test_an_absent_golden_file_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STILLROOM_GOLDEN", raising=False)
    with pytest.raises(AssertionError, match="STILLROOM_GOLDEN=write"):
        check("stage", 1, {"a": 1}, tmp_path)


def test_what_moved_is_told_and_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_GOLDEN", "write")
    check("stage", 1, {"a": 1, "b": 2}, tmp_path)
    with pytest.raises(AssertionError, match=r"bump the stage's version.* Moved: b"):
        check("stage", 1, {"a": 1, "b": 3}, tmp_path)
    check("stage", 1, {"a": 1, "b": 2}, tmp_path)


def test_a_new_version_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_GOLDEN", "write")
    check("stage", 1, 1, tmp_path)
    check("stage", 2, 2, tmp_path)
    monkeypatch.delenv("STILLROOM_GOLDEN")
    check("stage", 1, 1, tmp_path)
    check("stage", 2, 2, tmp_path)
