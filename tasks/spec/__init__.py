"""The spec: one YAML file that says what to make; `run:` alone says how and where."""

from tasks.spec.corpora import CorpusEntry
from tasks.spec.corpus import (
    CheXpertSection,
    CorpusSection,
    FolderSection,
    IngestSection,
    PhantomSection,
    RangeSection,
    SplitSection,
    TableSection,
)
from tasks.spec.gate import GateSection
from tasks.spec.learn import EvaluateSection, LossTerm, RegisterSection, StudentSection
from tasks.spec.load import load_spec, parse_spec
from tasks.spec.run import LabelRunSection, RunSection
from tasks.spec.select import SelectSection
from tasks.spec.spec import Spec
from tasks.spec.teacher import TeacherSection
from tasks.spec.train import ModelSection, TrainSection
from tasks.spec.views import ViewsSection

__all__ = [
    "CheXpertSection",
    "CorpusEntry",
    "CorpusSection",
    "EvaluateSection",
    "FolderSection",
    "GateSection",
    "IngestSection",
    "LabelRunSection",
    "LossTerm",
    "ModelSection",
    "PhantomSection",
    "RangeSection",
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
