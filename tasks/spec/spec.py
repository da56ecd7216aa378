"""The whole spec of a run, as one YAML file."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from tasks.spec.arms import LABELS_ONLY, TAUGHT
from tasks.spec.base import Section
from tasks.spec.corpora import CorpusEntry, check_corpora, combined_title
from tasks.spec.corpus import CorpusSection, IngestSection
from tasks.spec.drift import DriftSection
from tasks.spec.gate import GateSection
from tasks.spec.labels import LabelsSection
from tasks.spec.learn import EvaluateSection, RegisterSection, StudentSection
from tasks.spec.retrain import RetrainSection
from tasks.spec.run import RunSection
from tasks.spec.select import SelectSection
from tasks.spec.study import StudySection
from tasks.spec.teacher import TeacherSection
from tasks.spec.views import ViewsSection


class Spec(Section):
    """One YAML file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the run and the model")
    store: str = Field(description="folder of the store")
    corpus: CorpusSection | None = None
    corpora: list[CorpusEntry] | None = Field(
        None, description="in place of corpus: several that form one training set, such as two hospitals'"
    )
    ingest: IngestSection = IngestSection()
    labels: LabelsSection | None = Field(None, description="fewer training labels than there are; null: all")
    views: ViewsSection = ViewsSection()
    teachers: list[TeacherSection] = Field(min_length=1)
    select: SelectSection = SelectSection()
    student: StudentSection
    evaluate: EvaluateSection = EvaluateSection()
    drift: DriftSection = DriftSection()
    gate: GateSection = GateSection()
    register_: RegisterSection = Field(RegisterSection(), alias="register")
    study: StudySection | None = Field(None, description="what `stillroom study` varies; a run of the line ignores it")
    retrain: RetrainSection = RetrainSection()
    run: RunSection = RunSection()

    @field_validator("teachers")
    @classmethod
    def _members(cls, given: list[TeacherSection]) -> list[TeacherSection]:
        """Each member of an ensemble as a teacher of its own."""
        return [member for teacher in given for member in teacher.each()]

    @property
    def each_corpus(self) -> list[CorpusSection]:
        """The corpora of the run, in order; one where `corpus` names it."""
        return [self.corpus] if self.corpus is not None else list(self.corpora or [])

    @property
    def entries(self) -> list[CorpusEntry]:
        """What `corpora` lists; empty where there is one `corpus`."""
        return self.corpora or []

    def ingest_of(self, number: int) -> IngestSection:
        """How the images of a corpus are stored; its number is its place in `each_corpus`."""
        own = self.entries[number].ingest if self.entries else None
        return own or self.ingest

    @property
    def corpus_title(self) -> str:
        """Name in the store of what is trained on."""
        return self.corpus.title if self.corpus is not None else combined_title(self.entries)

    @property
    def private(self) -> bool:
        """Whether a corpus of the run is private: then nothing that is told of the run names an image."""
        return any(corpus.private for corpus in self.each_corpus)

    @property
    def arms(self) -> list[str]:
        """Arms of the run's students, in the order of the line."""
        return [TAUGHT, *([LABELS_ONLY] if self.evaluate.compare else []), *self.student.arms]

    @property
    def for_labels(self) -> Spec:
        """The spec as labelling reads it: where teachers see each batch, no views are stored but those of `select`."""
        if any(student.teacher == "stored" for student in (self.student, *self.student.arms.values())):
            return self
        return self.model_copy(update={"views": self.views.model_copy(update={"count": self.select.views})})

    @property
    def val_views(self) -> int:
        """Random views of validation images that are labelled: those that `select` averages and calibrates."""
        # Mixed ones are of no use to it.
        return min(self.select.views, self.for_labels.views.count) if self.views.mix == "none" else 0

    @model_validator(mode="after")
    def _one_or_several(self) -> Spec:
        if (self.corpus is None) == (self.corpora is None):
            raise ValueError("give corpus, or corpora for several, and not both")
        if self.corpora is not None:
            check_corpora(self.corpora)
        return self

    @model_validator(mode="after")
    def _teachers_have_names(self) -> Spec:
        names = [teacher.name for teacher in self.teachers]
        if len(set(names)) != len(names):
            raise ValueError(f"two teachers have the same name among {names}")
        for teacher in self.teachers:
            if teacher.whole != teacher.name and teacher.whole in names:
                raise ValueError(f"teacher {teacher.whole} and the members of another have one name; rename one")
        students = [self.student, *self.student.arms.values()]
        losses = [student.loss for student in students]
        losses += [phase.loss for student in students for phase in student.phases or []]
        for term in (term for terms in losses for term in terms or []):
            if term.teacher not in (None, *names):
                raise ValueError(
                    f"student.loss: {term.loss} reads teacher {term.teacher}; there are {', '.join(names)}"
                )
        return self

    @model_validator(mode="after")
    def _starts_are_trained(self) -> Spec:
        trained = {teacher.name: teacher for teacher in self.teachers if teacher.train is not None}
        for student in (self.student, *self.student.arms.values()):
            name = student.starts_from
            if name is None:
                continue
            if student.start == "champion":
                raise ValueError(
                    f"student.start: champion and student.weights: teacher:{name} are two starts; keep one"
                )
            if name not in trained:
                raise ValueError(
                    f"student.weights: no teacher {name!r} is trained here; there are {', '.join(trained) or 'none'}"
                )
            if trained[name].model != student.model:
                raise ValueError(
                    f"student.weights: teacher {name} is a {trained[name].model}, and the student a {student.model}; "
                    "take the same model, and `cut` what is too large of it"
                )
        return self

    @model_validator(mode="after")
    def _targets_have_views(self) -> Spec:
        for student in (self.student, *self.student.arms.values()):
            if student.targets == "view":
                continue
            if student.teacher != "stored":
                raise ValueError("student.targets: mean is over stored views; set student.teacher: stored")
            if self.views.mix != "none" and self.views.count:
                raise ValueError(
                    f"student.targets: mean is over views of one image, and views.mix: {self.views.mix} mixes two; set "
                    "views.mix: none, or targets: view"
                )
        return self

    @model_validator(mode="after")
    def _folds_are_apart(self) -> Spec:
        if self.labels is not None and self.labels.folds is not None and self.views.mix != "none":
            raise ValueError(
                f"labels.folds: views.mix: {self.views.mix} mixes two images of one shard, which may be of two folds; "
                "set views.mix: none"
            )
        return self

    @model_validator(mode="after")
    def _compares_what_it_requires(self) -> Spec:
        asking = [teacher.name for teacher in self.teachers if teacher.require_better]
        if asking and not self.evaluate.compare:
            raise ValueError(
                f"teacher {asking[0]}: require_better compares with the student on labels alone; set evaluate.compare"
            )
        clearly = [teacher.name for teacher in self.teachers if teacher.require_better == "clearly"]
        if clearly and not self.evaluate.bootstrap:
            raise ValueError(
                f"teacher {clearly[0]}: require_better: clearly goes by an interval; set evaluate.bootstrap above 0"
            )
        return self
