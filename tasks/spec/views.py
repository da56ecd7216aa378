"""`views:` the recipe of replayed augmentation, shared by teachers and students."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from infra.errors import SpecError
from models.augmentation.view_numbers import FIRST_UNSTORED
from tasks.spec.base import Section

_ONE_SIDED = frozenset({"xray"})
"""Kinds of image that are never mirrored unless the spec says so: a mirrored chest is a situs inversus."""

# Modules of models are imported where a spec has transforms: they bring numpy, OpenCV and albumentations, which would
# slow down every command otherwise.
_FINDING = {
    "mirror": (_ONE_SIDED, "mirrors the picture: the left of a chest is its right then"),
    "hue": (frozenset({"fundus", "endoscopy"}), "changes the hue: the colour of retina and mucosa is a finding"),
}
"""What listed transforms do only where `allow` names it: on which kinds of image, and why not."""


class ViewsSection(Section):
    """`views:`

    Hue is 0 unless the spec says otherwise: the colour of mucosa and retina is a finding. Transforms of albumentations
    are listed by their own names and parameters, and run after the crop, the turn and the colours above, before mixing:

        transforms:
          - CLAHE: {clip_limit: [1, 3], p: 0.3}
          - OneOf: {p: 0.5, transforms: [MotionBlur, {GaussianBlur: {blur_limit: [3, 5]}}]}
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
    transforms: list[dict[str, Any]] = Field(
        [], description="transforms of albumentations, on random views alone; `Name`, or `Name: {parameter: value}`"
    )
    allow: list[Literal["mirror", "hue"]] = Field(
        [], description="what transforms may do though the kind of image forbids it: mirror x-rays, change tissue's hue"
    )

    @field_validator("transforms", mode="before")
    @classmethod
    def _in_one_form(cls, given: Any) -> Any:
        if not given or not isinstance(given, list):
            return given
        from models.augmentation.transforms import listed, texts

        items = listed(given)
        texts(items)
        return items

    @model_validator(mode="after")
    def _transforms_work(self) -> ViewsSection:
        if self.transforms:
            from models.augmentation.transform_checks import check

            try:
                check(self.transforms, self.size)
            except RuntimeError as error:
                raise ValueError(str(error)) from None
            except ValueError as error:
                raise ValueError(f"transforms.{error}") from None
        return self

    def identity(self) -> dict[str, Any]:
        """What decides pixels and their number; transforms, where there are any, with the versions of their library."""
        values = super().identity()
        del values["allow"]
        if self.transforms:
            from models.augmentation.transforms import LIBRARIES

            return {**values, "libraries": dict(LIBRARIES)}
        del values["transforms"]
        return values

    def resolved(self, modality: str) -> ViewsSection:
        """The section with every default decided by the kind of image: fundus, endoscopy, xray or other.

        Raises SpecError where a transform does what this kind of image forbids, and `allow` does not name it.
        """
        if self.transforms:
            self._check_findings(modality)
        hflip = modality not in _ONE_SIDED if self.hflip is None else self.hflip
        return self.model_copy(update={"hflip": hflip})

    def _check_findings(self, modality: str) -> None:
        from models.augmentation.transform_checks import effects

        for effect, names in effects(self.transforms).items():
            kinds, why = _FINDING[effect]
            if names and modality in kinds and effect not in self.allow:
                raise SpecError(
                    f"views.transforms: {', '.join(names)} {why} ({modality} images). "
                    f"Take it out, or say that it is meant: views.allow: [{effect}]"
                )
