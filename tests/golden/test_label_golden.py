"""What the label stage makes of fixed shards, kept per version of the stage."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors.torch import save_file

from infra.digest import sha256_file
from infra.storage.store import LocalStore
from models.augmentation.draws import ViewRecipe
from models.networks.build import build
from tasks.data.soft_labels import read_soft_labels
from tasks.data.weights import WeightsRef
from tasks.label.job import STAGE, VERSION, InferenceSettings, LabelJob, TeacherRequest, label_key
from tasks.label.label_shard import label_shard
from tasks.teachers.teacher import TeacherModel
from tests.golden.guard import check
from tests.tiny import tiny_corpus

RECIPE = ViewRecipe(64)


def formula_weights(path: Path) -> None:
    """Weights that integer arithmetic alone decides, large enough for logits of several units."""
    state = build("test_resnet", num_classes=3).module.state_dict()
    for number, (name, tensor) in enumerate(state.items()):
        if tensor.is_floating_point() and tensor.ndim > 1:
            steps = torch.arange(tensor.numel(), dtype=torch.int64) * 7919 + number * 104729
            # Uniform, of the variance that keeps a signal alive; a power of two, so that nothing is rounded.
            scale = 2.0 ** round(math.log2(math.sqrt(24 / tensor[0].numel())))
            state[name] = ((steps % 1021).float() / 1024 - 0.5).reshape(tensor.shape) * scale
    state["fc.weight"] *= 64
    state["fc.bias"].zero_()
    save_file(state, path)


def test_logits_and_keys_are_those_of_this_version(store: LocalStore, tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    formula_weights(path)
    sha = sha256_file(path)
    teacher = TeacherModel("small", "network", "test_resnet", {}, 64, 3, WeightsRef(str(path), sha, sha))
    shard = tiny_corpus(store, size=80).shards[0]
    request = TeacherRequest(teacher, ((0, "0" * 64), (2, "2" * 64)))
    inference = InferenceSettings("cpu", 1, engine="eager", precision="float32", batch=8)
    job = LabelJob(store.url, "tiny", shard, RECIPE, (request,), inference)
    soft = [read_soft_labels(store.get(record.outputs[0].name)) for record in label_shard(job)]
    check(
        STAGE,
        VERSION,
        {
            "key": label_key("a" * 64, teacher, RECIPE, 2),
            "name": request.object_name("tiny", RECIPE, 2, "2" * 64),
            # One decimal of logits of some units: other engines differ far below, another picture far above.
            "logits": [[[round(float(v), 1) for v in row] for row in view.logits[:6]] for view in soft],
        },
    )
