"""The spec: one YAML file that says what to make; `run:` alone says how and where."""

from tasks.spec.corpus import CorpusSection, IngestSection, PhantomSection, SplitSection, TableSection
from tasks.spec.learn import (
    EvaluateSection,
    LossTerm,
    ModelSection,
    RegisterSection,
    SelectSection,
    StudentSection,
    TeacherSection,
    TrainSection,
    ViewsSection,
)
from tasks.spec.load import load_spec, parse_spec
from tasks.spec.spec import RunSection, Spec

__all__ = [
    "CorpusSection",
    "EvaluateSection",
    "IngestSection",
    "LossTerm",
    "ModelSection",
    "PhantomSection",
    "RegisterSection",
    "RunSection",
    "SelectSection",
    "Spec",
    "SplitSection",
    "StudentSection",
    "TableSection",
    "TeacherSection",
    "TrainSection",
    "ViewsSection",
    "load_spec",
    "parse_spec",
]
