"""The cluster handle: lazy, local by default, or an existing scheduler."""

from __future__ import annotations

import os

import pytest
from pydantic import ValidationError

from infra.cluster import Cluster
from infra.cluster_spec import ClusterSection
from infra.errors import TransientError
from infra.prefect_api import free_port
from infra.settings import reload_settings


def environment(name: str) -> str | None:
    return os.environ.get(name)


def test_nothing_starts_before_it_is_needed() -> None:
    with Cluster(ClusterSection(workers=2)) as handle:
        assert handle._client is None


def test_an_existing_scheduler_is_used_and_left_alone(cluster: Cluster) -> None:
    address = cluster.client.scheduler.address
    with Cluster(ClusterSection(kind="address", address=address)) as guest:
        assert guest.slots == cluster.slots
        assert guest.client.submit(environment, "PATH").result() == os.environ["PATH"]
    assert cluster.client.submit(environment, "PATH").result() == os.environ["PATH"]


def test_a_scheduler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_WORKER_TIMEOUT", "1")
    reload_settings()
    address = f"tcp://127.0.0.1:{free_port()}"
    try:
        with (
            Cluster(ClusterSection(kind="address", address=address)) as handle,
            pytest.raises(TransientError, match=address),
        ):
            handle.client  # noqa: B018
    finally:
        monkeypatch.undo()
        reload_settings()


def test_workers_do_not_give_memory_back_at_every_tensor(cluster: Cluster) -> None:
    assert cluster.client.submit(environment, "MALLOC_TRIM_THRESHOLD_").result() == str(1 << 30)


def test_a_resource_that_nobody_declares_is_not_offered(cluster: Cluster) -> None:
    assert not cluster.offers("TAPE-ROBOT")


@pytest.mark.parametrize("values", [{"kind": "address"}, {"address": "tcp://h:1"}])
def test_an_address_goes_with_its_kind(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"cluster\.address"):
        ClusterSection(**values)  # type: ignore[arg-type]
