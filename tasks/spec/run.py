"""`run:` how and where; never hashed, so changing it recomputes nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from infra.compute.cluster_spec import ClusterSection
from tasks.spec.base import Section


class LabelRunSection(Section):
    """`run.label:` how teachers are asked; none of it enters a key."""

    engine: Literal["auto", "eager", "compile", "onnxruntime", "openvino"] = Field(
        "auto", description="auto: measure those that are expected to save time, and take the fastest that agrees"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: the fastest that agrees with float32"
    )
    batch: int | None = Field(None, ge=1, description="images a forward pass; default: found by measuring")
    threads: int | None = Field(None, ge=1, description="cores of a shard in work; default: a fair share")
    max_divergence: float = Field(
        0.02,
        gt=0,
        le=1,
        description="largest mean total variation distance of an engine's probabilities from float32's",
    )
    max_bad: int = Field(20, ge=0, description="failure budget: samples that may be kept out ...")
    max_bad_share: float = Field(0.01, ge=0, le=1, description="... or this share of them, if that is more")


class TrainRunSection(Section):
    """`run.train:` where trainings run and how they are fed; none of it enters a key."""

    devices: int | None = Field(
        None, ge=1, description="processes of one training, a GPU or a share of the cores each; default: one"
    )
    threads: int | None = Field(None, ge=1, description="CPU threads of one training; default: a fair share")
    loaders: int = Field(2, ge=1, description="threads that decode and render ahead of the steps")
    compile: bool = Field(False, description="torch.compile the student; pays on a GPU and in long trainings")
    restarts: int = Field(3, ge=0, description="restarts of a training on several devices from its last checkpoint")
    track: bool = Field(True, description="write curves to MLflow while a training runs")


class RunSection(Section):
    """`run:` how and where; never hashed, so changing it recomputes nothing."""

    cluster: ClusterSection = ClusterSection()
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU where a worker offers one")
    label: LabelRunSection = LabelRunSection()
    image_seconds: float = Field(
        60.0, gt=0, description="processor time that decoding one image may take in ingest; then it is quarantined"
    )
    predict_batch: int = Field(32, ge=1, description="images a forward pass of an evaluation")
    train: TrainRunSection = TrainRunSection()
    attempts: int = Field(3, ge=1, description="tries of a shard before it counts as failed")
    retries: int = Field(3, ge=0, description="retries of a stage after a transient error")
    verify: bool = Field(False, description="re-hash cached outputs instead of trusting their size")
    retry_quarantined: bool = Field(False, description="try quarantined inputs again")
