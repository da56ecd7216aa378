"""A stage that is one file: what adding a stage takes. It stores a number that follows from its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from infra.digest import unit_key
from infra.storage.manifest import Manifest
from tasks.pipeline.context import Context
from tasks.pipeline.stage import Made, Stage, StageResult, StageWork, run_stage
from tasks.spec import Spec


class Toy(StageWork):
    """Stores the sum of a number and of how many manifests it was given."""

    stage, version = "toy", 1

    def __init__(self, context: Context, inputs: Sequence[Manifest], number: int) -> None:
        super().__init__(context)
        self.inputs, self.number, self.calls = inputs, number, 0

    @cached_property
    def key(self) -> str:
        ids = [manifest.key for manifest in self.inputs]
        return unit_key(self.stage, self.version, inputs=ids, section={"number": self.number})

    def make(self) -> Made:
        self.calls += 1
        value = str(self.number + len(self.inputs)).encode()
        output = self.cache.put_object("toys/{sha}.txt", value, unit=self.key, meta={"kind": "toy"})
        manifest = Manifest(
            stage=self.stage,
            version=self.version,
            key=self.key,
            inputs=[one.key for one in self.inputs],
            section={"number": self.number},
            outputs=[output],
            facts={"number": self.number},
        )
        return Made(manifest, made=1, total=1)


def toy(context: Context, number: int = 1) -> StageResult:
    """Run it without inputs."""
    return run_stage(Toy(context, (), number))


def _bind(context: Context, spec: Spec, *, number: int, **inputs: Any) -> Toy:
    return Toy(context, list(inputs.values()), number)


TOY = Stage("toy", _bind, folders=("toys/",))
