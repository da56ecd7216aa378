"""Deployments of specs on a Prefect server: what runs when, and in which work pool.

For each spec: `retrain` by cron, `ingest` as a poll for new files and on the event `stillroom.new-files`, `verify` of
its store once a week, `promote` by hand and for each version that a retrain offers. Their name is the spec's; a second
deployment of a spec changes the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.automations import ASKS, HEARTBEAT_SECONDS, TAG
from flows.spec_files import find_spec
from flows.timetable import Timetable
from infra.errors import UsageError
from tasks.spec import Spec, load_spec

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.deployments.runner import RunnerDeployment
    from prefect.schedules import Schedule

CPU_POOL, GPU_POOL = "stillroom-cpu", "stillroom-gpu"
NEW_FILES = "stillroom.new-files"
"""Event that starts an ingest; its resource is `stillroom.spec.NAME`."""


@dataclass(frozen=True)
class Deployed:
    """One deployment as it was applied."""

    name: str
    pool: str
    schedule: str
    changed: bool

    def to_json(self) -> dict[str, Any]:
        """JSON-safe."""
        return {"name": self.name, "pool": self.pool, "schedule": self.schedule, "changed": self.changed}


def read_specs(given: Sequence[str]) -> dict[Path, Spec]:
    """Specs by absolute path, read and checked.

    Raises:
        UsageError: one is wrong, or two have one name.
    """
    found: dict[Path, Spec] = {}
    for text in given:
        path = find_spec(text).absolute()
        spec = load_spec(path)
        for other, known in found.items():
            if known.name == spec.name and other != path:
                raise UsageError(f"{other} and {path} have one name, {spec.name}; deployments are told apart by it")
        found[path] = spec
    return found


def deploy(specs: dict[Path, Spec], times: Timetable, pool: str | None = None) -> list[Deployed]:
    """Apply the deployments of specs; an API must be known (see `infra.servers.prefect_api.prefect_api`).

    Args:
        specs: by absolute path; see `read_specs`.
        pool: a work pool for all; default: `stillroom-gpu` where a spec asks for a GPU, else `stillroom-cpu`.

    Raises:
        UsageError: a schedule is wrong, or a name is that of a deployment of another spec file.
    """
    from prefect.client.orchestration import get_client

    _check(times)
    planned = [
        (path, made) for path, spec in specs.items() for made in deployments(path, spec, times, pool or pool_of(spec))
    ]
    with get_client(sync_client=True) as client:
        existing = {made.full_name: _spec_of(client, made.full_name) for _, made in planned}
        for path, made in planned:
            other = existing[made.full_name]
            if other and Path(other) != path and Path(other).exists():
                raise UsageError(
                    f"{made.full_name} is deployed already, of {other}; give one of both specs another name, or delete "
                    f"it: prefect deployment delete '{made.full_name}'"
                )
        for name in dict.fromkeys(made.work_pool_name for _, made in planned):
            make_pool(client, str(name))
    for _, made in planned:
        made.apply()
    return [
        Deployed(made.full_name, str(made.work_pool_name), _shown(made, times), existing[made.full_name] is not None)
        for _, made in planned
    ]


def pool_of(spec: Spec) -> str:
    """The default work pool of a spec: where its drivers run."""
    return GPU_POOL if spec.run.device == "cuda" else CPU_POOL


def make_pool(client: SyncPrefectClient, name: str) -> None:
    """Make a work pool for processes unless there is one of that name, of whatever type."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        try:
            client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
        except ObjectAlreadyExists:
            return  # another command was faster


def deployments(path: Path, spec: Spec, times: Timetable, pool: str) -> list[RunnerDeployment]:
    """What a spec is deployed as, not applied.

    Args:
        path: of its file, absolute: a worker starts elsewhere.
    """
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.deployments.runner import EntrypointType, RunnerDeployment
    from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
    from prefect.schedules import Cron, Interval

    from flows.approve import approve
    from flows.ingest import ingest
    from flows.retrain import retrain
    from flows.verify import verify

    def by_cron(cron: str) -> Schedule | None:
        return Cron(cron, timezone=times.timezone) if cron else None

    poll = Interval(timedelta(minutes=times.poll_minutes)) if times.poll_minutes else None
    arrival = DeploymentEventTrigger(
        name=f"ingest {spec.name} on new files",
        expect={NEW_FILES},
        match={"prefect.resource.id": f"stillroom.spec.{spec.name}"},
    )
    # A run that was approved while another one asks must not be cancelled: `promote` has no limit.
    alone = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    of_spec, of_model = {"spec": str(path)}, {"model": spec.register_.name or spec.name}
    made = []
    for flow, schedule, trigger, parameters, limit in (
        (retrain, by_cron(times.cron), None, of_spec, alone),
        (ingest, poll, arrival, of_spec, alone),
        (verify, by_cron(times.verify_cron), None, of_spec, alone),
        (approve, None, None, of_model, None),
    ):
        made.append(
            RunnerDeployment.from_flow(
                flow,
                spec.name,
                # An empty list takes away what an earlier deployment scheduled; None would leave it.
                schedules=[schedule] if schedule is not None else [],
                # Nothing is scheduled of `promote`, and a paused deployment would not ask.
                paused=times.paused and flow is not approve,
                parameters=parameters,
                concurrency_limit=limit,
                triggers=[trigger] if trigger is not None else [],
                tags=[ASKS if flow is approve else TAG],
                # By it Prefect notices that a run is dead; see `stillroom automate`.
                job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)}},
                work_pool_name=pool,
                entrypoint_type=EntrypointType.MODULE_PATH,
            )
        )
    return made


def _check(times: Timetable) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    for option, cron in (("--cron", times.cron), ("--verify-cron", times.verify_cron)):
        if cron:
            try:
                CronSchedule(cron=cron, timezone=times.timezone)
            except ValueError as error:
                why = str(error).partition("\n")[2].strip().partition(" [")[0] or error
                raise UsageError(f"{option} {cron!r}, --timezone {times.timezone}: {why}") from None
    if times.poll_minutes < 0:
        raise UsageError("--poll-minutes is at least 0")


def _spec_of(client: SyncPrefectClient, name: str) -> str | None:
    """The spec file that a deployment names; "" where it names none, None where there is no such deployment."""
    from prefect.exceptions import ObjectNotFound

    try:
        return str(client.read_deployment_by_name(name).parameters.get("spec", ""))
    except ObjectNotFound:
        return None


def _shown(made: RunnerDeployment, times: Timetable) -> str:
    if not made.schedules:
        return "by hand"
    cron = getattr(made.schedules[0].schedule, "cron", None)
    when = f"cron {cron} ({times.timezone})" if cron else f"every {times.poll_minutes:g} min"
    return f"{when}, paused" if times.paused else when
