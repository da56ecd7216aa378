"""Manifests and unit records notice their own damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.errors import CorruptError
from infra.storage.manifest import Manifest, Output, seal, unseal
from infra.storage.stage_cache import UnitRecord

MANIFEST = Manifest(
    stage="s",
    version=1,
    key="k",
    inputs=["i"],
    section={"share": 1e-05, "10": 1, "9": 2, "name": "Zoë"},
    outputs=[Output(name="data/a", id="a", bytes=3, sha256="a", meta={"n": 1})],
)
RECORD = UnitRecord("u", tuple(MANIFEST.outputs), facts={"rows": [["key", 512, 3]]})


def test_what_was_written_is_read() -> None:
    assert Manifest.from_bytes(MANIFEST.to_bytes()) == MANIFEST
    assert UnitRecord.from_bytes(RECORD.to_bytes()) == RECORD


def test_the_digest_is_of_the_content_alone() -> None:
    assert unseal(MANIFEST.to_bytes(), "m") == MANIFEST.model_dump(mode="json")
    assert MANIFEST.to_bytes() == seal(MANIFEST.model_dump(mode="json"))
    assert f'"digest":"{MANIFEST.digest}"'.encode() in MANIFEST.to_bytes()


def test_numbers_as_keys_are_read_back() -> None:
    odd = MANIFEST.model_copy(update={"facts": {"by": {2: "a", 10: "b"}}})
    again = Manifest.from_bytes(odd.to_bytes())
    assert again.facts == {"by": {"2": "a", "10": "b"}}
    assert again.digest == odd.digest
    record = UnitRecord("u", (), facts={"by": {2: "a", 10: "b"}})
    assert UnitRecord.from_bytes(record.to_bytes()).facts == {"by": {"2": "a", "10": "b"}}


@given(where=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_any_flipped_bit_is_noticed(where: int, flip: int) -> None:
    for data, read in ((MANIFEST.to_bytes(), Manifest.from_bytes), (RECORD.to_bytes(), UnitRecord.from_bytes)):
        at = where % len(data)
        with pytest.raises(CorruptError, match=r"^thing: damaged"):
            read(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :], "thing")


@given(st.integers(0, 10_000))
def test_any_cut_is_noticed(end: int) -> None:
    for data, read in ((MANIFEST.to_bytes(), Manifest.from_bytes), (RECORD.to_bytes(), UnitRecord.from_bytes)):
        with pytest.raises(CorruptError, match="run stillroom verify, then repair"):
            read(data[: end % len(data)], "thing")


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{}", b'{"digest":"x","a":NaN}', b'{"digest":"x","a":"\\ud800"}', b"[" * 9000]
)
def test_what_is_no_sealed_json_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError, match="not written by this release"):
        unseal(data, "thing")


def test_a_whole_document_of_another_kind_is_no_manifest() -> None:
    with pytest.raises(CorruptError, match="no manifest of this release"):
        Manifest.from_bytes(seal({"stage": "s"}))
    with pytest.raises(CorruptError, match="no unit record of this release"):
        UnitRecord.from_bytes(seal({"key": "s"}))
