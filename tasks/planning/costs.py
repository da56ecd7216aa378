"""Minutes of each stage, from counts and rates: those of earlier runs on this machine, else measured for seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from infra.digest import canonical_json
from infra.machine import machine_kind
from models.augmentation.draws import ViewRecipe
from models.engines.engine import Network
from models.losses.terms import Term, to_plain
from models.networks.build import Built
from tasks.data.corpus import Corpus
from tasks.distill.request import precision_on, steps_of, terms_of
from tasks.distill.stage import steps_of_arm, students_at_once
from tasks.label.costs import LabelRate
from tasks.pipeline.graph import Step
from tasks.pipeline.rates import INGEST, LABEL, STEP, ingest_details, label_details, remembered_rate, step_details
from tasks.planning.corpus_counts import CorpusCounts
from tasks.planning.dry_run import CACHED, PARTLY, StepState
from tasks.planning.engine_rate import chosen_engine_rate
from tasks.planning.machine import Machine
from tasks.planning.measurements import forward_seconds, step_seconds, view_seconds
from tasks.planning.network_check import input_side, network_of
from tasks.planning.networks import check_engine, feature_shape
from tasks.planning.predictions import predictions
from tasks.spec import ModelSection, Spec, TeacherSection, TrainSection
from tasks.spec.arms import LABELS_ONLY, TAUGHT

START = 25.0  # seconds: Prefect's API, workers, their imports
HASHING = 0.9  # of the time to store an image: to read it for its hash alone; measured 0.80 to 0.96
PLOTS = 15.0  # seconds: baselines, intervals and plots of a report
COMPARE = 1.0  # seconds: intervals of the teachers beside the student on labels alone; 0.5 for 400 images, 9 models
SELECT = 2.0  # seconds: reading the soft labels
EXPORT = 20.0  # seconds: three files, their answers on test images, and passes of each in each runtime
DRIFT = 2.0  # seconds: 999 permutations of two times 400 images
GATE = 1.0  # seconds: resamples of one figure
PAGE = 2.0  # seconds: curves and a dozen small pictures
REGISTER = 25.0  # seconds: packing the student and MLflow
BATCH = 8  # images a forward pass of a teacher, where the spec names none


@dataclass
class PlanCosts:
    """Seconds by stage, the rates that they rest on, and what the costs of labelling depend on.

    `steps` are those of trainings that are not cached, `remembered` names the rates of earlier runs, `reference` the
    teachers whose rate is that of the reference engine.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    teachers: list[LabelRate] = field(default_factory=list)
    remembered: list[str] = field(default_factory=list)
    reference: list[str] = field(default_factory=list)


def estimate_costs(
    spec: Spec,
    counts: CorpusCounts,
    steps: Sequence[Step],
    states: Mapping[str, StepState],
    built: Mapping[str, Built],
    teacher_ids: Mapping[str, str],
    corpus: Corpus,
    machine: Machine,
) -> PlanCosts:
    """Seconds of every stage that is not cached; measures only what one of them needs and no earlier run did.

    Args:
        steps: of the line; see `flows/line.py`.
        states: of each step, by its title.
        built, teacher_ids: from `build_networks`.

    Raises:
        UsageError: the engine asked for cannot run a teacher, or a teacher has no such features.
    """
    return _Estimate(spec, counts, steps, states, built, teacher_ids, corpus, machine).run()


class _Estimate:
    def __init__(
        self,
        spec: Spec,
        counts: CorpusCounts,
        steps: Sequence[Step],
        states: Mapping[str, StepState],
        built: Mapping[str, Built],
        teacher_ids: Mapping[str, str],
        corpus: Corpus,
        machine: Machine,
    ) -> None:
        self.spec, self.counts, self.states, self.built = spec, counts, states, built
        self.teacher_ids, self.corpus, self.machine = teacher_ids, corpus, machine
        self.costs = PlanCosts()
        self._known: dict[bytes, float] = {}
        self.steps = steps
        self.open = [step for step in steps if states[step.title].state != CACHED]
        self.recipe = ViewRecipe.from_values(spec.views.resolved(corpus.modality).model_dump())
        self.view = view_seconds(counts.sample.images, self.recipe) if self.open else 0.0

    def run(self) -> PlanCosts:
        seconds, rates = self.costs.seconds, self.costs.rates
        if self.open:
            seconds["start"] = START
        for step, part in zip((s for s in self.steps if s.stage.name == "ingest"), self.counts.each, strict=True):
            details = ingest_details(str(part.facts["corpus"]), asdict(part.recipe), workers=self.machine.slots)
            known = self._remembered(INGEST, details, "ingest")
            name = f"{step.title}_images_per_second".replace(" ", "_")
            rates[name] = known or self.machine.slots / max(1e-9, part.sample.image_seconds)
            if self.states[step.title].state != CACHED:
                seconds[step.title] = seconds.pop("start", 0.0) + (part.images + HASHING * part.to_hash) / rates[name]
        for teacher in self.spec.teachers:
            self._label(teacher)
            if teacher.train:
                self._teach(teacher, teacher.train)
        self._students()
        self._judge()
        fixed = {"select": SELECT, "export": EXPORT, "drift": DRIFT, "gate": GATE, "report": PAGE, "register": REGISTER}
        for stage, known_seconds in fixed.items():
            seconds.update({step.title: known_seconds for step in self._open(stage)})
        return self.costs

    def _judge(self) -> None:
        """Add the seconds of comparing the teachers and of the report: each predicts what the other does not."""
        checks, reports = self._open("compare"), self._open("evaluate")
        if not checks and not reports:
            return
        compares = any(step.stage.name == "compare" for step in self.steps)
        check = report = 0.0
        for each in predictions(self.spec, self.counts.in_split, compares=compares):
            if reports or each.check:
                seconds = self._forward(each.section, each.name)
                check, report = check + seconds * each.check, report + seconds * each.report
        self.costs.seconds.update({step.title: COMPARE + self._left(step) * check for step in checks})
        self.costs.seconds.update({step.title: PLOTS + self._left(step) * report for step in reports})

    def _left(self, step: Step) -> float:
        """Share of a step's units that are still to be made."""
        state = self.states[step.title]
        return 1 - state.done / state.total if state.state == PARTLY and state.total else 1.0

    def _open(self, stage: str, **parameters: Any) -> list[Step]:
        """Steps of a stage that are not cached."""
        mine = [step for step in self.open if step.stage.name == stage]
        return [step for step in mine if parameters.items() <= step.parameters.items()]

    def _remembered(self, kind: str, details: Mapping[str, Any], title: str) -> float | None:
        known = remembered_rate(kind, details)
        if known is not None:
            self.costs.remembered.append(title)
        return known

    def _label(self, teacher: TeacherSection) -> None:
        """Add the costs of a teacher's labelling; of teachers that are no networks only the bytes are known."""
        own = self.counts.in_split
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
            for step in self._open("label", teacher=teacher.name):
                answers = own["train"] * (1 + self.spec.for_labels.views.count) + own["test"]
                answers += own["val"] * (1 + self.spec.val_views)
                rate = self._label_rate(teacher, network)
                self.costs.seconds[step.title] = self._left(step) * answers / rate
                self.costs.rates[f"{teacher.name}_label_images_per_second"] = rate
        self.costs.teachers.append(LabelRate(teacher.name, len(self.corpus.classes), features, rate))

    def _label_rate(self, teacher: TeacherSection, network: Network) -> float:
        """Views of images that all workers together render and label in a second."""
        machine, how = self.machine, self.spec.run.label
        threads = how.threads or max(1, machine.cores // machine.slots)
        check_engine(network, how, device=machine.device, threads=threads)
        details = label_details(
            teacher.model,
            teacher.build_options,
            size=network.size,
            classes=network.num_classes,
            features=teacher.features,
            engine=how.engine,
            precision=how.precision,
            batch=how.batch,
            device=machine.device,
            threads=threads,
        )
        title = f"labels of {teacher.name}"
        known = self._remembered(LABEL, details, title)
        if known is None and teacher.name in self.teacher_ids:
            kind = machine_kind(machine.device, threads)
            known = chosen_engine_rate(self.corpus.store, self.teacher_ids[teacher.name], how, kind)
            self.costs.remembered += [title] if known is not None else []
        if known is not None:
            return 1 / self._with_rendering(1 / known)
        self.costs.reference.append(teacher.name)
        module, batch = self.built[teacher.name].module, how.batch or BATCH
        each = forward_seconds(module, network.size, batch, threads=threads, device=machine.device, seconds=1)
        module.cpu()
        return 1 / self._with_rendering(each)

    def _forward(self, section: ModelSection, name: str) -> float:
        """Seconds an image of rendering and prediction, all workers together."""
        machine = self.machine
        threads = max(1, machine.cores // machine.slots)
        batch = self.spec.run.predict_batch
        each = forward_seconds(
            self.built[name].module, input_side(section, self.spec), batch, threads=threads, device=machine.device
        )
        return self._with_rendering(each)

    def _with_rendering(self, each: float) -> float:
        """Seconds an image of all workers together, where a forward pass takes `each` seconds an image."""
        machine = self.machine
        # On a GPU views are rendered while the network runs; on a CPU both take turns.
        if machine.device == "cuda":
            return max(each / machine.at_once, self.view / machine.cores)
        return (each + self.view) / machine.slots

    def _teach(self, teacher: TeacherSection, train: TrainSection) -> None:
        """Add the seconds of a teacher's trainings: on all labels, and without each fold."""
        beside = sum(step.stage.name == "teach" for step in self.steps)
        labelled, folds = self.counts.labelled_train, teacher.folds or 2
        at_once = min(beside, self.machine.at_once)
        step_of: dict[int, float] = {}
        for step in self._open("teach", teacher=teacher.name):
            steps = steps_of(train, labelled if step.parameters["fold"] is None else labelled * (folds - 1) // folds)
            if steps not in step_of:
                terms = terms_of(self.corpus, None, train, taught=False)
                step_of[steps] = self._training(teacher, teacher.name, train, terms, steps, beside, title=teacher.name)
            self.costs.steps[step.title] = steps
            self.costs.seconds[step.title] = step_of[steps] / at_once

    def _students(self) -> None:
        """Add the seconds of the students' trainings."""
        count, left = sum(step.stage.name == "distill" for step in self.steps), self._open("distill")
        at_once = max(1, min(count, self.machine.at_once))
        for step in left:
            arm, phase = step.parameters["arm"], step.parameters["phase"]
            self.costs.steps[step.title] = self._steps(arm, phase)
            self.costs.seconds[step.title] = self._student(arm, phase) * math.ceil(len(left) / at_once) / len(left)

    def _steps(self, arm: str, phase: str) -> int:
        return steps_of_arm(self.spec, arm, phase, self.counts.in_split["train"], self.counts.labelled_train)

    def _student(self, arm: str, phase: str) -> float:
        """Seconds of one student's training, beside those that run at the same time."""
        spec, steps = self.spec, self._steps(arm, phase)
        if arm == LABELS_ONLY:
            # Without its teachers a step costs about as much; what is known of the taught student's is taken.
            arm, phase = TAUGHT, spec.student.phases[-1].name if spec.student.phases else ""
        beside = students_at_once(spec, arm)
        student = spec.student.of(arm).of_phase(phase)
        terms = terms_of(self.corpus, student.loss, student.train, taught=True, labels=student.labels)
        facts = (network_of(arm), steps, [to_plain(term) for term in terms], student.train.identity(), student.teacher)
        key = canonical_json(list(facts))
        if key not in self._known:
            online = student.teacher == "online" and any(term.needs_teacher for term in terms)
            self._known[key] = self._training(
                student, network_of(arm), student.train, terms, steps, beside, online=online, title="the student"
            )
        return self._known[key]

    def _training(
        self,
        section: ModelSection,
        name: str,
        train: TrainSection,
        every: Sequence[Term],
        steps: int,
        beside: int,
        *,
        title: str,
        online: bool = False,
    ) -> float:
        machine, spec = self.machine, self.spec
        threads = spec.run.train.threads or max(1, machine.cores // max(1, min(beside, machine.slots)))
        # A loss on features costs little compared with the network, and the teacher's features are not available here.
        terms = [term for term in every if term.info.default_tap == ""]
        details = step_details(
            section.model,
            section.build_options,
            size=input_side(section, spec),
            classes=len(self.corpus.classes),
            batch=train.batch,
            losses=[term.loss for term in every],
            precision=precision_on(train, machine.device),
            online=len(spec.teachers) if online else 0,
            device=machine.device,
            threads=threads,
        )
        known = self._remembered(STEP, details, f"training steps of {title}")
        step = known or self._step(section, name, train, terms, threads)
        # A rate of an earlier run has the loading in it.
        each = known or self._with_loading(step, train, beside, online=online)
        # Of several trainings of the student the slowest is told.
        rate = f"{name.partition(':')[0] or 'student'}_step_seconds"
        self.costs.rates[rate] = max(step, self.costs.rates.get(rate, 0.0))
        judging = train.validations * self.counts.in_split["val"] * (self.view + step / train.batch / 3)
        return steps * each + judging

    def _step(
        self, section: ModelSection, name: str, train: TrainSection, terms: Sequence[Term], threads: int
    ) -> float:
        spec = self.spec
        return step_seconds(
            self.built[name],
            terms,
            train,
            input_side(section, spec),
            classes=len(self.corpus.classes),
            teachers=[teacher.name for teacher in spec.teachers] if any(t.needs_teacher for t in terms) else [],
            threads=threads,
            device=self.machine.device,
        )

    def _with_loading(self, step: float, train: TrainSection, beside: int, *, online: bool) -> float:
        """Seconds from one step to the next, where teachers see each batch and images are loaded too."""
        machine, spec = self.machine, self.spec
        if online:
            step += train.batch * sum(self._forward(t, t.name) for t in spec.teachers if t.name in self.built)
        loading = train.batch * self.view
        # Batches are made by a separate thread, which needs a core of its own to run during the steps.
        free = machine.cores > min(beside, machine.slots) or machine.device == "cuda"
        return max(step, loading) if free else step + loading
