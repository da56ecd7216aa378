"""From a job to a trainer and its data: networks, taps, losses, online teachers or their stored soft labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from infra.errors import UsageError
from infra.storage.manifest import Manifest, manifest_name
from infra.storage.store import Store
from models.augmentation.draws import ViewRecipe
from models.feature_losses.base import Shape
from models.losses.terms import Term, full_options
from models.networks.build import Built, build
from models.networks.graft import Grafted, adopt
from models.networks.taps import Taps, resolve, shapes
from models.training.objective import Objective, Setting
from models.training.online_teachers import OnlineTeacher, OnlineTeachers
from models.training.trainer import Trainer
from tasks.data.catalog import read_sample_weights
from tasks.data.corpus import Corpus
from tasks.data.soft_labels import SoftLabelReader
from tasks.data.weights import PYPI, weights_file
from tasks.distill.batches import Input, TrainData
from tasks.distill.request import DISTILL_NAME, STORED
from tasks.distill.training_job import TrainJob

if TYPE_CHECKING:
    from models.engines.engine import Network

STAGES = "stages"


@dataclass(frozen=True)
class Assembled:
    """A training that is ready to begin or to go on."""

    built: Built
    options: dict[str, Any]  # keyword arguments that rebuild the student with `models.networks.build.build`
    trainer: Trainer
    data: TrainData


def assemble(job: TrainJob, store: Store, corpus: Corpus, part: tuple[int, int] = (0, 1)) -> Assembled:
    """Build all that a training needs.

    Args:
        corpus: of the job, without its fold where it has one.
        part: (rank, ranks) of the process.

    Raises:
        UsageError: a network, its weights or a loss do not fit; the text says which.
        CorruptError: a file is not the one that the run began with.
    """
    networks = _networks(job, store)
    options = _grafted(job, networks)
    try:
        built = _student(job, options, store, len(corpus.classes))
        if isinstance(built.module, Grafted):
            adopt(built.module, _module(networks[_reused(job)], job))
        data = _data(job, store, corpus, built, networks, part)
        trainer = _trainer(job, built, networks, data, corpus)
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(f"{job.arm}: {error}") from error
    return Assembled(built, options, trainer, data)


def _networks(job: TrainJob, store: Store) -> list[Network]:
    if not job.online:
        return []
    # Stored labels need nothing of what runs teachers.
    from tasks.teachers.network import load_teacher

    return [load_teacher(teacher, teacher.weights, store) for teacher in job.online]


def _student(job: TrainJob, options: dict[str, Any], store: Store, classes: int) -> Built:
    path = weights_file(job.weights, job.model, store)
    pypi = job.weights.where == PYPI
    built = build(
        job.model,
        num_classes=classes,
        options=options,
        weights=None if pypi else path,
        pypi=pypi,
        seed=job.seed,
        size=job.input_size,
    )
    return built if job.input is None else replace(built, mean=job.input[0], std=job.input[1])


def _data(
    job: TrainJob, store: Store, corpus: Corpus, built: Built, networks: Sequence[Network], part: tuple[int, int]
) -> TrainData:
    manifests = [_manifest(store, "label", key) for key in job.labels]
    wanted = {term.teacher for term in job.terms if STORED in term.teacher_taps}
    names = [str(manifest.section["teacher"]) for manifest in manifests]
    stored = [number for number, name in enumerate(names) if wanted & {"", name}]
    return TrainData(
        corpus,
        ViewRecipe.from_values(job.views),
        int(job.views["count"]),
        SoftLabelReader(corpus, manifests) if manifests else None,
        read_sample_weights(store, _manifest(store, "select", job.select)) if job.select else {},
        seed=job.seed,
        batch=job.batch,
        size=job.input_size,
        mean=built.mean,
        std=built.std,
        sampling=job.sampling,
        targets=job.targets,
        plain=job.stage == DISTILL_NAME,
        online=[Input(network.size, network.mean, network.std) for network in networks],
        features=dict.fromkeys(stored, STORED),
        part=part,
        pin=job.device.startswith("cuda"),
    )


def _trainer(job: TrainJob, built: Built, networks: Sequence[Network], data: TrainData, corpus: Corpus) -> Trainer:
    own, theirs, terms = _taps(job, built, networks)
    names = data.teaching.teachers if data.teaching is not None else [teacher.name for teacher in job.online]
    setting = Setting(
        classes=len(corpus.classes),
        prior=data.prior,
        samples=data.samples,
        student=shapes(built.module, own, job.input_size) if own else {},
        teachers=tuple(
            [shapes(_module(network, job), taps, network.size) for network, taps in zip(networks, theirs, strict=True)]
            if networks
            else _stored_shapes(data, len(job.labels))
        ),
        names=tuple(names),
    )
    # Projectors begin as the seed says, however many random numbers were drawn before.
    torch.manual_seed(job.seed)
    objective = Objective(terms, setting)
    members = [OnlineTeacher(_module(network, job), taps) for network, taps in zip(networks, theirs, strict=True)]
    return Trainer(
        built.module,
        objective,
        job.config,
        job.device,
        taps=Taps(built.module, own) if own else None,
        teachers=OnlineTeachers(members) if members else None,
        compile=job.compile,
    )


def _taps(
    job: TrainJob, built: Built, networks: Sequence[Network]
) -> tuple[dict[str, str], list[dict[str, str]], list[Term]]:
    """Taps of student and teachers, place by name, and the terms with those names.

    Stages go by their number from the end, so that they have one name in networks that share no path.
    """
    modules = [_module(network, job) for network in networks]
    staged = any(STAGES in (*term.student_taps, *term.teacher_taps) for term in job.terms)
    stages = [resolve(module, [STAGES]) for module in (built.module, *modules)] if staged else []
    shared = min((len(paths) for paths in stages), default=0)
    names = tuple(f"{STAGES}.{number - shared}" for number in range(shared))

    def wide(taps: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for tap in taps for name in (names if tap == STAGES else (tap,)))

    def places(taps: set[str], number: int) -> dict[str, str]:
        paths = dict(zip(names, stages[number][len(stages[number]) - shared :], strict=True)) if staged else {}
        return {tap: paths.get(tap, tap) for tap in sorted(taps)}

    terms = [
        replace(term, student_taps=wide(term.student_taps), teacher_taps=wide(term.teacher_taps)) for term in job.terms
    ]
    own = places({tap for term in terms for tap in term.student_taps}, 0)
    theirs = []
    for number, teacher in enumerate(job.online):
        read = [term for term in terms if term.teacher in ("", teacher.name)]
        theirs.append(places({tap for term in read for tap in term.teacher_taps}, number + 1))
    return own, theirs, terms


def _stored_shapes(data: TrainData, teachers: int) -> list[Mapping[str, Shape]]:
    """Shapes of what every teacher stored; nothing where no loss reads it."""
    found: list[Mapping[str, Shape]] = [{} for _ in range(teachers)]
    if data.teaching is not None:
        shard, view = data.numbers[0], 1 if data.view_count else 0
        for teacher, name in data.features.items():
            found[teacher] = {name: tuple(data.teaching.features(teacher, shard, view).shape[1:])}
    return found


def _grafted(job: TrainJob, networks: Sequence[Network]) -> dict[str, Any]:
    """The student's options; with the width of the teacher's features where its classifier is used again."""
    term = next((term for term in job.terms if term.info.inside), None)
    if term is None:
        return job.options
    if len(networks) > 1 and not term.teacher:
        raise UsageError(f"student.loss: {term.loss} uses one teacher's classifier; name it as `teacher:`")
    if not networks:
        raise UsageError(f"student.loss: {term.loss} needs the teacher itself; set student.teacher: online")
    module = _module(networks[_reused(job)], job)
    width = int(getattr(module.get_classifier(), "in_features", 0))
    return {**job.options, "graft": {"width": width, **full_options(term)}}


def _reused(job: TrainJob) -> int:
    """Which teacher's classifier is used again."""
    name = next(term.teacher for term in job.terms if term.info.inside)
    return next((number for number, teacher in enumerate(job.online) if teacher.name == name), 0)


def _module(network: Network, job: TrainJob) -> Any:
    if network.module is None:
        raise UsageError(f"{job.arm}: an online teacher is a network of ours, of timm or of the registry")
    return network.module


def _manifest(store: Store, stage: str, key: str) -> Manifest:
    name = manifest_name(stage, key)
    return Manifest.from_bytes(store.get(name), name)
