"""`views:` the recipe of replayed augmentation, shared by teachers and students."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from models.augmentation.draws import FIRST_UNSTORED
from tasks.spec.base import Section

_ONE_SIDED = frozenset({"xray"})
"""Kinds of image that are never mirrored unless the spec says so: a mirrored chest is a situs inversus."""


class ViewsSection(Section):
    """`views:`

    Hue is 0 unless the spec says otherwise: the colour of mucosa and retina is a finding.
    """

    size: int = Field(224, ge=16, le=2048, description="side S of a rendered view in pixels")
    count: int = Field(
        4,
        ge=0,
        lt=FIRST_UNSTORED,
        description="stored random views V beside the plain one, 0; epoch e of a student uses e mod (V + 1)",
    )
    crop_scale: tuple[float, float] = Field((0.6, 1.0), description="area share of the random crop")
    crop_ratio: tuple[float, float] = Field((0.8, 1.25), description="aspect ratio of the random crop")
    hflip: bool | None = Field(None, description="mirror left-right; default: yes, but for x-rays no")
    vflip: bool = Field(False, description="mirror up-down")
    rotate: float = Field(15.0, ge=0, le=180, description="largest rotation in degrees")
    brightness: float = Field(0.15, ge=0, lt=1)
    contrast: float = Field(0.15, ge=0, lt=1)
    saturation: float = Field(0.1, ge=0, lt=1)
    hue: float = Field(0.0, ge=0, le=0.5, description="largest turn of the colour circle; 0.5 is half")
    mix: Literal["none", "mixup", "cutmix"] = Field(
        "none", description="random views are mixed with a partner's of the same shard: blended, or a box pasted in"
    )
    mix_alpha: float = Field(1.0, gt=0, le=100, description="of the Beta(alpha, alpha) that shares are drawn from")
    mix_share: float = Field(1.0, gt=0, le=1, description="share of the pairs that are mixed")

    def resolved(self, modality: str) -> ViewsSection:
        """The section with every default decided by the kind of image: fundus, endoscopy, xray or other."""
        hflip = modality not in _ONE_SIDED if self.hflip is None else self.hflip
        return self.model_copy(update={"hflip": hflip})
