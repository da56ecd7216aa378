"""The study of guidance by several teachers (paper 2, arXiv 2308.08731): responses, features, relations, fusion.

The full text of the paper was not read: its teachers, the layers and forms of its losses, the attention's heads and
queries, splits and figures are not known to us. The arms follow its abstract [our reading].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infra.errors import SpecError
from tasks.spec.arms import TAUGHT
from tasks.study.design import Base, Cell, Condition, Contrast, Study, chosen_arms

CLAIM = (
    "Several teachers guide a small student (51.8k parameters) best where multi-head attention fuses their features, "
    "better than where they are averaged (abstract of arXiv 2308.08731; we have seen no table of it)."
)
OPEN = (
    "Not known to us, since we have not read the full paper: its teachers and their number, the student's layers, "
    "temperature and weights, the form of the losses on features and relations and the layers that they read, heads "
    "and queries of the attention, image size, splits and figures.",
)
FUSED: dict[str, dict[str, Any]] = {
    "attention_student_query": {"query": "student"},
    "attention_cosine": {"distance": "cosine"},
    "attention_feed_forward": {"feed_forward": True},
    "attention_one_head": {"heads": 1},
}
"""Options of the fusion that the paper's abstract leaves open; the arm `taught` has self-attention over the teachers'
pooled features, four heads and a squared distance, since these need nothing but stored features."""
SPATIAL: dict[str, dict[str, Any]] = {"attention_spatial": {}, "attention_spatial_student": {"query": "student"}}
LABELS, RESPONSE, FEATURE, RELATION, EBKD = "labels", "response", "feature", "relation_average", "ebkd"
DEFAULT = (TAUGHT, LABELS, RESPONSE, FEATURE, RELATION, EBKD)
BUDGET = 51_800
"""Trainable parameters of the paper's student."""


def guidance(base: Base, wanted: Sequence[str] = ()) -> Study:
    """The study on a spec.

    Args:
        wanted: arms; none: `DEFAULT` and each single teacher.

    Raises:
        SpecError: fewer than two trained teachers, or an arm is unknown.
    """
    teachers = [teacher.name for teacher in base.spec.teachers if teacher.train is not None]
    wholes = list(dict.fromkeys(t.whole for t in base.spec.teachers if t.train is not None))
    if len(wholes) < 2:
        raise SpecError(
            f"{base.where}: arm {TAUGHT}: teachers: this study fuses at least two, and {len(wholes)} of this spec "
            f"{'is' if len(wholes) == 1 else 'are'} trained; add another of another family, with `train:`"
        )
    known, titles = _arms(base, teachers)
    default = [name for name in known if name in DEFAULT or name.startswith("single-")]
    arms = chosen_arms(known, wanted, (RELATION, TAUGHT), default)
    raw = [{**teacher, "features": teacher.get("features", "pooled")} for teacher in base.raw["teachers"]]
    condition = Condition("all", "all labels", {"teachers": raw}, arms)
    contrasts = [Contrast(Cell("all", arm), Cell("all", LABELS)) for arm in arms if arm != LABELS and LABELS in arms]
    families = {teacher.model.partition("_")[0] for teacher in base.spec.teachers if teacher.train is not None}
    notes = list(OPEN)
    if len(families) < 2:
        notes.append(
            f"The teachers are of one family ({', '.join(sorted(families))}): what teachers of different families add "
            "cannot be seen here."
        )
    return Study(
        kind="guidance",
        paper="arXiv 2308.08731",
        claim=CLAIM,
        conditions=[condition],
        titles={name: titles[name] for name in arms},
        primary=Contrast(Cell("all", TAUGHT), Cell("all", RELATION)),
        contrasts=contrasts,
        notes=notes,
        budget=BUDGET,
    )


def _arms(base: Base, teachers: Sequence[str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    network = {**base.network(), "train": base.train(base.section.steps)}
    both = [*base.labels, base.soft]
    # Fusion and hints read stored features of one vector an image.
    pooled = {"student_taps": ["pooled"]}
    maps = {"student_taps": ["features"], "teacher_taps": ["features"]}
    arms: dict[str, dict[str, Any]] = {
        TAUGHT: {**network, "loss": [*both, {"loss": "fusion", **pooled}]},
        LABELS: {**network, "pool": "labelled", "loss": base.labels},
        **{f"single-{name}": {**network, "loss": [*base.labels, {**base.soft, "teacher": name}]} for name in teachers},
        RESPONSE: {**network, "loss": both},
        FEATURE: {**network, "loss": [*both, {"loss": "fitnets", **pooled}]},
        RELATION: {**network, "loss": [*both, {"loss": "rkd", **pooled}]},
        EBKD: {**network, "loss": [*base.labels, {**base.soft, "teachers": "entropy"}]},
        **{
            name: {**network, "loss": [*both, {"loss": "fusion", **pooled, "options": own}]}
            for name, own in FUSED.items()
        },
        **{
            name: {
                # Maps of teachers are too large to be stored.
                **{**network, "teacher": "online", "targets": "view"},
                "loss": [*both, {"loss": "fusion", **maps, "options": {"tokens": "spatial", **own}}],
            }
            for name, own in SPATIAL.items()
        },
        "ca-mkd": {**network, "loss": [*base.labels, {**base.soft, "teachers": "confidence"}]},
        "ae-kd": {**network, "loss": [*base.labels, {**base.soft, "teachers": "aekd"}]},
        **{name: {**network, "loss": [*both, {"loss": name, **pooled}]} for name in ("similarity", "pkt")},
    }
    if base.task == "single" and len(base.classes) > 2:
        arms["dkd"] = {**network, "loss": [*base.labels, {"loss": "dkd"}]}
        arms["dist"] = {**network, "loss": [*base.labels, {"loss": "dist"}]}
        arms["standardised"] = {**network, "loss": [*base.labels, {**base.soft, "standardise": True}]}
    titles = {
        TAUGHT: "relations, fused by multi-head attention",
        LABELS: "labels alone",
        **{f"single-{name}": f"responses of {name} alone" for name in teachers},
        RESPONSE: "responses of all, averaged",
        FEATURE: "responses and features (hints), averaged",
        RELATION: "responses and relations, averaged",
        EBKD: "responses weighed by entropy (EBKD)",
        "attention_student_query": "fused by attention, the student asks",
        "attention_cosine": "fused by attention, distance by cosine",
        "attention_feed_forward": "fused by attention and a feed-forward layer",
        "attention_one_head": "fused by attention of one head",
        "attention_spatial": "fused by attention over positions",
        "attention_spatial_student": "fused by attention over positions, the student asks",
        "ca-mkd": "responses weighed by confidence (CA-MKD)",
        "ae-kd": "responses weighed by gradients (AE-KD)",
        "similarity": "responses and similarities of a batch, averaged",
        "pkt": "responses and probabilities of neighbours (PKT), averaged",
        "dkd": "decoupled responses (DKD), averaged",
        "dist": "correlated responses (DIST), averaged",
        "standardised": "standardised responses, averaged",
    }
    return arms, titles
