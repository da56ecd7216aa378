"""The example consumer, in a process that has onnxruntime, numpy and Pillow and nothing else, against student.py."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus
from tasks.preprocessing.crop import FINDERS
from tasks.preprocessing.frame_mask import PRESETS
from tasks.register.model import pack, preprocessing_of
from tests.tasks.trained import trained
from tests.tiny import tiny_corpus

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
PACKAGES = ("onnxruntime", "numpy", "PIL")
NEAR = 0.2
"""Share of what the answers differ from image to image: those of an untrained network differ little."""


def example(name: str) -> ModuleType:
    """A file of the examples as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A smooth coloured field, RGB uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    small = rng.integers(70, 230, (6, 8, 3)).astype(np.uint8)
    field = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return np.clip(field + rng.normal(0, 6, field.shape), 40, 255).astype(np.uint8)


def fundus(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A disc on a black frame, with a line of text beside it."""
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (int(0.55 * width), height // 2), int(0.4 * height), 1, -1)
    found = picture(width, height, seed) * mask[..., None]
    cv2.putText(found, "OD 45", (8, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (200, 200, 200))
    return found


def endoscopy(width: int, height: int, seed: int = 0) -> np.ndarray:
    """An octagon beside a black panel with text."""
    mask = np.zeros((height, width), np.uint8)
    left, right, low, high = int(0.3 * width), int(0.97 * width), int(0.03 * height), int(0.97 * height)
    cut = int(0.12 * height)
    corners = [(left + cut, low), (right - cut, low), (right, low + cut), (right, high - cut)]
    corners += [(right - cut, high), (left + cut, high), (left, high - cut), (left, low + cut)]
    cv2.fillPoly(mask, [np.array(corners)], 1)
    found = picture(width, height, seed) * mask[..., None]
    cv2.putText(found, "12.03.", (8, 60), cv2.FONT_HERSHEY_SIMPLEX, 1, (200, 200, 200))
    return found


DRAWN: dict[str, Callable[..., np.ndarray]] = {"fundus": fundus, "endoscopy": endoscopy}


def write_images(folder: Path) -> list[Path]:
    """Files as devices and archives have them: large and small JPEG, turned by Exif, grey, PNG with alpha, tiny."""
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    images = {
        "large.jpg": Image.fromarray(picture(700, 420)),
        "fundus.jpg": Image.fromarray(fundus(640, 480)),
        "endoscopy.jpg": Image.fromarray(endoscopy(640, 520)),
        "grey.jpg": Image.fromarray(picture(230, 310, 1)).convert("L"),
        "alpha.png": Image.fromarray(np.dstack([picture(150, 180, 2), np.full((180, 150), 9, np.uint8)])),
        "tiny.png": Image.fromarray(picture(25, 20, 3)),
    }
    for name, image in images.items():
        image.save(folder / name, **({"quality": 95} if name.endswith("jpg") else {}))
    Image.fromarray(picture(500, 300, 4)).save(folder / "turned.jpg", quality=95, exif=turned)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three packages, their libraries, and the examples."""
    folder = tmp_path_factory.mktemp("packages")
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        place = Path(spec.origin).parent
        (folder / name).symlink_to(place)
        for libraries in place.parent.glob(f"{'pillow' if name == 'PIL' else name}.libs"):
            (folder / libraries.name).symlink_to(libraries)
    for path in EXAMPLES.glob("*.py"):
        (folder / path.name).symlink_to(path)
    return folder


def consume(packages: Path, model: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    """Run the consumer where nothing else can be imported."""
    code = f"import sys; sys.path.append({str(packages)!r}); import consumer; consumer.main(*sys.argv[1:])"
    command = [sys.executable, "-I", "-S", "-c", code, str(model), *map(str, files)]
    return subprocess.run(command, cwd=packages, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Any]:
    """A corpus and its student."""
    corpus = tiny_corpus(LocalStore(tmp_path_factory.mktemp("consumer") / "store"), size=70)
    return corpus, trained(corpus, "taught", view_size=96, input_size=80)


RECIPES: dict[str, dict[str, Any]] = {
    "as it is": {"encode": "png", "size": None},
    "crop fundus": {"encode": "jpeg", "size": 96, "crop": "fundus"},
    "crop endoscopy": {"encode": "jpeg", "size": 96, "crop": "endoscopy"},
    "mask": {"encode": "jpeg", "size": 96, "mask": PRESETS["hyper-kvasir"]},
}


@pytest.fixture(scope="module")
def models(line: tuple[Corpus, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Packed models by the recipe that their images went through; all have the same network."""
    from mlflow.models import Model

    corpus, student = line
    found, folder = {}, tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_MLFLOW_URI", f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/m.db")
        packed = pack(corpus, student, folder, Model())
    for name, how in RECIPES.items():
        section = {"ingest": {**corpus.manifest.section["ingest"], "quality": 92, **how}}
        document = preprocessing_of(corpus.manifest.model_copy(update={"section": section}), student.facts).document()
        found[name] = folder / name
        shutil.copytree(packed, found[name])
        (found[name] / "artifacts/preprocessing.json").write_text(json.dumps(document))
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_answers_as_the_registered_student(
    recipe: str, models: dict[str, Path], packages: Path, tmp_path: Path
) -> None:
    import mlflow.pyfunc

    files = write_images(tmp_path / "images")
    done = consume(packages, models[recipe], *files)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row.pop("file") for row in rows] == [str(path) for path in files]
    student = mlflow.pyfunc.load_model(str(models[recipe]))
    expected = student.unwrap_python_model().probabilities_of([path.read_bytes() for path in files])
    found = np.array([[row[f"class-{number}"] for number in range(3)] for row in rows])
    assert np.abs(found - expected).max() <= NEAR * np.ptp(expected, axis=0).max()


def test_only_three_packages_are_there(packages: Path) -> None:
    code = f"import sys; sys.path.append({str(packages)!r}); import consumer, crop; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, cwd=packages
    )
    roots = {name.partition(".")[0] for name in done.stdout.split()}
    assert set(PACKAGES) <= roots
    assert not roots & {"cv2", "torch", "mlflow", "pandas", "onnx", "scipy"}


def test_a_step_that_it_does_not_know_is_named(models: dict[str, Path], packages: Path, tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes((models["as it is"] / "artifacts/network.onnx").read_bytes())
    (tmp_path / "about.json").write_bytes((models["as it is"] / "artifacts/about.json").read_bytes())
    (tmp_path / "preprocessing.json").write_text(json.dumps({"steps": [{"do": "whiten"}]}))
    done = consume(packages, tmp_path)
    assert done.returncode == 1
    assert f"does not do the step 'whiten' of preprocessing.json; student.py in {tmp_path} does" in done.stderr


def test_deep_samples_are_left_to_the_student(models: dict[str, Path], packages: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((90, 90), 4000, np.uint16))
    done = consume(packages, models["as it is"], tmp_path / "deep.png")
    assert done.returncode == 1
    assert "its samples have more than 8 bits; the step 'decode' of those is done by student.py" in done.stderr


def test_shrinking_is_opencvs_within_a_level() -> None:
    area, rng = example("consumer").area, np.random.default_rng(0)
    for _ in range(40):
        height, width = rng.integers(30, 300, 2)
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        new_height, new_width = int(rng.integers(8, height + 1)), int(rng.integers(8, width + 1))
        expected = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_AREA)
        assert np.abs(area(image, new_height, new_width).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", DRAWN)
def test_the_crop_is_that_of_ingestion(kind: str) -> None:
    find, area = example("crop").find, example("consumer").area
    for seed in range(4):
        image = DRAWN[kind](400 + 60 * seed, 360, seed)
        box = FINDERS[kind](np.ascontiguousarray(image[..., ::-1]))
        assert box is not None
        assert find(image, kind, area) == pytest.approx((box.left, box.top, box.right, box.bottom))
        assert find(picture(400, 360, seed), kind, area) is None


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "recipe"),
    [
        ("imo-fundus", "crop fundus"),
        ("hyper-kvasir", "mask"),
        ("hyper-kvasir", "crop endoscopy"),
        ("chestx-ray14", "as it is"),
    ],
)
def test_real_photographs_are_prepared_as_by_ingestion(
    folder: str, recipe: str, models: dict[str, Path], packages: Path, real_data: Path, tmp_path: Path
) -> None:
    import mlflow.pyfunc

    files = sorted(path for path in (real_data / folder).rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    files = files[:: max(1, len(files) // 5)][:5]
    done = consume(packages, models[recipe], *files)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    found = np.array([[row[f"class-{number}"] for number in range(3)] for row in rows])
    student = mlflow.pyfunc.load_model(str(models[recipe]))
    expected = student.unwrap_python_model().probabilities_of([path.read_bytes() for path in files])
    assert np.abs(found - expected).max() <= NEAR * np.ptp(expected, axis=0).max()
