"""The line, written once: which stages there are, and what each waits for.

Everything that knows the pipeline reads this graph: the Prefect flow, `plan`, `--upto`, the records that gc takes its
roots from, costs. A stage is added here and in its own folder.
"""

from __future__ import annotations

from flows.spec_files import named_specs
from tasks.distill.stage import DISTILL, TEACH
from tasks.evaluate.stage import EVALUATE
from tasks.ingest.stage import INGEST
from tasks.label.stage import LABEL
from tasks.pipeline.graph import Graph, Step, StepInput
from tasks.pipeline.stage import Stage
from tasks.register.stage import REGISTER
from tasks.select.stage import SELECT
from tasks.spec import Spec, TeacherSection, load_spec
from tasks.spec.arms import LABELS_ONLY, TAUGHT


def line(spec: Spec) -> Graph:
    """The steps of a spec's run."""
    graph = Graph()
    corpus = graph.add(INGEST, "ingest", f"ingest {spec.corpus.title}")

    trained = {teacher.name: _trainings(graph, corpus, teacher) for teacher in spec.teachers}
    trainings = [step for steps in trained.values() for step in steps]
    labels = [
        graph.add(
            LABEL,
            f"label {name}",
            f"label with {name}",
            inputs={"corpus": corpus, "trained": own},
            after=trainings,  # teachers that label together share the decoding of images
            teacher=name,
        )
        for name, own in trained.items()
    ]
    select = graph.add(SELECT, "select", "select and calibrate", inputs={"corpus": corpus, "labels": labels})

    students = []
    for arm in [TAUGHT, LABELS_ONLY] if spec.evaluate.compare else [TAUGHT]:
        teaching: dict[str, StepInput] = (
            {"labels": labels, "select": select, "trained": trainings} if arm == TAUGHT else {}
        )
        students += [
            graph.add(
                DISTILL,
                f"distill {arm} seed {seed}",
                f"student {arm} seed {seed}",
                inputs={"corpus": corpus, **teaching},
                arm=arm,
                seed=seed,
            )
            for seed in spec.student.seeds
        ]

    models = [*students, *(whole for whole, *_ in filter(None, trained.values()))]
    report = graph.add(EVALUATE, "evaluate", "evaluate and compare", inputs={"corpus": corpus, "models": models})
    graph.add(
        REGISTER,
        "register",
        f"register {spec.register_.name or spec.name}",
        inputs={"corpus": corpus, "report": report, "models": models, "labels": labels, "select": select},
    )
    return graph


def _trainings(graph: Graph, corpus: Step, teacher: TeacherSection) -> list[Step]:
    """The whole teacher's training, then one without each fold; none where the spec asks for no training."""
    if teacher.train is None:
        return []
    count = teacher.folds or 0
    parts: dict[tuple[int, int] | None, str] = {
        None: "",
        **{(fold, count): f" without fold {fold + 1} of {count}" for fold in range(count)},
    }
    return [
        graph.add(
            TEACH,
            f"teach {teacher.name}{part}",
            f"fine-tune teacher {teacher.name}{part}",
            inputs={"corpus": corpus},
            teacher=teacher.name,
            fold=fold,
        )
        for fold, part in parts.items()
    ]


def stages() -> list[Stage]:
    """Every stage of the line, in order: those of a packaged spec, whose line has all of them."""
    return line(load_spec(named_specs()["phantom-fundus"])).stages
