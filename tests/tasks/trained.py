"""Untrained networks stored as if the trainer had made them, for the tests of evaluate and register."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from infra.digest import digest_of
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from models.augmentation.plain_view import plain_view, to_input
from models.networks.build import Built, build
from tasks.data.corpus import Corpus, load_image
from tasks.spec import Spec, parse_spec

SPEC = """
name: tiny-student
store: {store}
corpus: {{adapter: {adapter}, root: /nowhere, name: tiny}}
teachers: [{{name: big, model: micro}}]
student: {{model: micro_xs}}
evaluate: {{bootstrap: 50}}
register: {{promote: automatic}}
run: {{device: cpu}}
"""


def tiny_spec(store: LocalStore, *overrides: str, adapter: str = "phantom-fundus") -> Spec:
    """A spec around `tests.tiny.tiny_corpus`."""
    return parse_spec(SPEC.format(store=store.url, adapter=adapter), overrides=overrides)


def trained(
    corpus: Corpus, arm: str, seed: int = 0, *, lean: float = 0.0, view_size: int = 36, input_size: int = 32
) -> Manifest:
    """A committed manifest of stage distill (or teach) with a micro_xs of random weights.

    `lean` is added to its logit of the first class.
    """
    built = build("micro_xs", num_classes=len(corpus.classes), seed=seed + 100 * len(arm))
    _, bias = _head(built.module, len(corpus.classes))
    with torch.no_grad():
        bias[0] += lean
    return _committed(corpus, built, arm, seed, [lean], view_size, input_size)


def fitted(corpus: Corpus, arm: str, seed: int = 0, *, wrong: float = 0.0) -> Manifest:
    """As `trained`, with a last layer that least squares fitted to the labelled training images.

    Args:
        wrong: share of these whose label is another one in the fit.
    """
    classes = len(corpus.classes)
    built = build("micro_xs", num_classes=classes, seed=seed + 100 * len(arm))
    weight, bias = _head(built.module, classes)
    images, labels = [], []
    for shard in corpus.of_split("train"):
        for row in np.flatnonzero(shard.labelled):
            images.append(plain_view(load_image(corpus.store, shard, int(row)), 36))
            labels.append(int(shard.label[row]))
    rng = np.random.default_rng(seed)
    truth = np.array(labels)
    flipped = rng.permutation(len(truth))[: round(wrong * len(truth))]
    truth[flipped] = (truth[flipped] + rng.integers(1, classes, len(flipped))) % classes
    seen: list[torch.Tensor] = []
    last = next(m for m in reversed(list(built.module.modules())) if getattr(m, "weight", None) is weight)
    hook = last.register_forward_hook(lambda module, given, _: seen.append(given[0].flatten(1)))
    with torch.inference_mode():
        built.module.eval()(torch.from_numpy(to_input(np.stack(images), 32, built.mean, built.std)))
    hook.remove()
    features = seen[0].double().numpy()
    middle = features.mean(axis=0)
    scaled = features - middle
    ridge = 1e-3 * np.trace(scaled.T @ scaled) / scaled.shape[1] * np.eye(scaled.shape[1])
    found = 8 * np.linalg.solve(scaled.T @ scaled + ridge, scaled.T @ (np.eye(classes)[truth] - 1 / classes))
    with torch.no_grad():
        weight.copy_(torch.from_numpy(found.T).reshape(weight.shape))
        bias.copy_(torch.from_numpy(-middle @ found))
    return _committed(corpus, built, arm, seed, ["fitted", wrong], 36, 32)


def _head(module: torch.nn.Module, classes: int) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    """Weight and bias of the last layer."""
    named = dict(module.named_parameters())
    name = next(name for name in reversed(named) if name.endswith("bias") and len(named[name]) == classes)
    return named[name.removesuffix("bias") + "weight"], named[name]


def _committed(
    corpus: Corpus, built: Built, arm: str, seed: int, how: list[Any], view_size: int, input_size: int
) -> Manifest:
    store, state = corpus.store, built.module.state_dict()
    stage = "teach" if arm.startswith("teacher:") else "distill"
    key = digest_of([corpus.manifest.key, arm, seed, *how, view_size, input_size])
    cache = StageCache(store)
    history = [
        {"epoch": e, "step": 10 * (e + 1), "loss": 1.0 / (e + 1), "val_macro_f1": 0.3 + 0.1 * e} for e in range(3)
    ]
    outputs = [
        cache.put_object("models/tiny/{sha8}.safetensors", save(state), id=key, meta={"kind": "model"}),
        cache.put_object("models/tiny/h-{sha8}.json", json.dumps(history).encode(), meta={"kind": "history"}),
    ]
    facts = {
        "model": "micro_xs",
        "options": {},
        "num_classes": len(corpus.classes),
        "classes": corpus.classes,
        "task": corpus.task,
        "input_size": input_size,
        "mean": list(built.mean),
        "std": list(built.std),
        "view_size": view_size,
        "arm": arm,
        "seed": seed,
        "parameters": sum(p.numel() for p in built.module.parameters()),
        "best": history[-1],
    }
    manifest = Manifest(
        stage=stage, version=1, key=key, inputs=[corpus.manifest.digest], section={}, outputs=outputs, facts=facts
    )
    return cache.commit(manifest)
