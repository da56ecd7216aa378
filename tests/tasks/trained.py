"""Untrained networks stored as if the trainer had made them, for the tests of evaluate and register."""

from __future__ import annotations

import json

from safetensors.torch import save

from infra.digest import digest_of
from infra.storage.manifest import Manifest
from infra.storage.stage_cache import StageCache
from infra.storage.store import LocalStore
from models.networks.build import build
from tasks.data.corpus import Corpus
from tasks.spec import Spec, parse_spec

SPEC = """
name: tiny-student
store: {store}
corpus: {{adapter: {adapter}, root: /nowhere, name: tiny}}
teachers: [{{name: big, model: micro}}]
student: {{model: micro_xs}}
evaluate: {{bootstrap: 50}}
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
    store = corpus.store
    built = build("micro_xs", num_classes=len(corpus.classes), seed=seed + 100 * len(arm))
    state = built.module.state_dict()
    bias = next(t for n, t in reversed(state.items()) if n.endswith("bias") and len(t) == len(corpus.classes))
    bias[0] += lean
    stage = "teach" if arm.startswith("teacher:") else "distill"
    key = digest_of([corpus.manifest.key, arm, seed, lean, view_size, input_size])
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
