"""A plan for a student that starts from a registered one."""

from __future__ import annotations

from pathlib import Path

import torch

from infra.storage.store import LocalStore
from models.networks.weight_files import read_state
from tasks.planning.networks import build_networks
from tests.tasks.label.teachers import save_weights, spec_of
from tests.tasks.registry import registered_student
from tests.tiny import tiny_corpus


def test_its_weights_are_read_and_nothing_is_written(store: LocalStore, tmp_path: Path) -> None:
    corpus = tiny_corpus(store)
    before = store.sizes("")
    with registered_student(tmp_path / "registry") as graph:
        student = {"model": "micro_xs", "weights": "models:/eyes@champion"}
        built, _ = build_networks(spec_of(store, save_weights(tmp_path), student=student), corpus, store)
        expected = read_state(graph).state
    found = built[""].module.state_dict()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert store.sizes("") == before
