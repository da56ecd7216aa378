"""Measuring teachers as labelling would ask them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from infra.errors import UsageError
from models.augmentation.draws import Recipe, draw
from models.augmentation.rendering import render, resize
from models.engines import EngineError, choose, open_engine
from models.engines.network import Network
from tasks.planning.measurements import forward_seconds
from tasks.spec.run import LabelRunSection

CHOOSING, CHOOSING_SHARE = 8.0, 0.05  # seconds for choosing an engine, and the share of the work that it may take
BATCH = 8  # images a forward pass, where the spec names none


def answer_seconds(
    network: Network, images: np.ndarray, how: LabelRunSection, answers: int, *, threads: int, device: str
) -> float:
    """Seconds an image of asking a teacher, on the engine that labelling would choose.

    Args:
        images: views at the network's size to measure with, RGB uint8 [N, S, S, 3].
        how: which engines, precision and batch may be used.
        answers: forward passes that there are to do.

    Raises:
        UsageError: the engine asked for cannot run it.
    """
    assert network.module is not None
    each = forward_seconds(network.module, network.size, how.batch or BATCH, threads=threads, device=device, seconds=1)
    network.module.cpu()
    if not len(images):
        return each
    # Choosing may take a share of the work; what is too slow to measure in some seconds is left to the run itself.
    passes = min(answers, round(CHOOSING / CHOOSING_SHARE / each))
    try:
        choice = choose(
            network,
            images,
            device=device,
            threads=threads,
            passes=passes,
            engine=how.engine,
            precision=how.precision,
            batch=how.batch,
            min_agreement=how.min_agreement,
            max_error=how.max_error,
        )
    except EngineError as error:
        raise UsageError(str(error)) from error
    return 1 / choice.images_per_second if choice.images_per_second else each


def plain_views(images: Sequence[np.ndarray], recipe: Recipe, side: int) -> np.ndarray:
    """Plain views of images as stored, as a network of that side gets them: RGB uint8 [N, side, side, 3]."""
    views = [resize(render(image, recipe, draw(recipe, 0, "")), side) for image in images]
    return np.stack(views) if views else np.empty((0, side, side, 3), np.uint8)


def feature_shape(network: Network) -> tuple[int, ...]:
    """Shape of the features that a teacher stores of one image.

    Raises:
        UsageError: the network has no module of that name.
    """
    try:
        answer = open_engine(network, "eager-float32", device="cpu", threads=1)(
            np.zeros((1, network.size, network.size, 3), np.uint8)
        )
    except EngineError as error:
        raise UsageError(f"features {network.features}: {error}") from error
    assert answer.features_BD is not None
    return tuple(answer.features_BD.shape[1:])
