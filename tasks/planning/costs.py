"""Bytes and minutes of each stage, from counts and a few seconds of measuring on this machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from infra.compute.cluster import cores
from models.augmentation.draws import Recipe
from models.engines.network import Network
from models.networks.build import Built
from tasks.data.corpus import Corpus
from tasks.distill.request import DISTILL, TEACH, steps_of, terms_of
from tasks.label.costs import Asked
from tasks.planning.counts import Numbers
from tasks.planning.dry_run import CACHED, PARTLY, State
from tasks.planning.measurements import forward_seconds, step_seconds, view_seconds
from tasks.planning.networks import input_side
from tasks.planning.teacher_rates import answer_seconds, feature_shape, plain_views
from tasks.spec import ModelSection, Spec, TeacherSection, TrainSection

START = 25.0  # seconds: Prefect's API, workers, their imports
PLOTS = 15.0  # seconds: baselines, intervals and plots of a report
REGISTER = 25.0  # seconds: packing the student and MLflow


@dataclass(frozen=True)
class Machine:
    """Who would do the work."""

    cores: int
    slots: int  # tasks at once
    device: str  # cpu or cuda
    elsewhere: str | None  # a scheduler's address: the measuring is still done here

    @classmethod
    def of(cls, spec: Spec) -> Machine:
        """The machine that a run of the spec on this host would use."""
        section = spec.run.cluster
        device = "cuda" if spec.run.device != "cpu" and torch.cuda.is_available() else "cpu"
        slots = (section.workers or cores()) * (section.threads or 1)
        return cls(cores(), slots, device, section.address)

    @property
    def at_once(self) -> int:
        """Networks that run side by side."""
        return torch.cuda.device_count() if self.device == "cuda" else self.slots


@dataclass
class Costs:
    """Seconds by stage, rates worth telling, and the teachers as far as labelling costs go."""

    seconds: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    teachers: list[Asked] = field(default_factory=list)


def costs_of(
    spec: Spec,
    numbers: Numbers,
    states: Mapping[str, State],
    built: Mapping[str, Built],
    corpus: Corpus,
    machine: Machine,
) -> Costs:
    """Seconds of every stage that is not cached; measures only what some of them needs."""
    return _Estimate(spec, numbers, states, built, corpus, machine).run()


class _Estimate:
    def __init__(
        self,
        spec: Spec,
        numbers: Numbers,
        states: Mapping[str, State],
        built: Mapping[str, Built],
        corpus: Corpus,
        machine: Machine,
    ) -> None:
        self.spec, self.numbers, self.states, self.built = spec, numbers, states, built
        self.corpus, self.machine = corpus, machine
        self.costs = Costs()
        self.open = [title for title, state in states.items() if state.state != CACHED]
        self.recipe = Recipe.from_values(spec.views.resolved(corpus.modality).model_dump())
        self.view = view_seconds(numbers.sample.images, self.recipe) if self.open else 0.0

    def run(self) -> Costs:
        seconds, rates = self.costs.seconds, self.costs.rates
        sample = self.numbers.sample
        rates["ingest_images_per_second"] = self.machine.slots / max(1e-9, sample.image_seconds)
        if "ingest" in self.open:
            seconds["ingest"] = START + self.numbers.images / rates["ingest_images_per_second"]
        elif self.open:
            seconds["start"] = START
        in_split = self.numbers.in_split
        judged = in_split["val"] + in_split["test"]
        passes = 0.0
        for teacher in self.spec.teachers:
            self._label(teacher)
            if teacher.train:
                self._teach(teacher, teacher.train)
                if "evaluate" in self.open:
                    passes += judged * self._forward(teacher, teacher.name)
        passes += self._students()
        if "select" in self.open:
            seconds["select"] = 2.0
        if "evaluate" in self.open:
            seconds["evaluate"] = PLOTS + passes
        if "register" in self.open:
            seconds["register"] = REGISTER
        return self.costs

    def _label(self, teacher: TeacherSection) -> None:
        """Fills in what a teacher's labelling takes; of kinds that are no network only the bytes are known."""
        own, state = self.numbers.in_split, self.states[f"label {teacher.name}"]
        features: tuple[int, ...] = ()
        rate = None
        if teacher.name in self.built:
            built = self.built[teacher.name]
            network = Network(
                size=input_side(teacher, self.spec),
                mean=teacher.mean or built.mean,
                std=teacher.std or built.std,
                num_classes=len(self.corpus.classes),
                module=built.module,
                features=teacher.features,
            )
            features = feature_shape(network) if network.features else ()
            if state.state != CACHED:
                answers = own["train"] * (1 + self.spec.for_labels.views.count) + own["val"] + own["test"]
                rate = self._rate(network, answers)
                left = 1 - state.done / state.total if state.state == PARTLY and state.total else 1.0
                self.costs.seconds[f"label {teacher.name}"] = left * answers / rate
                self.costs.rates[f"{teacher.name}_label_images_per_second"] = rate
        self.costs.teachers.append(Asked(teacher.name, len(self.corpus.classes), features, rate))

    def _rate(self, network: Network, answers: int) -> float:
        """Views of images rendered and answered in a second, all workers together."""
        machine, how = self.machine, self.spec.run.label
        threads = how.threads or max(1, machine.cores // machine.slots)
        images = plain_views(self.numbers.sample.images, self.recipe, network.size)
        each = answer_seconds(network, images, how, answers, threads=threads, device=machine.device)
        return 1 / self._beside_rendering(each)

    def _forward(self, section: ModelSection, name: str) -> float:
        """Seconds an image of rendering and asking, all workers together."""
        machine = self.machine
        threads = max(1, machine.cores // machine.slots)
        batch = self.spec.run.predict_batch
        each = forward_seconds(
            self.built[name].module, input_side(section, self.spec), batch, threads=threads, device=machine.device
        )
        return self._beside_rendering(each)

    def _beside_rendering(self, each: float) -> float:
        """Seconds an image of all workers together, where one pass takes `each` seconds an image."""
        machine = self.machine
        # Views are rendered by threads beside the network on a GPU, and in its time on a CPU.
        if machine.device == "cuda":
            return max(each / machine.at_once, self.view / machine.cores)
        return (each + self.view) / machine.slots

    def _teach(self, teacher: TeacherSection, train: TrainSection) -> None:
        """Fills in the seconds of a teacher's trainings: the whole one's, and those without a fold."""
        whole = f"teach {teacher.name}"
        titles = [title for title in self.open if title == whole or title.startswith(f"{whole} without fold ")]
        if not titles:
            return
        beside = sum(1 + (t.folds or 0) for t in self.spec.teachers if t.train is not None)
        labelled = self.numbers.labelled_train
        at_once = min(beside, self.machine.at_once)
        step_of = {}
        for title in titles:
            seen = labelled if title == whole else labelled * ((teacher.folds or 2) - 1) // (teacher.folds or 2)
            steps = steps_of(train, seen)
            if steps not in step_of:
                step_of[steps] = self._training(teacher, teacher.name, TEACH, train, steps, beside)
            self.costs.seconds[title] = step_of[steps] / at_once

    def _students(self) -> float:
        """Fills in the students' seconds; returns those of judging them."""
        titles = [title for title in self.states if title.startswith("distill ")]
        left = [title for title in titles if title in self.open]
        student, judged = self.spec.student, self.numbers.in_split["val"] + self.numbers.in_split["test"]
        if not left:
            return 0.0
        steps = steps_of(student.train, self.numbers.in_split["train"])
        one = self._training(student, "", DISTILL, student.train, steps, len(titles))
        at_once = max(1, min(len(titles), self.machine.at_once))
        for title in left:
            self.costs.seconds[title] = one * math.ceil(len(left) / at_once) / len(left)
        return judged * len(titles) * self._forward(student, "")

    def _training(
        self, section: ModelSection, name: str, stage: str, train: TrainSection, steps: int, beside: int
    ) -> float:
        machine, spec = self.machine, self.spec
        threads = spec.run.train.threads or max(1, machine.cores // max(1, min(beside, machine.slots)))
        losses = spec.student.loss if stage == DISTILL else None
        # What a loss on features costs is small beside the network, and the teacher's maps are not at hand here.
        terms = [t for t in terms_of(self.corpus, losses, train, taught=stage == DISTILL) if t.info.default_tap == ""]
        step = step_seconds(
            self.built[name],
            terms,
            train,
            input_side(section, spec),
            classes=len(self.corpus.classes),
            teachers=len(spec.teachers) if any(t.needs_teacher for t in terms) else 0,
            threads=threads,
            device=machine.device,
        )
        self.costs.rates[f"{name or 'student'}_step_seconds"] = step
        if stage == DISTILL and spec.student.teacher == "online":
            step += train.batch * sum(self._forward(t, t.name) for t in spec.teachers if t.name in self.built)
        loading = train.batch * self.view
        # Batches are made by a thread of their own, which needs a core of its own to be beside the steps.
        free = machine.cores > min(beside, machine.slots) or machine.device == "cuda"
        each = max(step, loading) if free else step + loading
        judging = train.validations * self.numbers.in_split["val"] * (self.view + step / train.batch / 3)
        return steps * each + judging
