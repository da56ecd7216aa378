"""Label maps by name: from the labels of a corpus to classes that papers use, or that several corpora share.

Messidor's grades 0 to 3 are not mapped onto the five of the international scale (ICDR, Wilkinson et al. 2003,
Ophthalmology 110(9)), because only 0 and 1 are the same in both. Messidor counts microaneurysms and haemorrhages
(Decenciere et al. 2014): its 2 has more than 5 microaneurysms, which are still mild (1) in ICDR, or up to 4
haemorrhages, which are moderate (2); its 3 may be anything from mild (15 microaneurysms) to proliferative (4). Both
scales say exactly whether there is any retinopathy. Whether it is referable they say by grade 2 in published work,
which for the same reason is not quite the same line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from tasks.corpora.coding import folded


@dataclass(frozen=True)
class LabelMap:
    """Classes, and which label of one corpus is which.

    Args:
        task: single or multilabel.
        labels: class by label; several labels may be one class.
        meaning: for people, with its source.
        left_out: labels that the corpus documents and that are none of the classes: images of one label are
            unlabelled, findings of several are not asked for.
        oedema: whether a grade of macular oedema makes an image referable, whatever its retinopathy; None where the
            map asks for no such grade.
    """

    task: str
    classes: tuple[str, ...]
    labels: Mapping[str, str]
    meaning: str
    left_out: frozenset[str] = frozenset()
    oedema: Mapping[str, bool] | None = None

    @cached_property
    def _folded(self) -> dict[str, str]:
        return {folded(label): own for label, own in self.labels.items()}

    @cached_property
    def _folded_out(self) -> frozenset[str]:
        return frozenset(map(folded, self.left_out))

    def covers(self, label: str) -> bool:
        """Whether the map says what a label is, or leaves it out on purpose; spelling as `folded`."""
        return folded(label) in self._folded or self.leaves_out(label)

    def leaves_out(self, label: str) -> bool:
        """Whether a label is one of the corpus that the map leaves out."""
        return folded(label) in self._folded_out

    def of(self, label: str) -> str:
        """Class of a label; the label itself where there is none."""
        return self._folded.get(folded(label), label)


_HEALTHY, _DISEASED = "no retinopathy", "retinopathy"
NOT_REFERABLE, REFERABLE = "not referable", "referable"
_ICDR, _MESSIDOR = ("0", "1", "2", "3", "4"), ("0", "1", "2", "3")


def _at_least(first: str, grades: tuple[str, ...], names: tuple[str, str]) -> dict[str, str]:
    return {grade: names[grade >= first] for grade in grades}


def _any_retinopathy(grades: tuple[str, ...]) -> LabelMap:
    """Grade 0 against all others.

    Grade 0 is the same in both scales: no abnormalities in ICDR, neither a microaneurysm nor a haemorrhage in
    Messidor. The task is that of Bajwa et al. 2020 (arXiv 2005.14308), among others, on EyePACS and Messidor.
    """
    names = (_HEALTHY, _DISEASED)
    meaning = "grade 1 or higher (Bajwa et al. 2020); grade 0 of ICDR and of Messidor is the same"
    return LabelMap("single", names, _at_least("1", grades, names), meaning)


def _referable(grades: tuple[str, ...]) -> LabelMap:
    """Moderate non-proliferative retinopathy or worse, without oedema (Gulshan et al. 2016, JAMA 316(22))."""
    names = (NOT_REFERABLE, REFERABLE)
    return LabelMap("single", names, _at_least("2", grades, names), "grade 2 or higher (Gulshan et al. 2016)")


def _referable_or_oedema(grades: tuple[str, ...], oedema: dict[str, bool]) -> LabelMap:
    """Moderate retinopathy or worse, or referable macular oedema (Gulshan et al. 2016, JAMA 316(22)).

    Referable oedema is hard exudates within one disc diameter of the centre of the macula (there, and Krause et al.
    2018, Ophthalmology 125(8), whose adjudicated_dme says exactly this). The risk of Messidor and the grade of IDRiD
    say it by 2 (Decenciere et al. 2014; Porwal et al. 2018); their 1 is exudates farther away, which the adjudicated
    grades count as no referable oedema, so that 1 alone is not referable here.
    """
    names = (NOT_REFERABLE, REFERABLE)
    meaning = (
        "grade 2 or higher, or hard exudates within one disc diameter of the macula's centre (Gulshan et al. 2016): "
        f"oedema {' and '.join(grade for grade, found in oedema.items() if found)}"
    )
    return LabelMap("single", names, _at_least("2", grades, names), meaning, oedema=oedema)


def _graded(grades: tuple[str, ...], oedema: dict[str, bool] | None = None) -> dict[str, LabelMap]:
    found = {"any-retinopathy": _any_retinopathy(grades), "referable": _referable(grades)}
    return found | ({} if oedema is None else {"referable-or-oedema": _referable_or_oedema(grades, oedema)})


_RISK = {"0": False, "1": False, "2": True}

HYPER_KVASIR = (
    *("barretts", "barretts-short-segment", "bbps-0-1", "bbps-2-3", "cecum", "dyed-lifted-polyps"),
    *("dyed-resection-margins", "esophagitis-a", "esophagitis-b-d", "hemorrhoids", "ileum", "impacted-stool", "polyps"),
    *("pylorus", "retroflex-rectum", "retroflex-stomach", "ulcerative-colitis-grade-0-1", "ulcerative-colitis-grade-1"),
    *("ulcerative-colitis-grade-1-2", "ulcerative-colitis-grade-2", "ulcerative-colitis-grade-2-3"),
    *("ulcerative-colitis-grade-3", "z-line"),
)
"""All findings, as folders and image-labels.csv name them."""

OTHER_NAMES = {
    "short-segment-barretts": "barretts-short-segment",
    "hemorroids": "hemorrhoids",
    "normal-cecum": "cecum",
    "normal-pylorus": "pylorus",
    "normal-z-line": "z-line",
    "oesophagitis-a": "esophagitis-a",
    "oesophagitis-b-d": "esophagitis-b-d",
    "polyp": "polyps",
}
"""What split files and the published tables call a finding of Hyper-Kvasir, and what folders call it."""

KVASIR = (
    *("dyed-lifted-polyps", "dyed-resection-margins", "esophagitis", "normal-cecum", "normal-pylorus"),
    *("normal-z-line", "polyps", "ulcerative-colitis"),
)
"""The classes of Kvasir and Kvasir-v2."""


def _either_name(labels: Mapping[str, str]) -> dict[str, str]:
    return {**labels, **{other: labels[own] for other, own in OTHER_NAMES.items() if own in labels}}


def _hyper_kvasir() -> dict[str, LabelMap]:
    """The 23 classes, and those of Kvasir.

    The official folds of 2 and of 5, and the tables that are published on them, have all 23 classes (Borgli et al.
    2020, Scientific Data 7); no smaller set is documented with them, so none stands here.

    Kvasir (Pogorelov et al. 2017, MMSys) has eight classes of the same hospital: four have the same name or the name
    that Hyper-Kvasir's split files use, and two are what Hyper-Kvasir grades: oesophagitis, which is Los Angeles A or
    B to D, and ulcerative colitis, of every Mayo grade. No other finding is one of Kvasir's classes.
    """
    same = {"dyed-lifted-polyps", "dyed-resection-margins", "polyps"}
    landmarks = {"cecum": "normal-cecum", "pylorus": "normal-pylorus", "z-line": "normal-z-line"}
    graded = {name: own for own in ("esophagitis", "ulcerative-colitis") for name in HYPER_KVASIR if own in name}
    labels = _either_name({**{name: name for name in same}, **landmarks, **graded})
    return {
        "all": LabelMap(
            *("single", HYPER_KVASIR, _either_name({name: name for name in HYPER_KVASIR})),
            "the 23 classes of the official folds (Borgli et al. 2020)",
        ),
        "kvasir": LabelMap(
            *("single", KVASIR, labels),
            "the eight classes of Kvasir and Kvasir-v2 (Pogorelov et al. 2017), grades united",
            left_out=_but((*HYPER_KVASIR, *OTHER_NAMES), labels),
        ),
    }


CHEXPERT = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture"),
    "Support Devices",
)
CHESTXRAY14 = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)
NEGATIVE = "No Finding"
"""In place of ChestX-ray14's findings where there is none; in CheXpert it is a column like the others."""


def _findings(known: tuple[str, ...], chosen: Iterable[str], meaning: str) -> LabelMap:
    own = tuple(chosen)
    return LabelMap("multilabel", own, {name: name for name in own}, meaning, left_out=_but(known, own))


def _but(known: Iterable[str], chosen: Iterable[str]) -> frozenset[str]:
    return frozenset(known) - frozenset(chosen)


MAPS: dict[str, dict[str, LabelMap]] = {
    **dict.fromkeys(("eyepacs", "aptos", "ddr", "phantom-fundus"), _graded(_ICDR)),
    "messidor": _graded(_MESSIDOR, _RISK),
    "messidor-2": _graded(_ICDR, {"0": False, "1": True}),
    "idrid": _graded(_ICDR, _RISK),
    "hyper-kvasir": _hyper_kvasir(),
    "chexpert": {
        "all": _findings(CHEXPERT, CHEXPERT, "all fourteen (Irvin et al. 2019)"),
        "competition": _findings(
            CHEXPERT,
            ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"),
            "the five findings that the CheXpert competition judges (Irvin et al. 2019)",
        ),
    },
    "chestx-ray14": {
        "all": _findings(CHESTXRAY14, CHESTXRAY14, "all fourteen (the release of 112,120 images)"),
        "eight": _findings(
            CHESTXRAY14,
            *(
                (
                    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia"),
                    "Pneumothorax",
                ),
                "the eight findings of ChestX-ray8 (Wang et al. 2017)",
            ),
        ),
    },
}
"""Maps by adapter and name; the names stand in `tasks.spec.label_maps` too, which checks the spec."""


_FEW = 8  # classes that are listed one by one


def described(adapter: str) -> str:
    """The maps of an adapter for people; "" where it has none."""
    return "\n".join(
        f"  {name}: {own.meaning}" + (f"\n    {', '.join(own.classes)}" if len(own.classes) <= _FEW else "")
        for name, own in MAPS.get(adapter, {}).items()
    )
