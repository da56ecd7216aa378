"""What every loss on features is."""

from __future__ import annotations

from torch import Tensor, nn

from models.losses.targets import Targets

Shape = tuple[int, ...]
"""Of a tap without the batch: (D,) or (D, H, W)."""


class FeatureLoss(nn.Module):
    """Compares features of the student with those of a teacher.

    Subclasses take `(own, theirs, *, classes, samples, temperature, **options)` and keep what they need of it.
    """

    collective = False
    """Whether every rank must run it in every step, with no row if need be."""

    def forward(self, own: list[Tensor], theirs: list[Tensor], targets: Targets) -> Tensor:
        """A loss a sample [N], or one for all of them.

        Args:
            own: the student's features, float32 [N, D] or [N, D, H, W] each.
            theirs: the teacher's, likewise; of all teachers where the loss fuses them.
            targets: of the same N samples.
        """
        raise NotImplementedError
