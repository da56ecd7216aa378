"""Where scripts put a network's weights: wrappers, prefixes, averaged copies, and what is refused."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from models.networks.build import Built, build


def weights(seed: int = 5, classes: int = 3) -> dict[str, Tensor]:
    return dict(build("micro_xs", num_classes=classes, seed=seed).module.state_dict())


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def built_of(folder: Path, saved: Any, name: str = "w.pth", **options: Any) -> Built:
    torch.save(saved, folder / name)
    return build("micro_xs", num_classes=3, weights=folder / name, options=options)


def holds(built: Built, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in built.module.state_dict().items())


def averaged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    network = build("micro_xs", num_classes=3).module
    network.load_state_dict(state)
    return dict(AveragedModel(network).state_dict())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: under("_orig_mod.", state),
        lambda state: under("module._orig_mod.", state),
        lambda state: {"epoch": 3, "state_dict": under("model.", state), "optimizer_states": [{"state": {}}]},
        lambda state: {"state_dict": under("net.", state), "hyper_parameters": {"lr": 0.1}},
        lambda state: {"state_dict": under("model._orig_mod.", state)},
        lambda state: {"checkpoint": {"network": state}},
        averaged,
    ],
    ids=["compiled", "parallel-compiled", "lightning", "lightning-net", "lightning-compiled", "nested", "averaged"],
)
def test_wrappers_and_prefixes_are_dropped(tmp_path: Path, wrap: Any) -> None:
    assert holds(built_of(tmp_path, wrap(weights()), "w.ckpt"), weights())


def test_tensors_beside_the_network_are_left_out_with_a_note(tmp_path: Path) -> None:
    saved = {"state_dict": {**under("model.", weights()), "criterion.weight": torch.ones(3)}}
    built = built_of(tmp_path, saved)
    assert holds(built, weights())
    (note,) = built.notes
    assert note.endswith("w.pth: 1 tensors beside the network's are left out: criterion.weight")


@pytest.mark.parametrize(
    "saved",
    [
        {"state_dict": weights(1), "state_dict_ema": weights()},
        {"model": weights(1), "model_ema": averaged(weights())},
        {"model": weights(1), "ema": {"module": weights()}},
        {"state_dict": {**under("model.", weights(1)), **under("ema_model.", weights())}},
        {"state_dict": {**under("model.", weights(1)), **under("model_ema.module.", weights())}},
    ],
    ids=["timm", "torchvision", "nested", "lightning", "lightning-module"],
)
def test_averaged_weights_are_preferred_with_a_note(tmp_path: Path, saved: dict[str, Any]) -> None:
    built = built_of(tmp_path, saved)
    assert holds(built, weights())
    (note,) = built.notes
    assert "its averaged (EMA) weights are taken" in note
    assert "left out: " in note


def test_several_networks_that_fit_alike_are_refused(tmp_path: Path) -> None:
    saved = {"student": weights(0), "teacher": weights(1)}
    with pytest.raises(ValueError, match=r"w\.pth: holds several networks that fit alike \(student, teacher\); save"):
        built_of(tmp_path, saved)


def test_the_network_that_fits_is_found_among_others(tmp_path: Path) -> None:
    saved = {"discriminator": dict(nn.Linear(4, 2).state_dict()), "generator": under("net.", weights())}
    assert holds(built_of(tmp_path, saved), weights())


def test_weights_of_the_whole_network_are_cut_behind_a_prefix(tmp_path: Path) -> None:
    built = built_of(tmp_path, {"state_dict": under("model.", weights())}, cut={"after": "stem"})
    state = weights()
    stems = {name: tensor for name, tensor in built.module.state_dict().items() if name.startswith("stem.")}
    assert stems
    assert all(torch.equal(tensor, state[name]) for name, tensor in stems.items())


@pytest.mark.parametrize(
    ("beside", "named"),
    [({"best": np.float64(0.9)}, "scalar"), ({"args": argparse.Namespace(lr=1)}, "argparse.Namespace")],
)
def test_a_value_that_only_code_could_read_is_refused_with_what_to_save(
    tmp_path: Path, beside: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=rf"w\.pth: .*holds .*{named}.*save the tensors alone") as caught:
        built_of(tmp_path, {"state_dict": weights(), **beside})
    assert "Weights only load failed" not in str(caught.value)


def test_weights_with_nan_are_refused_by_name(tmp_path: Path) -> None:
    state = weights()
    state["stem.0.0.weight"].view(-1)[3] = float("nan")
    with pytest.raises(ValueError, match=r"w\.pth: 1 of \d+ tensors hold NaN or infinity \(stem\.0\.0\.weight\)"):
        built_of(tmp_path, state)
