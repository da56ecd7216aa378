"""A trained network as a teach or distill manifest describes it, ready to predict."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from safetensors.torch import load as load_state

from infra.errors import CorruptError, PermanentError
from infra.storage.manifest import Manifest, manifest_name
from infra.storage.store import open_store
from models.networks.build import build
from tasks.data.corpus import Corpus, Shard, load_image


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained model on its device."""

    module: torch.nn.Module
    view_size: int
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_trained_network(corpus: Corpus, manifest: Manifest, device: str = "cpu") -> TrainedNetwork:
    """The network of a teach or distill manifest, in eval mode.

    Raises:
        CorruptError: the stored bytes are not the manifest's.
        PermanentError: the weights do not fit.
    """
    output, facts = manifest.output(kind="model"), manifest.facts
    data = corpus.store.get(output.name)
    if len(data) != output.bytes:
        raise CorruptError(f"{output.name}: {len(data)} of {output.bytes} bytes; run repair")
    size = int(facts["input_size"])
    try:
        module = build(facts["model"], num_classes=facts["num_classes"], options=facts["options"], size=size).module
        module.load_state_dict(load_state(data))
    except (ValueError, RuntimeError) as error:
        raise PermanentError(f"{output.name} does not fit {facts['model']}: {error}") from error
    mean, std = tuple(facts["mean"]), tuple(facts["std"])
    return TrainedNetwork(module.eval().to(device), int(facts["view_size"]), size, mean, std)


@lru_cache(maxsize=2)
def cached_corpus(store: str, name: str) -> Corpus:
    """The corpus of a manifest, read once in the life of this process.

    Args:
        store: URL of the store.
        name: of the manifest.
    """
    opened = open_store(store)
    return Corpus(opened, Manifest.from_bytes(opened.get(name), name))


@lru_cache(maxsize=2)
def cached_network(store: str, stage: str, key: str, sha256: str, device: str) -> TrainedNetwork:
    """The network of a manifest, loaded once in the life of this process. Errors as `load_trained_network`.

    Args:
        stage, key: name the manifest.
        sha256: of the stored model.
    """
    # sha256 is in the arguments so that a model that was trained again is read again.
    opened = open_store(store)
    name = manifest_name(stage, key)
    manifest = Manifest.from_bytes(opened.get(name), name)
    return load_trained_network(Corpus(opened, manifest), manifest, device)


def stored_image(corpus: Corpus, shard: Shard, row: int) -> np.ndarray:
    """One image of a corpus, RGB uint8 [H, W, 3]. Errors as `load_image`."""
    return load_image(corpus.store, shard, row)
