"""Small copies of public corpora, in the layouts that their downloads have."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import xlwt

from tests.tasks.corpora.layouts import csv, image

APTOS_GRADES = {"000c1434d8d7": 2, "001639a390f0": 4, "0024cdab0c1e": 1, "002c21358ce6": 0}

KVASIR = (
    *("dyed-lifted-polyps", "dyed-resection-margins", "esophagitis", "normal-cecum", "normal-pylorus"),
    *("normal-z-line", "polyps", "ulcerative-colitis"),
)

MESSIDOR = {
    "11": {"20051019_38557_0100_PP": 3, "20051020_63045_0100_PP": 3},  # the second was graded again: 0
    "33": {"20051202_54744_0400_PP": 0, "20051202_37830_0400_PP": 1},  # the first is a copy
}

CHEXPERT_HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
CHEXPERT = {
    "train": (
        "train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0",
        "train/patient00002/study2/view1_frontal.jpg,Female,87,Frontal,AP,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,",
        "train/patient00002/study1/view1_frontal.jpg,Female,83,Frontal,PA,,,,1.0,,,-1.0,,,,,,1.0,",
        "train/patient00002/study1/view2_lateral.jpg,Unknown,83,Lateral,,,,,1.0,,,-1.0,,,,,,1.0,",
    ),
    "valid": ("valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,0.0,1.0,1.0,1.0,0,0,0,0,0,0,0,0,0,0.0",),
}

CHESTXRAY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,"
    "Height],OriginalImagePixelSpacing[x,y]"
)
CHESTXRAY = (
    "00000001_000.png,Cardiomegaly,0,1,57,M,PA,2682,2749,0.143,0.143",
    "00000001_001.png,Cardiomegaly|Emphysema,1,1,58,M,PA,2894,2729,0.143,0.143",
    "00000002_000.png,No Finding,0,2,80,M,PA,2500,2048,0.171,0.171",
    "00000003_000.png,Hernia|Pleural_Thickening,0,3,74,F,AP,2500,2048,0.168,0.168",
)


def aptos(root: Path, grades: Mapping[str, int] = APTOS_GRADES, pool: Sequence[str] = ("0005cfc8afb6",)) -> Path:
    """The competition's files; `pool` are images of test."""
    for seed, name in enumerate(grades):
        image(root / "train_images" / f"{name}.png", seed)
    for seed, name in enumerate(pool, 1000):
        image(root / "test_images" / f"{name}.png", seed)
    csv(root / "train.csv", "id_code,diagnosis", [f"{name},{grade}" for name, grade in grades.items()])
    csv(root / "test.csv", "id_code", list(pool))
    return root


def aptos_split_again(root: Path) -> Path:
    """The copy of three parts, whose folders hold folders of their own name."""
    parts = {"train_1": "train_images", "valid": "val_images", "test": "test_images"}
    for seed, (table, folder) in enumerate(parts.items()):
        image(root / folder / folder / f"a{seed}.png", seed)
        csv(root / f"{table}.csv", "id_code,diagnosis", [f"a{seed},{seed}"])
    return root


def kvasir(root: Path, images: int = 2, classes: Sequence[str] = KVASIR) -> Path:
    """A folder for each class."""
    for number, name in enumerate(classes):
        for own in range(images):
            image(root / name / f"{number}{own}.jpg", 10 * number + own)
    return root


def workbook(rows: Sequence[Sequence[object]], *sheets: str) -> bytes:
    """An .xls workbook; its first sheet has the rows."""
    book = xlwt.Workbook()
    for name in sheets:
        sheet = book.add_sheet(name)
        for at, row in enumerate(rows if name == sheets[0] else ()):
            for column, cell in enumerate(row):
                sheet.write(at, column, cell)
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


def messidor(
    root: Path,
    grades: Mapping[str, Mapping[str, int]] = MESSIDOR,
    column: str = "Retinopathy grade",
    risk: int = 0,
) -> Path:
    """Bases of .tif with their sheets beside them; `risk` is that of macular oedema."""
    header = ["Image name", "Ophthalmologic department", column, "Risk of macular edema "]
    for base, own in grades.items():
        rows = [[f"{name}.tif", "Service Ophtalmologie Lariboisière", grade, risk] for name, grade in own.items()]
        data = workbook([header, *rows], "Feuil1", "Feuil2", "Feuil3")
        for seed, name in enumerate(own):
            image(root / f"Base{base}" / f"{name}.tif", int(base) + seed)
        (root / f"Annotation_Base{base}.xls").write_bytes(data)
    return root


def messidor2(root: Path) -> Path:
    """Two exams, one of suffixes in another case than the table has, with one image that cannot be graded."""
    for seed, name in enumerate(
        ["20051020_43808_0100_PP.png", "20051020_43832_0100_PP.png", "IM000004.JPG", "IM000005.JPG"]
    ):
        image(root / "IMAGES" / name, seed)
    csv(
        root / "messidor-2.csv",
        "left;right",
        ["20051020_43808_0100_PP.png;20051020_43832_0100_PP.png", "IM000004.JPG;IM000005.JPG"],
    )
    csv(
        root / "messidor_data.csv",
        "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable",
        [
            "20051020_43808_0100_PP.png,0,0,1",
            "20051020_43832_0100_PP.png,2,1,1",
            "IM000004.jpg,4,0,1",
            "IM000005.jpg,,,0",
        ],
    )
    return root


def chexpert(root: Path, prefix: str = "CheXpert-v1.0-small/", parts: Mapping[str, Sequence[str]] = CHEXPERT) -> Path:
    """Tables that name images below a folder that is not there."""
    for part, rows in parts.items():
        for seed, row in enumerate(rows):
            image(root / row.partition(",")[0], seed + 100 * (part == "valid"))
        csv(root / f"{part}.csv", CHEXPERT_HEADER, [prefix + row for row in rows])
    return root


def chestxray14(
    root: Path,
    header: str = CHESTXRAY_HEADER,
    table: str = "Data_Entry_2017_v2020.csv",
    lists: bool = True,
    more: Sequence[str] = (),
) -> Path:
    """Images in parts, as Kaggle packs them; `more` are rows of further training images."""
    rows = (*CHESTXRAY, *more)
    for seed, row in enumerate(rows):
        image(root / f"images_{seed % 2 + 1:03d}/images" / row.partition(",")[0], seed)
    trailing = "," if header.endswith(",") else ""
    csv(root / table, header, [row + trailing for row in rows])
    if lists:
        train = ["00000001_000.png", "00000001_001.png", "00000002_000.png", *(row.partition(",")[0] for row in more)]
        (root / "train_val_list.txt").write_text("\n".join(train))
        (root / "test_list.txt").write_text("00000003_000.png\n")
    return root


ISIC_CLASSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
PAD_HEADER = (
    "patient_id,lesion_id,smoke,drink,background_father,background_mother,age,pesticide,gender,skin_cancer_history,"
    "cancer_history,has_piped_water,has_sewage_system,fitspatrick,region,diameter_1,diameter_2,diagnostic,itch,grew,"
    "hurt,changed,bleed,elevation,img_id,biopsed"
)


def idrid(root: Path) -> Path:
    """Part B, whose two sets have images of the same names, beside part A, which has no grades."""
    base = root / "B. Disease Grading"
    for number, (letter, part, grades) in enumerate((("a", "Training", (3, 0)), ("b", "Testing", (1,)))):
        rows = [f"IDRiD_{at:03d},{grade},2,,,,,,,,," for at, grade in enumerate(grades, 1)]
        for at, _ in enumerate(grades, 1):
            image(base / f"1. Original Images/{letter}. {part} Set/IDRiD_{at:03d}.jpg", 10 * number + at)
        csv(
            base / f"2. Groundtruths/{letter}. IDRiD_Disease Grading_{part} Labels.csv",
            "Image name,Retinopathy grade,Risk of macular edema ,,,,,,,,,",
            rows,
        )
    image(root / "A. Segmentation/1. Original Images/a. Training Set/IDRiD_01.jpg", 99)
    return root


def isic2019(root: Path) -> Path:
    """Three training images, two of one lesion, and a test image of no class."""
    shown = {"ISIC_0000000": "NV", "ISIC_0000001": "NV", "ISIC_0000002": "MEL"}
    lesions = {"ISIC_0000000": "HAM_1", "ISIC_0000001": "HAM_1", "ISIC_0000002": ""}
    for seed, name in enumerate(shown):
        image(root / f"ISIC_2019_Training_Input/{name}.jpg", seed)
    image(root / "ISIC_2019_Test_Input/ISIC_0034321.jpg", 9)

    def truth(rows: Mapping[str, str]) -> list[str]:
        return [f"{name}," + ",".join(f"{own == one:.1f}" for one in ISIC_CLASSES) for name, own in rows.items()]

    header = f"image,{','.join(ISIC_CLASSES)}"
    csv(root / "ISIC_2019_Training_GroundTruth.csv", header, truth(shown))
    csv(root / "ISIC_2019_Test_GroundTruth.csv", header, truth({"ISIC_0034321": "UNK"}))
    csv(
        root / "ISIC_2019_Training_Metadata.csv",
        "image,age_approx,anatom_site_general,lesion_id,sex",
        [f"{name},55.0,anterior torso,{lesion},female" for name, lesion in lesions.items()],
    )
    return root


DDR = {
    "train": {"007-0004-000.jpg": 0, "007-0007-000.jpg": 2, "20170323093305605.jpg": 5},
    "valid": {"007-2489-100.jpg": 4},
    "test": {"007-0004-000.jpg": 1},
}


def ddr(root: Path, parts: Mapping[str, Mapping[str, int]] = DDR) -> Path:
    """The part on grading beside that on lesions; an image of train and one of test have the same name."""
    for number, (part, grades) in enumerate(parts.items()):
        for seed, name in enumerate(grades, 10 * number):
            image(root / "DR_grading" / part / name, seed)
        lines = [f"{name} {grade}" for name, grade in grades.items()]
        (root / f"DR_grading/{part}.txt").write_text("\n".join(lines) + "\n")
    image(root / "lesion_segmentation/train/image/007-1774-100.jpg", 99)
    return root


ISIC2018_CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
ISIC2018 = {
    "Training": {"ISIC_0024306": "NV", "ISIC_0024307": "NV", "ISIC_0024310": "MEL"},
    "Validation": {"ISIC_0034321": "AKIEC"},
    "Test": {"ISIC_0034524": "VASC"},
}


def isic2018(root: Path, nested: bool = False) -> Path:
    """Three training images, two of one lesion, and one each for validation and test.

    Args:
        nested: each table in the folder that its zip has.
    """
    for number, (part, shown) in enumerate(ISIC2018.items()):
        for seed, name in enumerate(shown, 10 * number):
            image(root / f"ISIC2018_Task3_{part}_Input/{name}.jpg", seed)
        table = f"ISIC2018_Task3_{part}_GroundTruth"
        rows = [f"{name}," + ",".join(f"{own == one:.1f}" for one in ISIC2018_CLASSES) for name, own in shown.items()]
        csv(root / (table if nested else "") / f"{table}.csv", f"image,{','.join(ISIC2018_CLASSES)}", rows)
    csv(
        root / "ISIC2018_Task3_Training_LesionGroupings.csv",
        "image,lesion_id,diagnosis_confirm_type",
        [
            "ISIC_0024306,HAM_0000550,serial imaging showing no change",
            "ISIC_0024307,HAM_0000550,serial imaging showing no change",
            "ISIC_0024310,HAM_0003521,histopathology",
        ],
    )
    return root


def pad_ufes20(root: Path) -> Path:
    """Two photographs in parts."""
    rows = []
    for number, own in enumerate(("BCC", "NEV")):
        name = f"PAT_15{number}_177{number}_82{number}.png"
        image(root / f"images/imgs_part_{number + 1}/imgs_part_{number + 1}/{name}", number)
        rows.append(
            f"PAT_15{number},177{number},,,,,8,,,,,,,,ARM,,,{own},FALSE,FALSE,FALSE,FALSE,FALSE,FALSE,{name},FALSE".replace(
                ",8,,,", f",{8 + 60 * number},False,FEMALE,", 1
            )
        )
    csv(root / "metadata.csv", PAD_HEADER, rows)
    return root


PUBLIC: dict[str, Callable[[Path], Path]] = {
    "aptos": aptos,
    "messidor": messidor,
    "messidor-2": messidor2,
    "idrid": idrid,
    "ddr": ddr,
    "isic-2018": isic2018,
    "isic-2019": isic2019,
    "pad-ufes-20": pad_ufes20,
    "kvasir": kvasir,
    "chexpert": chexpert,
    "chestx-ray14": chestxray14,
}
