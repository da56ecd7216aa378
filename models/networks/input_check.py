"""Whether a network takes the images of a corpus and answers with logits, tried on a few zeros before work begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def check_input(
    module: nn.Module, *, side: int, classes: int, options: Mapping[str, Any], native: int, part: int | None = None
) -> None:
    """Try a network, which is left as it was, in eval mode.

    Args:
        side: of its input in pixels.
        classes: C.
        options: that it was built with, for the message.
        native: side that it was made for, for the message.
        part: images that a training shows it at once; None: it is not trained.

    Raises:
        ValueError: it does not map [B, 3, side, side] to logits [B, C], or cannot learn from so few images at once;
            the text names the option.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            answer = module(torch.zeros(2, 3, side, side))
        # Networks of others fail with anything.
        except Exception as error:
            raise ValueError(f"{_cause(options, side, native)} ({_short(error)})") from error
    if not isinstance(answer, Tensor) or answer.shape != (2, classes):
        shown = f"a {type(answer).__name__}" if not isinstance(answer, Tensor) else str(list(answer.shape))
        raise ValueError(f"it returns {shown} of 2 images, not logits [2, {classes}]; its options are {dict(options)}")
    if part == 1:
        _check_single(module, side)


def _check_single(module: nn.Module, side: int) -> None:
    """Batch norm over a map of one pixel has no variance in a batch of one image."""
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            module.train()(torch.zeros(1, 3, side, side))
    except ValueError as error:
        raise ValueError(
            "train.batch: it cannot learn from one image at a time, because its batch norm has a single value a "
            "channel then; raise train.batch, or lower train.accumulate or run.train.devices, so that each part of a "
            f"batch has 2 images or more ({_short(error)})"
        ) from error
    finally:
        module.load_state_dict(state)
        module.eval()


def _cause(options: Mapping[str, Any], side: int, native: int) -> str:
    more = f", or look at its options {dict(options)}" if options else ""
    return f"size: it does not take images of {side} px; set size or views.size, such as {native}{more}"


def _short(error: Exception) -> str:
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0] if first else 'no text'}"
