"""`corpus:` and `ingest:`: which images, which labels, which splits, how they are stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tasks.spec.base import Section
from tasks.spec.label_maps import check_label_map

Task = Literal["single", "ordinal", "multilabel"]
Modality = Literal["fundus", "endoscopy", "xray", "other"]
Adapter = Literal[
    "eyepacs",
    "aptos",
    "messidor",
    "messidor-2",
    "idrid",
    "ddr",
    "hyper-kvasir",
    "kvasir",
    "chexpert",
    "chestx-ray14",
    "isic-2018",
    "isic-2019",
    "pad-ufes-20",
    "folder",
    "table",
    "phantom-fundus",
    "phantom-endoscopy",
]
Attribute = Literal["exam", "eye", "site", "camera", "date", "sex", "age", "projection", "gradable"]
Certainty = Literal["masked", "zeros", "ones"]


class TableSection(Section):
    """`corpus.table`: a CSV beside a folder of images."""

    csv: str = Field(description="CSV file, relative to corpus.root")
    images: str = Field(".", description="folder of the images, relative to corpus.root; searched below")
    image: str = Field(description="column with the image's name, with or without extension or folder")
    label: str | list[str] = Field(
        description="column with the label; or columns with 1 and 0, one a class (task single or multilabel)"
    )
    patient: str | None = Field(None, description="column with the patient")
    patient_pattern: str | None = Field(
        None, description="regular expression on the image's name, or path, whose first group is the patient"
    )
    split: str | None = Field(None, description="column with the split (train, val or test)")
    split_lists: dict[str, str] = Field(
        default_factory=dict, description="split to a text file with one image name a line"
    )
    unlabelled: list[str] = Field(
        default_factory=list, description="label values that mean unlabelled; blank always does"
    )
    delimiter: str | None = Field(None, description="field separator; found by looking when not given")
    label_separator: str = Field("|", description="between the labels of one image (multilabel)")
    negative: str | None = Field(None, description="label value that means none of the classes (multilabel)")
    encoding: str | None = Field(None, description="of the CSV and the lists, such as gbk; default UTF-8")
    attributes: dict[Attribute, str] | None = Field(
        None,
        description="column by attribute: exam, eye, site, camera, date, sex, age, projection, gradable",
    )


class FolderSection(Section):
    """`corpus.folder`: what the folders of images say."""

    layout: str = Field(
        "{label}/**",
        description="folders from corpus.root to an image; in braces label, patient, split or an attribute; * is any "
        "folder, ** at the end any folders",
    )
    name: str | None = Field(None, description="an image's name without its suffix, such as {patient}_{eye}")
    unlabelled: list[str] = Field(default_factory=list, description="names in place of a label that mean unlabelled")
    rest: Literal["refuse", "pool"] = Field("refuse", description="images that lie otherwise: an error, or unlabelled")


class CheXpertSection(Section):
    """`corpus.chexpert`: what labels count as that are neither present nor absent."""

    uncertain: Certainty | dict[str, Certainty] = Field(
        "masked", description="-1.0: masked (unknown, the teacher fills it in), zeros or ones; or one by finding"
    )
    unmentioned: Certainty | dict[str, Certainty] = Field(
        "zeros", description="blank: zeros as in the published work, masked or ones; or one by finding"
    )

    @staticmethod
    def of(finding: str, how: str | Mapping[str, str], default: str) -> str:
        """What the labels of a finding count as; `default` where they are given by finding and this one is not."""
        return how if isinstance(how, str) else how.get(finding, default)


def _text(value: Any) -> Any:
    """Numbers and dates, as YAML reads them, as text."""
    return str(value) if isinstance(value, int | float | date) else value


class RangeSection(Section):
    """From a first to a last age in years, or date (2019, 2019-05, 2019-05-31), both included."""

    first: Annotated[str | None, BeforeValidator(_text)] = Field(None, alias="from")
    last: Annotated[str | None, BeforeValidator(_text)] = Field(None, alias="to")

    @model_validator(mode="after")
    def _one_end(self) -> RangeSection:
        if self.first is None and self.last is None:
            raise ValueError("give from, to, or both")
        return self


def _listed(value: Any) -> Any:
    """One value is a list of one."""
    return [str(value)] if isinstance(value, str | int | float) else value


def _ranged(values: Values | None) -> Values | None:
    for attribute, wanted in (values or {}).items():
        if not isinstance(wanted, RangeSection):
            continue
        if attribute not in ("age", "date"):
            raise ValueError(f"{attribute} has no order: give a list of values; from and to are for age and date")
        for end in (wanted.first, wanted.last):
            if end is not None and not re.fullmatch(_ENDS[attribute], end):
                raise ValueError(
                    f"{attribute} {end!r}: "
                    + ("years are expected" if attribute == "age" else "2019-05-31 is expected")
                )
    return values


_ENDS = {"age": r"\d+(\.\d+)?", "date": r"\d{4}(-\d\d(-\d\d)?)?"}
Values = dict[Attribute, Annotated[list[str] | RangeSection, BeforeValidator(_listed)]]
Filter = Annotated[Values | None, AfterValidator(_ranged)]


class SplitSection(Section):
    """`corpus.split`: official splits where there are any, else ours by patient."""

    official: str | None = Field(
        None, description="official split file relative to corpus.root (hyper-kvasir: 2_fold_split.csv)"
    )
    test_fold: int = Field(1, ge=0, description="fold of the official file that is the test split")
    test_where: Filter = Field(
        None,
        description="the test split by attributes, as site: [B], or date: {from: 2021}; patients that have one such "
        "image are in test whole, validation is taken out of the others",
    )
    val: float = Field(0.15, ge=0, lt=1, description="share of labelled patients for validation")
    test: float = Field(0.2, ge=0, lt=1, description="share of labelled patients for test")
    seed: int = 0
    near_duplicates: Literal["together", "ignore"] | None = Field(
        None,
        description="images without a known patient whose pictures are near duplicates: together in one split of ours, "
        "or split as if they were not; default together, for images that are not stored yet",
    )
    stratify: list[Attribute] | None = Field(
        None,
        min_length=1,
        description="attributes by which our splits are stratified beside the label, such as [site, camera]; age in "
        "bands, date by year",
    )

    @model_validator(mode="after")
    def _something_left(self) -> SplitSection:
        if self.test_where is not None and self.official is not None:
            raise ValueError("official and test_where both name the test split; give one")
        if self.val + self.test >= 1:
            raise ValueError("val and test together leave nothing for train")
        if self.stratify and len(set(self.stratify)) < len(self.stratify):
            raise ValueError("stratify names an attribute twice")
        return self


class PhantomSection(Section):
    """`corpus.phantom`: what to draw into corpus.root when it is not there yet."""

    size: int = Field(96, ge=64, le=2000, description="side of the images in pixels")
    seed: int = 0
    labelled: int = Field(300, ge=10)
    unlabelled: int = Field(1500, ge=0)
    val: int = Field(200, ge=0, description="phantom-fundus: Public images of the test folder")
    test: int = Field(500, ge=0, description="phantom-fundus: Private images of the test folder")


_OF_USE = ("where", "ungradable", "min_quality")  # keys that leave images out, though they are stored


class CorpusSection(Section):
    """`corpus:`"""

    OUTSIDE_OF_IDENTITY: ClassVar[tuple[str, ...]] = ("root", "corrections", "licence")

    adapter: Adapter
    root: Annotated[str, BeforeValidator(str)] = Field(
        description="the corpus as downloaded: a folder, a zip (or the first part of a split one), a tar, "
        "s3://bucket/prefix; never hashed"
    )
    name: str | None = Field(None, pattern=r"^[a-z0-9][a-z0-9-]*$", description="default: the adapter's name")
    licence: str | None = Field(
        None, max_length=200, description="of the images, for the lineage of students; default: that of the adapter"
    )
    key_prefix: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$",
        description="put before the key of every image, where two corpora name images alike",
    )
    private: bool = Field(False, description="keys and patients become keyed hashes, no file name is kept")
    task: Task | None = Field(None, description="default: the adapter's")
    modality: Modality | None = Field(None, description="kind of image; decides default sizes; adapters know theirs")
    classes: list[str] | None = Field(None, description="class names in order; default: the adapter's")
    label_map: str | None = Field(
        None,
        description="named classes, which several corpora may share, such as referable (diabetic retinopathy); "
        "`stillroom corpora` names the maps of each adapter",
    )
    outside: Literal["refuse", "unlabelled", "leave_out"] | None = Field(
        None,
        description="label values that label_map does not cover: refuse (default), unlabelled (the images join the "
        "unlabelled pool) or leave_out (they are quarantined)",
    )
    table: TableSection | None = None
    folder: FolderSection | None = None
    chexpert: CheXpertSection | None = None
    corrections: str | None = Field(
        None,
        description="CSV with the columns key, label, who, when: labels laid over the corpus; key is a key or a "
        "path below corpus.root; never hashed, what it says is",
    )
    where: Filter = Field(
        None,
        description="values of attributes that images must have, such as projection: frontal, site: [A, B], "
        "age: {from: 18}, date: {from: 2019-01-01}; others lie in the shards and take no part",
    )
    ungradable: Literal["leave_out", "use"] = Field(
        "leave_out", description="unlabelled images of which it is known that they cannot be graded"
    )
    min_quality: float | None = Field(
        None,
        ge=0,
        le=1,
        description="images whose quality score (catalog column quality, 0 to 1) is lower count as ungradable, where "
        "nobody said whether they can be graded",
    )
    split: SplitSection = SplitSection()
    phantom: PhantomSection | None = None

    @property
    def title(self) -> str:
        """The corpus's name in the store."""
        return self.name or self.adapter

    @model_validator(mode="after")
    def _belongs(self) -> CorpusSection:
        if (self.adapter == "table") != (self.table is not None):
            raise ValueError("corpus.table is needed with adapter: table, and only there")
        if self.folder is not None and self.adapter != "folder":
            raise ValueError("corpus.folder is only for adapter: folder")
        if self.chexpert is not None and self.adapter != "chexpert":
            raise ValueError("corpus.chexpert is only for adapter: chexpert")
        if self.label_map is not None:
            check_label_map(self.adapter, self.label_map)
        if self.outside is not None and self.label_map is None:
            raise ValueError("corpus.outside is for what a corpus.label_map does not cover, and there is none")
        if self.phantom is not None and not self.adapter.startswith("phantom-"):
            raise ValueError("corpus.phantom is only for the phantom adapters")
        return self

    def identity_of_shards(self) -> dict[str, Any]:
        """Without what leaves images out: they are stored all the same."""
        return {name: value for name, value in self.identity().items() if name not in _OF_USE}

    def identity_of_use(self) -> dict[str, Any]:
        """What leaves images out; empty where nothing does but the default."""
        return {name: value for name, value in self.identity().items() if name in _OF_USE}

    def identity(self) -> dict[str, Any]:
        found = self.model_dump(mode="json", exclude=set(self.OUTSIDE_OF_IDENTITY))
        # Came later: left out where it is unset, so that what was ingested before is found.
        for name in ("encoding", "attributes"):
            if self.table is not None and found["table"][name] is None:
                del found["table"][name]
        for name in ("label_map", "folder", "chexpert", "where", "key_prefix", "min_quality"):
            if found[name] is None:
                del found[name]
        if self.outside in (None, "refuse"):
            del found["outside"]
        for name in ("test_where", "near_duplicates", "stratify"):
            if found["split"][name] is None:
                del found["split"][name]
        if self.ungradable == "leave_out":
            del found["ungradable"]
        return found


Share = Annotated[float, Field(ge=0, le=1)]


class IngestSection(Section):
    """`ingest:`"""

    size: int | None = Field(
        None, ge=16, le=8192, description="shorter side in pixels, never enlarged; default by purpose"
    )
    crop: Literal["none", "fundus", "endoscopy"] | None = Field(
        None,
        description="fundus: the field of view, padded to a square; endoscopy: the frame without its borders; "
        "default by kind of image",
    )
    mask: Literal["hyper-kvasir"] | list[list[tuple[Share, Share]]] | None = Field(
        None,
        description="parts of every frame that are painted black, instead of a crop: a device's preset, or polygons of "
        "(x, y) in shares of width and height",
    )
    encode: Literal["jpeg", "png", "keep"] = Field(
        "jpeg", description="keep: files as they are, without their metadata; neither cropped nor resized"
    )
    quality: int = Field(92, ge=1, le=100, description="JPEG quality")
    max_pixels: int = Field(
        100_000_000, ge=1, description="images with more are quarantined unread: decompression bombs"
    )
    bits: int | None = Field(
        None,
        ge=8,
        le=16,
        description="in use of samples that have more than 8 bits; default: the most that an image of the first ingest "
        "needs",
    )
    shard_size: int = Field(256, ge=1, description="images a shard")
    max_bad_share: float = Field(0.05, ge=0, le=1, description="failure budget: share of the images ...")
    max_bad: int = Field(20, ge=0, description="... that is not spent before this many have failed")

    @model_validator(mode="after")
    def _kept_as_is(self) -> IngestSection:
        cropped = self.crop not in (None, "none")
        if self.encode == "keep" and (self.size is not None or cropped or self.mask is not None):
            raise ValueError("encode: keep stores files as they are; leave ingest.size, crop and mask away")
        if self.mask is not None and cropped:
            raise ValueError("ingest.mask is of the whole frame, and a crop would move it; give one of crop and mask")
        if isinstance(self.mask, list) and any(len(polygon) < 3 for polygon in self.mask):
            raise ValueError("ingest.mask: a polygon needs three corners or more")
        return self
