"""Prefect's automations for who is not watching: failures, refusals, drift and questions are told, dead runs named.

They are known by their names, so that a second command changes the first's. Prefect has no action that writes a log:
the runs log their events themselves.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from infra.errors import UsageError

if TYPE_CHECKING:
    from prefect.events.actions import ActionTypes
    from prefect.events.schemas.automations import AutomationCore, EventTrigger

TAG = "stillroom"
"""Of the runs that work."""

ASKS = "stillroom-asks"
"""Of runs of `promote`. They send no heartbeat while they wait, and one that comes in late must not end them."""

REFUSED = "stillroom.student.refused"
"""Event of a run whose student did not pass the gate; its resource is `stillroom.spec.NAME`."""

DRIFTED = "stillroom.images.drifted"
"""Event of a run whose images differ from the champion's."""

OFFERED = "stillroom.student.offered"
"""Event of a run whose student waits for approval; its payload has a link to the run that asks."""

HEARTBEAT_SECONDS = 30
SILENT_SECONDS = 90
"""A run that was silent as long as that is dead."""

WEBHOOK = "stillroom-notify"

_ENDS = ("Completed", "Failed", "Cancelled", "Crashed", "Cancelling", "Paused", "Suspended", "Scheduled")


def automate(webhook: str | None) -> list[dict[str, Any]]:
    """Make or change the automations; an API must be known. JSON-safe: name, changed.

    Args:
        webhook: URL that gets a POST of JSON for every notice; None: notices stand in Prefect's event feed alone.

    Raises:
        UsageError: it is no HTTP address.
    """
    from prefect.client.orchestration import get_client

    if webhook is not None and urlsplit(webhook).scheme not in ("http", "https"):
        raise UsageError("--webhook: give an address that begins with https:// or http://")
    done = []
    with get_client(sync_client=True) as client:
        for automation in _automations(_notice(webhook)):
            known = client.read_automations_by_name(automation.name)
            for old in known[:1]:
                client.update_automation(old.id, automation)
            if not known:
                client.create_automation(automation)
            done.append({"name": automation.name, "changed": bool(known)})
    return done


def _notice(webhook: str | None) -> ActionTypes:
    """What happens to tell a person; the address is kept by Prefect as a secret."""
    from prefect.blocks.webhook import Webhook
    from prefect.events.actions import CallWebhook, DoNothing

    if webhook is None:
        return DoNothing()
    block: Any = Webhook(method="POST", url=webhook).save(WEBHOOK, overwrite=True)
    return CallWebhook(
        block_document_id=block,
        payload='{"automation": "{{ automation.name }}", "event": "{{ event.event }}", '
        '"run": "{{ flow_run.name if flow_run else event.resource.name }}", '
        '"message": {{ (event.payload.get("validated_state", event.payload).get("message") or "") | tojson }}, '
        '"link": {{ (event.payload.get("link") or "") | tojson }}}',
    )


def _automations(notice: ActionTypes) -> list[AutomationCore]:
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    dead = EventTrigger(
        **_runs(TAG),
        after={"prefect.flow-run.heartbeat"},
        expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{end}" for end in _ENDS)},
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=timedelta(seconds=SILENT_SECONDS),
    )
    failed = _once({"prefect.flow-run.Failed", "prefect.flow-run.Crashed"}, _runs(TAG, ASKS))
    specs: dict[str, Any] = {"match": {"prefect.resource.id": "stillroom.spec.*"}}
    refused, drifted, offered = (_once({event}, specs) for event in (REFUSED, DRIFTED, OFFERED))
    silent = f"silent for {SILENT_SECONDS} s: the process that ran it is gone"
    # Never by force: it would crash a run that is well and suspended.
    crash = ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=silent, force=False)
    return [
        AutomationCore(name="stillroom: dead runs are Crashed", trigger=dead, actions=[crash]),
        AutomationCore(name="stillroom: tell of failures", trigger=failed, actions=[notice]),
        AutomationCore(name="stillroom: tell of refused students", trigger=refused, actions=[notice]),
        AutomationCore(name="stillroom: tell of drift", trigger=drifted, actions=[notice]),
        AutomationCore(name="stillroom: tell of students that wait", trigger=offered, actions=[notice]),
    ]


def _runs(*tags: str) -> dict[str, Any]:
    """Events of flow runs that have one of these tags."""
    return {
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {
            "prefect.resource.role": "tag",
            "prefect.resource.id": [f"prefect.tag.{tag}" for tag in tags],
        },
    }


def _once(events: set[str], resources: dict[str, Any]) -> EventTrigger:
    """Fires at every such event."""
    from prefect.events.schemas.automations import EventTrigger, Posture

    return EventTrigger(**resources, expect=events, posture=Posture.Reactive, threshold=1, within=timedelta(0))
