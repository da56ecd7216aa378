"""Keys say what was made from what; nothing else changes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.digest import canonical_json, sha256_bytes, sha256_file, unit_key


def test_canonical_json_is_one_byte_string() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "ü"}) == '{"a":"ü","b":[1,2.5]}'.encode()


def test_nan_has_no_canonical_form() -> None:
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


def test_file_and_bytes_agree(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    assert sha256_file(tmp_path / "f") == sha256_bytes(b"x" * 100_000)


@pytest.mark.parametrize(
    "change",
    [{"stage": "label"}, {"version": 2}, {"inputs": ["b", "a"]}, {"section": {"size": 2}}, {"weights": ["w"]}],
)
def test_every_part_of_a_unit_changes_its_key(change: dict[str, object]) -> None:
    base: dict[str, object] = {"stage": "ingest", "version": 1, "inputs": ["a", "b"], "section": {"size": 1}}
    assert unit_key(**base) != unit_key(**{**base, **change})  # type: ignore[arg-type]
