"""Asking a person about a version: one waiting run of `promote` for a version, and for a model the newest one alone.

An older run that still waits is cancelled, not left: who came to it a day later would put an older student over a newer
one that passed the same gate. A question that somebody cancelled is not asked again; the deployment's form asks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.automations import ASKS

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, StateType

FLOW = "promote"
"""Name of the flow, and of its deployments: `promote/<name of the spec>`."""

RUNS = 200
"""Runs that are looked at for a model."""


@dataclass(frozen=True)
class Asked:
    """The run in which a person is asked.

    Attributes:
        link: to its page; "" where Prefect's address for people is not known.
        new: it was started by this question.
    """

    run_id: str
    link: str
    new: bool


def tags_of(model: str, version: str) -> list[str]:
    """Tags of a run that asks about a version, by which it is found again."""
    return [ASKS, _model_tag(model), f"version:{version}"]


def version_of_tags(tags: list[str]) -> str:
    """The version that tags of a run name; "" for none."""
    return next((tag.removeprefix("version:") for tag in tags if tag.startswith("version:")), "")


def ask(model: str, version: str) -> Asked | None:
    """Start the run that asks a person, or find the one that waits; never waits for the answer.

    Returns:
        None where nobody is asked: no deployment of `promote` is of this model, or somebody cancelled the question.
    """
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        waiting = _runs(client, model, _live())
        found = next((run for run in waiting if version_of_tags(run.tags) == version), None)
        new = found is None
        if found is None:
            deployment = _deployment(client, model)
            if deployment is None:
                return None
            found = client.create_flow_run_from_deployment(
                deployment,
                parameters={"model": model, "version": int(version)},
                name=title(model, version),
                tags=tags_of(model, version),
                idempotency_key=f"{model}/{version}/{_failures(client, model, version)}",
            )
            if found.state is not None and found.state.is_final():
                return None
        supersede(client, model, version, but=found.id)
        return Asked(str(found.id), link_of(found.id), new)


def title(model: str, version: str) -> str:
    """Name of a run that asks."""
    return f"{model} version {version}" if version else model


def link_of(run_id: object) -> str:
    """Address of a run's page; "" where Prefect does not know where its pages are."""
    from prefect.utilities.urls import url_for

    return url_for("flow-run", obj_id=str(run_id)) or ""


def supersede(client: SyncPrefectClient, model: str, version: str, *, but: UUID) -> None:
    """Cancel the runs that wait with older versions of a model.

    Args:
        but: the run that asks about `version`.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.states import Cancelled

    # A run that somebody answered this moment is left: it checks again what it does.
    for run in _runs(client, model, [StateType.PAUSED, StateType.SCHEDULED]):
        other = version_of_tags(run.tags)
        if run.id != but and other.isdigit() and int(other) < int(version):
            why = f"version {version} is offered by now: {link_of(but) or but}"
            client.set_flow_run_state(run.id, Cancelled(message=why), force=True)


def asking_already(client: SyncPrefectClient, model: str, version: str, *, but: UUID) -> FlowRun | None:
    """Another run that asks about the same version and has not ended."""
    live = _runs(client, model, _live())
    return next((run for run in live if run.id != but and version_of_tags(run.tags) == version), None)


def _deployment(client: SyncPrefectClient, model: str) -> UUID | None:
    """The deployment that asks about a model: of one name where `stillroom deploy` made it, of any where others did."""
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import DeploymentSort

    ours = FlowFilter(name=FlowFilterName(any_=[FLOW]))
    found = client.read_deployments(flow_filter=ours, sort=DeploymentSort.UPDATED_DESC, limit=RUNS)
    return next((one.id for one in found if one.parameters.get("model") == model), None)


def _failures(client: SyncPrefectClient, model: str, version: str) -> int:
    """Runs that ended without an answer through no fault of a person: the question is asked again after each."""
    from prefect.client.schemas.objects import StateType

    ended = _runs(client, model, [StateType.FAILED, StateType.CRASHED])
    return sum(version_of_tags(run.tags) == version for run in ended)


def _live() -> list[StateType]:
    from prefect.client.schemas.objects import StateType

    return [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED]


def _runs(client: SyncPrefectClient, model: str, states: list[StateType]) -> list[FlowRun]:
    """Runs that ask about versions of a model, the newest first."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
        FlowRunFilterTags,
    )
    from prefect.client.schemas.sorting import FlowRunSort

    wanted = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[ASKS, _model_tag(model)]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
    )
    return list(client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.ID_DESC, limit=RUNS))


def _model_tag(model: str) -> str:
    return f"model:{model}"
