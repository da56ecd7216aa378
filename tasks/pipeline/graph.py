"""Steps of a run and what each waits for; the line is such a graph, and every runner reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from infra.errors import UsageError
from tasks.pipeline.stage import Stage


@dataclass(frozen=True, eq=False)
class Step:
    """One stage of a run with its inputs; steps are equal only to themselves.

    Attributes:
        title: names it in JSON and in `plan`, such as `distill taught seed 0`.
        label: names it for people, in Prefect and on the terminal.
        inputs: steps whose manifests it gets, by the names that the stage's `bind` knows.
        parameters: plain values for `bind`.
        after: further steps that end before it starts.
    """

    stage: Stage
    title: str
    label: str
    inputs: Mapping[str, StepInput]
    parameters: Mapping[str, Any]
    after: tuple[Step, ...] = ()

    @property
    def waits_for(self) -> list[Step]:
        """Every step that must end first."""
        flat: list[Step] = []
        for given in self.inputs.values():
            flat += [given] if isinstance(given, Step) else given
        return [*flat, *self.after]


StepInput: TypeAlias = Step | Sequence[Step]


@dataclass
class Graph:
    """Steps in an order in which each comes after all that it waits for."""

    steps: list[Step] = field(default_factory=list)

    def add(
        self,
        stage: Stage,
        title: str,
        label: str,
        *,
        inputs: Mapping[str, StepInput] | None = None,
        after: Iterable[Step] = (),
        **parameters: Any,
    ) -> Step:
        """Add a step; arguments as the attributes of `Step`."""
        step = Step(stage, title, label, inputs or {}, parameters, tuple(after))
        self.steps.append(step)
        return step

    @property
    def stages(self) -> list[Stage]:
        """Every stage once, in order."""
        return list({step.stage.name: step.stage for step in self.steps}.values())

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders of the store that the stages write outputs to."""
        return tuple(dict.fromkeys(folder for stage in self.stages for folder in stage.folders))

    def up_to(self, stage: str) -> list[Step]:
        """The steps of a stage and all that they wait for, in order.

        Raises:
            UsageError: there is no step of that stage; those that there are get named.
        """
        wanted = {step for step in self.steps if step.stage.name == stage}
        if not wanted:
            names = ", ".join(known.name for known in self.stages)
            raise UsageError(f"the line has no stage {stage!r}; it has {names}")
        for step in reversed(self.steps):
            if step in wanted:
                wanted.update(step.waits_for)
        return [step for step in self.steps if step in wanted]
