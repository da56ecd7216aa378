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
from models.augmentation.rendering import decode
from models.networks.build import build
from tasks.data.corpus import Corpus, Shard, read_image


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained model on its device."""

    module: torch.nn.Module
    view_size: int
    input_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load_network(corpus: Corpus, manifest: Manifest, device: str = "cpu") -> TrainedNetwork:
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
def _corpus(store: str, ingest: str) -> Corpus:
    opened = open_store(store)
    name = manifest_name("ingest", ingest)
    return Corpus(opened, Manifest.from_bytes(opened.get(name), name))


@lru_cache(maxsize=2)
def _network(store: str, stage: str, key: str, sha256: str, device: str) -> TrainedNetwork:
    # sha256 is in the arguments so that a model that was trained again is read again.
    opened = open_store(store)
    name = manifest_name(stage, key)
    manifest = Manifest.from_bytes(opened.get(name), name)
    return load_network(Corpus(opened, manifest), manifest, device)


def _image(corpus: Corpus, shard: Shard, row: int) -> np.ndarray:
    try:
        return decode(read_image(corpus.store, shard, row))
    except ValueError as error:
        raise CorruptError(f"{shard.output.name}: {shard.keys[row]}: {error}; run repair") from error
