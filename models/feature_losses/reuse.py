"""Reuse of the teacher's classifier (SimKD, Chen et al. 2022, 2203.14001): only features are matched."""

from __future__ import annotations

from torch import Tensor

from models.feature_losses.base import FeatureLoss, Shape
from models.feature_losses.maps import only, same_size, squared_error
from models.losses.targets import Targets


class Reuse(FeatureLoss):
    """Mean squared error between the student's projected map and the teacher's last map; one value a sample [N].

    The projector and the teacher's classifier belong to the student (`models.networks.graft.Grafted`), because they
    are there at inference; this loss only compares. Maps of two sizes are compared at the smaller; a vector with a map,
    at one position. The paper uses no other term.

    Args:
        factor: of the graft's projector; nothing to this loss.

    Raises:
        ValueError: several taps, or another number of channels of student and teacher.
    """

    def __init__(
        self, own: list[Shape], theirs: list[Shape], *, classes: int, samples: int, temperature: float, factor: int
    ) -> None:
        super().__init__()
        width, wanted = only("simkd", own)[0], only("simkd", theirs)[0]
        if width != wanted:
            raise ValueError(
                f"simkd compares {width} channels of the student with {wanted} of the teacher: build the student with "
                f"a graft of width {wanted}"
            )

    def forward(self, own: list[Tensor], theirs: list[Tensor], targets: Targets) -> Tensor:
        """See the class."""
        return squared_error(*same_size(own[0], theirs[0]))
