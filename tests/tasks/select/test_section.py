"""The section: presets, and what of it is the identity."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tests.tasks.select.pools import section


def test_nothing_is_weighed_unless_asked() -> None:
    found = section()
    assert (found.min_confidence, found.agreement, found.quantile) == (0, 0, 1)
    assert (found.cap, found.balance, found.align) == (None, None, None)


def test_preset_is_another_way_to_write_its_values() -> None:
    assert section(preset="dr").identity() == section(quantile=0.8, align=3.0).identity()
    assert section(preset="endoscopy").cap == 2000


def test_value_beside_a_preset_overrides_it() -> None:
    found = section(preset="endoscopy", cap=500)
    assert (found.cap, found.quantile) == (500, 0.8)


def test_section_survives_its_own_dump() -> None:
    found = section(preset="dr", align=None, balance=5)
    assert section(**found.model_dump()) == found


def test_balance_and_alignment_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="set one to null"):
        section(preset="dr", balance=100)
    assert section(preset="dr", balance=100, align=None).balance == 100


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(ValidationError, match="keep"):
        section(preset="dermoscopy")
