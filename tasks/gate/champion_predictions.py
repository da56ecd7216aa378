"""What the champion says of today's test images: its own code, weights and preparation of images.

It looks at the stored images where they were stored as those that it learned from. Where they were not, it prepares the
source files itself, as it does in service.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.digest import sha256_file
from infra.errors import CancelledError, StillroomError
from infra.servers.tracking import artifact_folder, artifacts_of, connect, quiet
from tasks.data.corpus import Corpus, load_image
from tasks.gate.opponent import Champion, answering
from tasks.pipeline.context import Context
from tasks.preprocessing.network_input import FORMAT, Preprocessing
from tasks.preprocessing.stored_image import BITS_FACT, recipe_of
from tasks.register.upload import FILES_TAG
from tasks.sources import open_source
from tasks.sources.as_ingested import read_as_ingested
from tasks.spec import CorpusSection

STORED, FILES = "stored images", "source files"
_BATCH = 32


class NotComparableError(Exception):
    """Why the champion cannot be compared; the text says what to do."""


@dataclass(frozen=True)
class Said:
    """Probabilities of a champion.

    Attributes:
        prob: float64 [N, C] in the order of today's classes.
        about: what it ships of itself.
        seen: STORED or FILES.
        reordered: its classes stand in another order.
    """

    prob: np.ndarray
    about: Mapping[str, Any]
    seen: str
    reordered: bool


def champion_says(
    context: Context, champion: Champion, corpus: Corpus, keys: Sequence[str], sections: Sequence[CorpusSection]
) -> Said:
    """Run the champion on some test images.

    Args:
        keys: of the images, N.
        sections: the spec's corpora, for the source files.

    Raises:
        NotComparableError: it is of other classes, its files are gone or damaged, its code does not run here, or it
            stores images otherwise and the source files cannot be read.
        TransientError: MLflow does not give its files.
        CancelledError: the run was asked to stop.
    """
    with ExitStack() as opened:
        folder = _folder(opened, champion)
        _check_files(folder, champion)
        student = _loaded(folder, champion)
        prob, seen = _probabilities(context, champion, student, corpus, keys, sections)
    theirs = [str(name) for name in student.about["classes"]]
    order = [theirs.index(name) for name in corpus.classes]
    return Said(prob[:, order], student.about, seen, order != list(range(len(order))))


def check_classes(champion: Champion, about: Mapping[str, Any], corpus: Corpus) -> None:
    """Raises NotComparableError where a champion is of another task or of other classes than a corpus."""
    way_out = (
        "promote this student by hand, under a register.name of its own; or set gate.margin: null and raise "
        "gate.revision, and no champion is asked"
    )
    if about["task"] != corpus.task:
        raise NotComparableError(
            f"version {champion.version} is of task {about['task']}, this corpus of {corpus.task}; {way_out}"
        )
    theirs = [str(name) for name in about["classes"]]
    if sorted(theirs) != sorted(corpus.classes):
        raise NotComparableError(
            f"version {champion.version} knows {', '.join(theirs)}, this corpus has {', '.join(corpus.classes)}; "
            f"{way_out}"
        )
    if corpus.task == "ordinal" and theirs != corpus.classes:
        raise NotComparableError(f"version {champion.version} has the grades in another order; {way_out}")


def _folder(opened: ExitStack, champion: Champion) -> Path:
    """Its files, for as long as `opened` is."""
    with answering(f"the files of {champion.name} version {champion.version}"):
        from mlflow.exceptions import MlflowException

        try:
            return Path(opened.enter_context(artifact_folder(artifacts_of(connect(), champion.held))))
        except FileNotFoundError:
            pass
        except OSError as error:
            # mlflow says so of a folder that is gone.
            if "No such" not in str(error):
                raise
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    raise NotComparableError(f"the files of version {champion.version} are gone; roll back, or promote another version")


def _check_files(folder: Path, champion: Champion) -> None:
    """Compare with what the version says of its files; versions of before it said so are taken as they are."""
    listed = champion.tags.get(FILES_TAG)
    for name, told in sorted(json.loads(listed).items()) if listed else ():
        path = folder / name
        if not path.is_file() or sha256_file(path) != told["sha256"]:
            raise NotComparableError(
                f"{name} of version {champion.version} is not the file that was registered; roll back, or promote "
                "another version"
            )


def _loaded(folder: Path, champion: Champion) -> Any:
    """Its own code, with its network in it."""
    with quiet():
        import mlflow.pyfunc

        try:
            student = mlflow.pyfunc.load_model(str(folder)).unwrap_python_model()
            student.about["classes"], student.preprocessing.recipe, student.probabilities
        # It is the code of another release, in today's environment.
        except Exception as error:
            raise NotComparableError(
                f"version {champion.version} does not load here ({type(error).__name__}); promote this student by "
                "hand, or load the champion in the environment that its model names"
            ) from error
        return student


def _probabilities(
    context: Context,
    champion: Champion,
    student: Any,
    corpus: Corpus,
    keys: Sequence[str],
    sections: Sequence[CorpusSection],
) -> tuple[np.ndarray, str]:
    """Probabilities [N, C] in the order of its own classes, and what it saw."""
    check_classes(champion, student.about, corpus)
    view: Callable[[int], np.ndarray]
    if _stores_alike(student, corpus):
        view, seen = _stored_views(student, corpus, keys), STORED
    else:
        view, seen = _source_views(champion, student, corpus, keys, sections), FILES
    found = [np.zeros((0, len(student.about["classes"])))]
    for start in range(0, len(keys), _BATCH):
        if context.stop():
            raise CancelledError("stopped on request")
        context.progress(start, len(keys))
        views = [view(at) for at in range(start, min(start + _BATCH, len(keys)))]
        try:
            found.append(np.asarray(student.probabilities(np.stack(views)), dtype=np.float64))
        except Exception as error:
            raise NotComparableError(
                f"version {champion.version} does not predict here ({type(error).__name__}); promote by hand"
            ) from error
    return np.concatenate(found), seen


def _stores_alike(student: Any, corpus: Corpus) -> bool:
    """Whether the champion would store an image as it lies in today's shards."""
    recipe = recipe_of(corpus.manifest.section, corpus.manifest.facts.get(BITS_FACT))
    # A document leaves out what has no effect, such as the quality of a PNG; the champion's comes from one too.
    ours = Preprocessing.of_document(Preprocessing(recipe, 1, 1, [0.0], [1.0]).document())
    same = _plain(student.preprocessing.recipe) == _plain(ours.recipe)
    return bool(same and student.preprocessing.document()["format"] == FORMAT)


def _plain(recipe: Any) -> Any:
    # How large an image may be says nothing of one that is stored.
    return json.loads(json.dumps({name: value for name, value in asdict(recipe).items() if name != "max_pixels"}))


def _stored_views(student: Any, corpus: Corpus, keys: Sequence[str]) -> Callable[[int], np.ndarray]:
    rows = {str(key): (shard, row) for shard in corpus.of_split("test") for row, key in enumerate(shard.keys)}

    def view(at: int) -> np.ndarray:
        return np.asarray(student.preprocessing.view(load_image(corpus.store, *rows[keys[at]])))

    return view


def _source_views(
    champion: Champion, student: Any, corpus: Corpus, keys: Sequence[str], sections: Sequence[CorpusSection]
) -> Callable[[int], np.ndarray]:
    """Views of the files that the images came from.

    Raises:
        NotComparableError: a root cannot be read, or a corpus is private: the store does not know its files' names.
    """
    begin = f"version {champion.version} learned from images that were stored in another way (ingest), and "
    if any(section.private for section in sections):
        raise NotComparableError(f"{begin}the files of a private corpus cannot be found again; promote by hand")
    try:
        sources = [open_source(section.root) for section in sections]
        listed = [source.files() for source in sources]
    except (StillroomError, OSError) as error:
        raise NotComparableError(
            f"{begin}corpus.root cannot be read any more; make it readable, or promote by hand"
        ) from error
    catalog = corpus.catalog.filter(pc.is_in(corpus.catalog["key"], value_set=pa.array(keys)))
    rows = {row["key"]: row for row in catalog.select(["key", "source", "source_sha256"]).to_pylist()}

    def view(at: int) -> np.ndarray:
        row = rows[keys[at]]
        for source, files in zip(sources, listed, strict=True):
            data = read_as_ingested(source, files, row["source"], row["source_sha256"])
            if data is not None:
                break
        else:
            raise NotComparableError(
                f"{begin}the source file of test image {keys[at]} is not there as it was ingested; restore it, or "
                "promote by hand"
            )
        try:
            return np.asarray(student.preprocessing.view(student.preprocessing.stored(data)))
        except Exception as error:
            raise NotComparableError(
                f"version {champion.version} cannot read the source file of test image {keys[at]} "
                f"({type(error).__name__}); promote by hand"
            ) from error

    return view
