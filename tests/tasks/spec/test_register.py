"""`register.name`: what MLflow would refuse at the end of a run is refused when the spec is read."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tasks.spec.learn import RegisterSection


@pytest.mark.parametrize("name", ["a/b", "a:b", "a'b", 'a"b', "a@b", "a\nb", " a", "", "..", "a" * 201])
def test_a_name_that_mlflow_or_its_addresses_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="registered model"):
        RegisterSection.model_validate({"name": name})


@pytest.mark.parametrize("name", ["grader v2", "Fundus.Grader_3-xs", "Körner"])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert RegisterSection.model_validate({"name": name}).name == name


@pytest.mark.parametrize(
    ("before", "now"), [("if_better", "automatic"), ("if_none", "automatic"), ("never", "by_hand"), ("x", "by_hand")]
)
def test_the_key_of_before_is_refused_with_what_to_write(before: str, now: str) -> None:
    with pytest.raises(ValidationError, match=f"champion: {before} is no key of this release; write promote: {now}"):
        RegisterSection.model_validate({"champion": before})
