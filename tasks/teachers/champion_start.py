"""A training that begins from the champion's weights (`student.start: champion`).

A champion that learned from the very images of this run is no start: a student would go over them twice, and every
promotion would make the next run train again with nothing new. A student then begins where that champion began, so that
a run whose student was promoted finds its training again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra.errors import CorruptError, UsageError
from infra.servers.mlflow_database import database_file
from infra.servers.mlflow_errors import mlflow_errors
from infra.servers.tracking import alias_of, artifact_folder, artifacts_of, connect, quiet, tracking_uri, versions
from infra.servers.tracking_check import check_reachable
from infra.storage.store import Store
from tasks.data.corpus import Corpus
from tasks.data.weights import WeightsRef, copy_to_store, stored_ref
from tasks.preprocessing.network_input import Preprocessing
from tasks.preprocessing.stored_image import BITS_FACT, ImageRecipe, recipe_of
from tasks.spec import ModelSection
from tasks.teachers.weights_lookup import SUFFIX

CHAMPION = "champion"
FACT = "began_from"
"""Fact of a training's manifest, and after `stillroom.` a tag of a version: JSON of its `ChampionStart`."""

TAG = f"stillroom.{FACT}"
_CORPUS_TAG = "stillroom.manifest.ingest"


@dataclass(frozen=True)
class ChampionStart:
    """The weights of a version that served.

    Attributes:
        name, version: in the registry.
        weights: its graph; the id is the digest of its bytes.
    """

    name: str
    version: str
    weights: WeightsRef

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name} version {self.version}"

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)

    @classmethod
    def from_json(cls, text: str) -> ChampionStart:
        """What the tag `TAG` says."""
        plain = json.loads(text)
        return cls(str(plain["name"]), str(plain["version"]), WeightsRef(**plain["weights"]))

    def upload(self, store: Store) -> None:
        """Copy the graph into the store, unless it is there, so that workers need no registry.

        Raises:
            CorruptError: the graph changed since it was found.
            UsageError, TransientError: the registry does not give it.
        """
        if store.sizes(self.weights.where.removeprefix("store:")):
            return
        with mlflow_errors():
            client = connect()
            with quiet():
                held = client.get_model_version(self.name, self.version)
            with artifact_folder(artifacts_of(client, held)) as folder:
                path = _artifact(_model_of(folder, self.title), folder, "network", self.title)
                if stored_ref(path, SUFFIX) != self.weights:
                    raise CorruptError(f"the network of {self.title} is not the one that a training began from")
                copy_to_store(self.weights, path, store)


def champion_start(name: str, student: ModelSection, size: int, view_size: int, corpus: Corpus) -> ChampionStart | None:
    """Where a student begins; None: as its model and `weights` say. Writes nothing.

    Args:
        name: of the registered model.
        size: side of the student's input in pixels.
        view_size: side of the views in pixels.
        corpus: that it learns from.

    Raises:
        UsageError: the champion is another network, or of other classes, size or preparation of images; or the registry
            refuses us.
        TransientError: the registry cannot be reached.
    """
    file = database_file(tracking_uri())
    if file is not None and not file.exists():
        return None
    check_reachable()
    with mlflow_errors():
        client = connect()
        held = _champion(client, name)
        if held is None:
            return None
        tags = dict(held.tags)
        if tags.get(_CORPUS_TAG) == corpus.manifest.digest:
            return ChampionStart.from_json(tags[TAG]) if TAG in tags else None
        title = f"{name} version {held.version}"
        with artifact_folder(artifacts_of(client, held)) as folder:
            model = _model_of(folder, title)
            _check(model, folder, title, student, size, view_size, corpus)
            network = stored_ref(_artifact(model, folder, "network", title), SUFFIX)
        return ChampionStart(name, str(held.version), network)


def _champion(client: Any, name: str) -> Any | None:
    try:
        return alias_of(client, name, CHAMPION)
    except Exception as error:
        # Where MLflow knows its users, it forbids to read what is not there yet, as it does what is another's.
        if getattr(error, "error_code", "") != "PERMISSION_DENIED" or versions(client, name):
            raise
        return None


def _model_of(folder: Path, title: str) -> Any:
    with quiet():
        from mlflow.exceptions import MlflowException
        from mlflow.models import Model

        try:
            return Model.load(str(folder))
        except MlflowException as error:
            raise UsageError(f"{title} is no student that `stillroom register` made: {error}") from error


def _artifact(model: Any, folder: Path, name: str, title: str) -> Path:
    try:
        path = folder / model.flavors["python_function"]["artifacts"][name]["path"]
    except KeyError:
        raise UsageError(f"{title} is no student that `stillroom register` made: it has no {name}") from None
    return Path(path)


def _check(
    model: Any, folder: Path, title: str, student: ModelSection, size: int, view_size: int, corpus: Corpus
) -> None:
    """Raises UsageError where a champion is no start for a student; every difference is named."""
    about = dict(model.metadata or {})
    asked = {
        "model": student.model,
        "task": corpus.task,
        "classes": list(corpus.classes),
        "input_size": size,
        "view_size": view_size,
    }
    wrong = [
        f"{name} {_shown(about.get(name))}, here {_shown(value)}"
        for name, value in asked.items()
        if about.get(name) != value
    ]
    path = _artifact(model, folder, "preprocessing", title)
    try:
        theirs = Preprocessing.of_document(json.loads(path.read_bytes())).recipe
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"student.start: champion: {title} does not say how its images were prepared ({error})"
        ) from None
    wrong += _differences(theirs, _recipe(corpus))
    if wrong:
        raise UsageError(
            f"student.start: champion: a student cannot begin from {title}: {'; '.join(wrong)}. Give the student and "
            "its images the champion's values, or write student.start: weights"
        )


def _recipe(corpus: Corpus) -> ImageRecipe:
    recipe = recipe_of(corpus.manifest.section, corpus.manifest.facts.get(BITS_FACT))
    # A document leaves out what has no effect, such as the quality of a PNG; the champion's comes from one too.
    return Preprocessing.of_document(Preprocessing(recipe, 1, 1, [0.0], [1.0]).document()).recipe


def _differences(theirs: ImageRecipe, ours: ImageRecipe) -> list[str]:
    # How large an image may be says nothing of one that is stored.
    pairs = {
        name: (json.dumps(value, default=list), json.dumps(asdict(ours)[name], default=list))
        for name, value in asdict(theirs).items()
        if name != "max_pixels"
    }
    return [f"ingest.{name} {one}, here {other}" for name, (one, other) in pairs.items() if one != other]


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
