"""`select:` policy over stored soft labels.

Without a word in the spec every image that a teacher could judge keeps weight 1: on a small pool each rule costs
images, and a soft target itself says how sure its teacher is. Two presets, from published practice and
not from measurements of ours, are one word away:

- `dr` (graded, judged by weighted kappa): the most confident 80 % of every pseudo-grade, and the pool's grades
  weighted to the labelled prior. Doubtful pseudo-labels go, as in DRAC's first place (arXiv 2210.09558). Never
  balance: resampling to even classes costs kappa on EyePACS (Huang et al. 2023, arXiv 2110.14160).
- `endoscopy` (23 classes, 191 to 1): the same share of every pseudo-class, 2,000 at most of each (the limit in code
  of the Hyper-Kvasir authors' group, henriklg/teacher-student-framework), and the labelled prior within a factor of
  three: where the cap binds, head classes end between an even share and their prior.

Both take a share of each class, not one threshold: confidence differs between classes, so that a fixed 0.95
(FixMatch) keeps the common ones and starves the tail.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.spec.base import Section

PRESETS: dict[str, dict[str, Any]] = {
    "keep": {},
    "dr": {"quantile": 0.8, "align": 3.0},
    "endoscopy": {"quantile": 0.8, "cap": 2000, "align": 3.0},
}
"""What each preset sets; keys given beside it override."""


class SelectSection(Section):
    """`select:` per-sample weights over stored soft labels; costs no teacher time.

    Rules on weights apply to unlabelled training images, in the order of the fields from `min_confidence` on.
    """

    preset: Literal["keep", "dr", "endoscopy"] = Field("keep", description="values for the keys below")
    calibrate: bool = Field(True, description="fit a temperature per teacher on the validation split")
    views: int = Field(0, ge=0, description="stored random views that are averaged with the plain one")
    min_confidence: float = Field(0.0, ge=0, le=1, description="unlabelled samples below get weight 0")
    agreement: float = Field(0.0, ge=0, le=1, description="least share of teachers that agree with the ensemble")
    quantile: float = Field(1.0, gt=0, le=1, description="share of every pseudo-class that stays, surest first")
    cap: int | None = Field(None, ge=1, description="most samples of a pseudo-class, surest first")
    balance: int | None = Field(None, ge=1, description="bring every pseudo-class to so many: cut or repeat")
    repeat: int = Field(10, ge=1, description="most times that `balance` repeats a sample")
    align: float | None = Field(
        None, gt=1, le=1000, description="weigh the pool to the labelled prior; weights stay within this factor"
    )
    hardest: int = Field(100, ge=0, description="unlabelled samples listed for annotators")
    label_errors: int = Field(100, ge=0, description="most labelled samples listed as likely label errors")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        chosen = given.get("preset")
        return {**PRESETS.get(chosen if isinstance(chosen, str) else "", {}), **given}

    @model_validator(mode="after")
    def _one_aim(self) -> SelectSection:
        if self.balance is not None and self.align is not None:
            raise ValueError(
                "select.balance evens the classes out, select.align brings back the prior: set one to null"
            )
        return self

    def identity(self) -> dict[str, Any]:
        # The preset is a way to write the other values.
        return self.model_dump(mode="json", exclude={"preset"})
