"""A password, key or token in a spec is refused before anything keeps it, and never repeated."""

from __future__ import annotations

from typing import Any

import pytest

from infra.compute.cluster_spec import ClusterSection
from infra.errors import UsageError
from infra.secrets import refuse_secrets
from tasks.spec import parse_spec

PLANTED = "pLanted-s3cret"


@pytest.mark.parametrize(
    ("place", "values"),
    [
        ("store", {"store": f"s3://b/p?endpoint=http://u:{PLANTED}@h"}),
        ("corpus.root", {"corpus": {"root": f"s3://b/p?endpoint=http%3A%2F%2Fu%3A{PLANTED}%40h"}}),
        ("a.b[1]", {"a": {"b": ["x", f"https://{PLANTED}@host/x"]}}),
        ("connect_options.password", {"connect_options": {"password": PLANTED}}),
        ("connect_options.passphrase", {"connect_options": {"passphrase": PLANTED}}),
        ("env.AWS_SECRET_ACCESS_KEY", {"env": {"AWS_SECRET_ACCESS_KEY": PLANTED}}),
        ("env.HF_TOKEN", {"env": {"HF_TOKEN": PLANTED}}),
        ("env[0].value", {"env": [{"name": "AWS_SESSION_TOKEN", "value": PLANTED}]}),
        ("prologue[0]", {"prologue": [f"export AWS_SECRET_ACCESS_KEY={PLANTED}"]}),
        ("x", {"x": f"AKIA{'A' * 16}"}),
        ("x", {"x": f"-----BEGIN PRIVATE KEY-----{PLANTED}"}),
    ],
)
def test_a_secret_is_named_by_its_place_alone(place: str, values: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        refuse_secrets(values)
    assert place in str(refused.value)
    assert PLANTED not in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        {"model": "models:/dr-grading@champion", "store": "s3://b/p?endpoint=http://h:9000&region=eu-west-1"},
        {"container": {"envFrom": [{"secretRef": {"name": "s3-keys"}}]}, "tls_secret": "stillroom-dask"},
        {"connect_options": {"username": "me", "client_keys": ["~/.ssh/id_ed25519"]}},
        {"table": {"patient_pattern": r"^(\d+)_", "label": "DR", "key": "file"}},
    ],
)
def test_what_is_no_secret_passes(values: dict[str, Any]) -> None:
    refuse_secrets(values)
    assert values


def test_a_spec_with_a_wrong_key_and_a_secret_repeats_no_secret() -> None:
    with pytest.raises(UsageError) as refused:
        parse_spec(f"nonsense: 1\nstore: s3://b/p?endpoint=http://u:{PLANTED}@h\n")
    assert PLANTED not in str(refused.value)


def test_a_secret_in_a_preset_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "ours.yaml"
    path.write_text(f"kind: ssh\nssh: {{hosts: [a], connect_options: {{password: {PLANTED}}}}}\n")
    with pytest.raises(UsageError, match=r"run\.cluster\.ssh\.connect_options\.password") as refused:
        ClusterSection.model_validate({"preset": str(path)})
    assert PLANTED not in str(refused.value)
