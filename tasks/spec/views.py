"""`views:` the recipe of replayed augmentation, shared by teachers and students."""

from __future__ import annotations

from pydantic import Field

from tasks.spec.base import Section


class ViewsSection(Section):
    """`views:` the recipe of replayed augmentation, shared by teachers and students."""

    size: int = Field(224, ge=16, le=2048, description="side S of a rendered view in pixels")
    count: int = Field(4, ge=0, description="stored views V beside the plain one; epoch e uses 1 + e mod V")
    crop_scale: tuple[float, float] = Field((0.6, 1.0), description="area share of the random crop")
    crop_ratio: tuple[float, float] = Field((0.8, 1.25), description="aspect ratio of the random crop")
    hflip: bool = Field(True, description="mirror left-right; off where side matters (chests)")
    vflip: bool = Field(False, description="mirror up-down")
    rotate: float = Field(15.0, ge=0, le=180, description="largest rotation in degrees")
    brightness: float = Field(0.15, ge=0, lt=1)
    contrast: float = Field(0.15, ge=0, lt=1)
    saturation: float = Field(0.1, ge=0, lt=1)
    hue: float = Field(0.0, ge=0, le=0.5, description="largest turn of the colour circle; 0.5 is half")
