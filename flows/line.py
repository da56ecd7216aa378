"""The line, written once: which stages there are, and what each waits for.

Everything that knows the pipeline reads this graph: the Prefect flow, `plan`, `--upto`, the records that gc takes its
roots from, costs. A stage is added here and in its own folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flows.spec_files import named_specs
from infra.digest import digest_of
from tasks.combine.stage import COMBINE
from tasks.distill.stage import DISTILL, TEACH
from tasks.drift.stage import DRIFT
from tasks.evaluate.stage import EVALUATE
from tasks.evaluate.teacher_check import COMPARE
from tasks.export.stage import EXPORT
from tasks.gate.stage import GATE
from tasks.ingest.stage import INGEST
from tasks.label.stage import LABEL
from tasks.pipeline.graph import Graph, Step, StepInput
from tasks.pipeline.stage import Stage
from tasks.register.stage import REGISTER
from tasks.report.stage import REPORT
from tasks.select.stage import SELECT
from tasks.spec import Spec, TeacherSection, load_spec
from tasks.spec.arms import LABELS_ONLY
from tasks.subset.stage import SUBSET


def line(spec: Spec) -> Graph:
    """The steps of a spec's run."""
    graph = Graph()
    corpus = _subset(graph, spec, _corpus(graph, spec))

    trained = {teacher.name: _trainings(graph, corpus, teacher) for teacher in spec.teachers}
    trainings = [step for steps in trained.values() for step in steps]
    wholes = [whole for whole, *_ in filter(None, trained.values())]
    starts = {name: steps[0] for name, steps in trained.items() if steps}
    alone = _students(graph, spec, [arm for arm in spec.arms if arm == LABELS_ONLY], {"corpus": corpus}, {}, starts)
    checks = []
    if wholes and alone:
        checks = [
            graph.add(
                COMPARE,
                "compare",
                "compare teachers with the student on labels alone",
                inputs={"corpus": corpus, "teachers": wholes, "students": alone},
            )
        ]
    required = any(teacher.require_better for teacher in spec.teachers)

    labels = [
        graph.add(
            LABEL,
            f"label {name}",
            f"label with {name}",
            inputs={"corpus": corpus, "trained": own},
            # Teachers that label together share the decoding of images.
            after=[*trainings, *(checks if required else [])],
            teacher=name,
        )
        for name, own in trained.items()
    ]
    select = graph.add(SELECT, "select", "select and calibrate", inputs={"corpus": corpus, "labels": labels})

    taught = [arm for arm in spec.arms if arm != LABELS_ONLY]
    teaching: dict[str, StepInput] = {"labels": labels, "select": select, "trained": trainings}
    students = _students(graph, spec, taught, {"corpus": corpus}, teaching, starts)

    models = [*students, *alone, *wholes]
    report = graph.add(
        EVALUATE,
        "evaluate",
        "evaluate and compare",
        inputs={"corpus": corpus, "models": models, "select": select},
        after=checks,
    )
    export = graph.add(
        EXPORT, "export", "export the student", inputs={"corpus": corpus, "report": report, "models": models}
    )
    judged: dict[str, StepInput] = {"corpus": corpus, "report": report, "export": export}
    if spec.drift.enabled:
        judged["drift"] = graph.add(
            DRIFT,
            "drift",
            "compare the images with the champion's",
            inputs={"corpus": corpus, "report": report, "labels": labels},
            after=[export],
        )
    gate = graph.add(GATE, "gate", "judge the student by the gate", inputs=judged)
    page = graph.add(
        REPORT,
        "report",
        "write the student's page and card",
        inputs={"corpus": corpus, "report": report, "gate": gate, "export": export, "models": models},
    )
    graph.add(
        REGISTER,
        "register",
        f"register {spec.register_.name or spec.name}",
        inputs={
            "corpus": corpus,
            "report": report,
            "export": export,
            "gate": gate,
            "page": page,
            "models": models,
            "labels": labels,
            "select": select,
        },
    )
    return graph


def _corpus(graph: Graph, spec: Spec) -> Step:
    """The step whose manifest is the training set."""
    if not spec.entries:
        return graph.add(INGEST, "ingest", f"ingest {spec.corpus_title}")
    corpora = [
        graph.add(INGEST, f"ingest {corpus.title}", f"ingest {corpus.title}", number=number)
        for number, corpus in enumerate(spec.each_corpus)
    ]
    return graph.add(COMBINE, "combine", "combine the corpora", inputs={"corpora": corpora})


def _subset(graph: Graph, spec: Spec, corpus: Step) -> Step:
    """The step whose manifest is the training set with the labels that the spec uses."""
    if spec.labels is None:
        return corpus
    return graph.add(SUBSET, "subset", "choose the labels that are used", inputs={"whole": corpus})


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


def _students(
    graph: Graph,
    spec: Spec,
    arms: Sequence[str],
    corpus: Mapping[str, StepInput],
    teaching: Mapping[str, StepInput],
    starts: Mapping[str, Step],
) -> list[Step]:
    """The last training of each of some arms and every seed; arms whose first phases are alike share them.

    Args:
        starts: trained teachers by name; a student may begin with one's weights.
    """
    made: dict[str, Step] = {}
    last = []
    for arm in arms:
        student = spec.student.of(arm)
        names = [phase.name for phase in student.phases or []] or [""]
        for seed in spec.student.seeds:
            step: Step | None = None if student.starts_from is None else starts[student.starts_from]
            for number, name in enumerate(names):
                earlier = [student.of_phase(each).model_dump(mode="json") for each in names[: number + 1]]
                alike = digest_of([seed, names[: number + 1], earlier, *([arm] if name == names[-1] else [])])
                if alike not in made:
                    before: dict[str, StepInput] = {} if step is None else {"start": step}
                    title = f"{arm} {name} seed {seed}" if name else f"{arm} seed {seed}"
                    made[alike] = graph.add(
                        DISTILL,
                        f"distill {title}",
                        f"student {title}",
                        inputs={**corpus, **teaching, **before},
                        arm=arm,
                        seed=seed,
                        phase=name,
                    )
                step = made[alike]
            last += [step] if step is not None else []
    return last


def stages() -> list[Stage]:
    """Every stage of a line, in order: those of a packaged spec, and the two that other specs need for their images."""
    ingest, *rest = line(load_spec(named_specs()["phantom-fundus"])).stages
    return [ingest, COMBINE, SUBSET, *rest]
