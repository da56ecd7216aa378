"""A network of a spec, built as a run would build it and tried on images of zeros."""

from __future__ import annotations

from pathlib import Path

from infra.errors import UsageError
from models.networks.build import Built, build
from models.networks.input_check import check_input
from tasks.data.weights import PYPI
from tasks.spec import ModelSection


def built_and_tried(
    section: ModelSection, arm: str, side: int, classes: int, path: Path | None, part: int | None
) -> Built:
    """Build a network as a run would, and try it on images of zeros.

    Args:
        arm: names it for people.
        side: of its input in pixels.
        path: of its weights; None: random ones, or those of its package.
        part: images that a training shows it at once; None: it is not trained.

    Raises:
        UsageError: no such network, weights that do not fit, or images, options or batches that it does not take.
    """
    pypi = section.weights == PYPI
    try:
        built = build(
            section.model,
            num_classes=classes,
            options=section.build_options,
            weights=None if pypi else path,
            pypi=pypi,
            size=side,
        )
        options = section.build_options
        try:
            check_input(built.module, side=side, classes=classes, options=options, native=built.input_size, part=part)
        except ValueError as error:
            raise UsageError(f"{arm}: {section.model}: {error}") from error
        return built
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(f"{arm}: {error}") from error
