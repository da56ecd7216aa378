"""The whole spec of a run, as one YAML file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from infra.cluster_spec import ClusterSection
from tasks.spec.base import Section
from tasks.spec.corpus import CorpusSection, IngestSection
from tasks.spec.learn import (
    EvaluateSection,
    RegisterSection,
    SelectSection,
    StudentSection,
    TeacherSection,
    ViewsSection,
)


class RunSection(Section):
    """`run:` how and where; never hashed, so changing it recomputes nothing."""

    cluster: ClusterSection = ClusterSection()
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where a worker offers one")
    label_batch: int = Field(32, ge=1, description="images a forward pass of a teacher")
    train_threads: int | None = Field(None, ge=1, description="CPU threads of one training; default: a fair share")
    attempts: int = Field(3, ge=1, description="tries of a shard before it counts as failed")
    retries: int = Field(2, ge=0, description="retries of a stage after a transient error")
    verify: bool = Field(False, description="re-hash cached outputs instead of trusting their size")
    retry_quarantined: bool = Field(False, description="try quarantined inputs again")


class Spec(Section):
    """One YAML file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the run and the model")
    store: str = Field(description="folder of the store")
    corpus: CorpusSection
    ingest: IngestSection = IngestSection()
    views: ViewsSection = ViewsSection()
    teachers: list[TeacherSection] = Field(min_length=1)
    select: SelectSection = SelectSection()
    student: StudentSection
    evaluate: EvaluateSection = EvaluateSection()
    register_: RegisterSection = Field(RegisterSection(), alias="register")
    run: RunSection = RunSection()

    @model_validator(mode="after")
    def _teachers_differ(self) -> Spec:
        names = [teacher.name for teacher in self.teachers]
        if len(set(names)) != len(names):
            raise ValueError(f"two teachers have the same name among {names}")
        return self
