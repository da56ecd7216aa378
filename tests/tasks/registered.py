"""Students that are registered in a real MLflow by the stage itself, for tests of those who use them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infra.compute.cluster import Cluster
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.data.corpus import Corpus, read_image
from tasks.evaluate.stage import evaluate
from tasks.pipeline.context import Context
from tasks.register.stage import register
from tests.tasks.trained import tiny_spec, trained
from tests.tiny import tiny_corpus


@dataclass(frozen=True)
class JudgedStudents:
    """A corpus, two students and the report on them."""

    corpus: Corpus
    models: list[Manifest]
    report: Manifest

    def register(self, name: str, number: int = 0, promote: str = "automatic") -> Manifest:
        """The manifest of one student's registration under a name."""
        spec = tiny_spec(self.corpus.store, f"register.name={name}", f"register.promote={promote}")
        return register(Context(self.corpus.store), self.report, self.models[number], self.corpus, [], spec).manifest

    def images(self, folder: Path) -> list[Path]:
        """The test images as files."""
        made = []
        for shard in self.corpus.of_split("test"):
            for row, key in enumerate(shard.keys):
                made.append(folder / f"{key}.png")
                made[-1].write_bytes(read_image(self.corpus.store, shard, row))
        return made


def judged(folder: Path, cluster: Cluster, *overrides: str, task: str = "single") -> JudgedStudents:
    """Students of random weights on a tiny corpus, evaluated; the store is `folder`/store."""
    store = LocalStore(folder / "store")
    corpus = tiny_corpus(store, val=9, test=8, size=70, task=task)
    models = [trained(corpus, "taught", seed) for seed in (0, 1)]
    spec = tiny_spec(store, *overrides)
    return JudgedStudents(corpus, models, evaluate(Context(store, cluster, spec.run), corpus, models, spec).manifest)
