"""Networks are tried before the first stage; the same ones are not tried twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.errors import UsageError
from infra.storage.store import LocalStore
from models.networks.build import build
from tasks.planning.network_check import FILE, check_networks
from tasks.spec import Spec
from tests.tasks.label.teachers import save_weights, spec_of


def spec_with(folder: Path, student: dict[str, Any] | None = None, **teacher: Any) -> Spec:
    section = {"name": "small", "model": "micro_xs", "train": {"steps": 2, "batch": 4}, **teacher}
    return spec_of(
        LocalStore(folder / "store"), folder, teachers=[section], student={"model": "micro_xs", **(student or {})}
    )


@pytest.mark.parametrize(
    ("student", "teacher", "text"),
    [
        ({}, {"options": {"in_chans": 1}}, r"teacher small: .*options\.in_chans 1: images have 3 channels"),
        ({"options": {"features_only": True}}, {}, r"student taught: .*options\.features_only"),
        ({"size": 16}, {}, r"student taught: micro_xs: size: it does not take images of 16 px"),
        (
            {"model": "resnet10t", "train": {"steps": 2, "batch": 1}},
            {},
            r"student taught: resnet10t: train\.batch: it cannot learn from one image at a time",
        ),
        (
            {"model": "resnet10t", "train": {"steps": 2, "batch": 4, "accumulate": 4}},
            {},
            r"student taught: resnet10t: train\.batch: .* lower train\.accumulate",
        ),
        ({}, {"weights": "/nowhere/w.pth"}, r"there is no file /nowhere/w\.pth"),
    ],
    ids=["in_chans", "features_only", "size", "batch", "accumulate", "file"],
)
def test_what_the_first_step_would_meet_is_named_with_its_option(
    home: Path, tmp_path: Path, student: dict[str, Any], teacher: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        check_networks(spec_with(tmp_path, student, **teacher))


def test_notes_on_weights_are_told_every_time(home: Path, tmp_path: Path) -> None:
    state = build("micro_xs", num_classes=3).module.state_dict()
    torch.save({"state_dict": state, "state_dict_ema": state}, tmp_path / "w.pth")
    spec = spec_with(tmp_path, weights=str(tmp_path / "w.pth"))
    first = check_networks(spec)
    assert [note for note in first if "teacher small: " in note and "averaged (EMA) weights are taken" in note]
    assert check_networks(spec) == first


def test_networks_that_were_tried_need_no_torch(home: Path, tmp_path: Path) -> None:
    spec = spec_with(tmp_path)
    check_networks(spec)
    assert (home / FILE).is_file()
    script = f"""
import sys
from tasks.planning.network_check import check_networks
from tasks.spec import Spec
check_networks(Spec.model_validate_json({spec.model_dump_json(by_alias=True)!r}))
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


def test_another_file_of_weights_is_tried_again(home: Path, tmp_path: Path) -> None:
    weights = save_weights(tmp_path)
    spec = spec_with(tmp_path, weights=str(weights))
    check_networks(spec)
    weights.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="cannot read the weights"):
        check_networks(spec)
    assert len(json.loads((home / FILE).read_bytes())) == 1
