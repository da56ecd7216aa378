"""Flow `promote`: a person decides whether a version that passed the gate becomes the champion.

Purpose: one run for each offered version. It suspends itself, so that no process waits, until somebody answers the form
of its page; then it checks again what the person was told, and promotes as `stillroom promote` does, or records the
refusal. Resumed, the flow runs from its top: it is therefore one of its own, and never a part of a retrain.
Cache policy: none.
Environment: `STILLROOM_*` and `MLFLOW_TRACKING_*` (see README) of the worker; MLflow must be reachable.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run as this_run
from prefect.states import Cancelled, Completed
from pydantic import Field

from flows.asking import FLOW, asking_already, link_of, supersede, tags_of, title, version_of_tags
from infra.errors import UsageError
from infra.servers.flow_runs import own_this_run
from infra.servers.tracking_user import tracking_user
from tasks.pipeline.stage import Artifact, slug
from tasks.prefect_tasks import publish
from tasks.register.aliases import who_text
from tasks.register.champion import promote
from tasks.register.offers import Offer, offer, refuse

APPROVED, REFUSED = "Approved", "Refused"
"""Names of the states in which a run ends."""


class Answer(RunInput):
    """What a person answers."""

    decision: Literal["approve", "refuse"] = Field(
        title="Decision",
        description="approve: this version becomes the champion, which serves. "
        "refuse: the champion stays, and this version is not offered again.",
        json_schema_extra={"position": 0},
    )
    name: str = Field(
        title="Your name",
        description="Recorded in the registry as you type it; nobody checks it.",
        pattern=r"\S",
        json_schema_extra={"position": 1},
    )
    reason: str = Field(
        title="Reason",
        description="One sentence, such as what you looked at; recorded in the registry.",
        pattern=r"\S",
        json_schema_extra={"position": 2},
    )


def run_name() -> str:
    """Name of a run in the pages: the model, and the version once it is known."""
    return title(str(this_run.parameters["model"]), version_of_tags(list(this_run.tags)))


@flow(name=FLOW, flow_run_name=run_name, persist_result=False)
def approve(model: str, version: Annotated[int, Field(ge=0)] = 0) -> Any:
    """Ask a person whether a version of a model becomes the champion, and do what they say.

    Args:
        model: Name of the registered model.
        version: Number of the version that is offered; 0 for the newest one that passed the gate.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None:
        raise UsageError("this flow runs on a Prefect server, from its deployment: stillroom deploy SPEC")
    own_this_run(run)
    keys = run.empirical_policy.pause_keys or set()
    resumed = next(iter(keys), None)
    if resumed is None:
        offered = offer(model, str(version or ""))
        already = _prepare(run, offered)
        if already is not None:
            return already
        form: type[Answer] = Answer.with_initial_data(description=question(offered))
        suspend_flow_run(wait_for_input=form, key=f"answer-{run.run_count}")
    answer = suspend_flow_run(wait_for_input=Answer, key=str(resumed))
    return _decide(model, version_of_tags(run.tags), answer)


def _prepare(run: FlowRun, offered: Offer) -> State[Any] | None:
    """Make a run the one that asks; a state to end in where another one does."""
    name, version = offered.name, offered.version
    with get_client(sync_client=True) as client:
        other = asking_already(client, name, version, but=run.id)
        if other is not None:
            return Cancelled(message=f"{title(name, version)} waits already: {link_of(other.id) or other.name}")
        supersede(client, name, version, but=run.id)
        publish(Artifact(f"offer-of-{slug(name)}", f"{title(name, version)} waits for a decision", _page(offered)))
        # Without the tag of this process, which ends now: the run is not dead while it waits.
        client.update_flow_run(run.id, name=title(name, version), tags=tags_of(name, version))
    return None


def _decide(model: str, version: str, answer: Answer) -> State[Any]:
    """Do what a person said; the state that tells it."""
    if answer.decision == "approve":
        move = promote(model, version, by=answer.name, reason=answer.reason, offered=True)
        was = f"version {move.before}" if move.before else "nobody"
        who, name = who_text(move.by, move.user), APPROVED
        said = f"{title(model, version)} is the champion now, it was {was}"
    else:
        refusal = refuse(model, version, by=answer.name, reason=answer.reason)
        who, name = who_text(refusal.by, refusal.user), REFUSED
        said = f"{title(model, version)} is refused and not offered again; the champion stays"
    text = f"{said}. By {who}: {answer.reason.strip()}"
    publish(Artifact(f"decision-on-{slug(model)}", said, f"# {said}\n\nBy {who}:\n\n> {answer.reason.strip()}\n"))
    return Completed(name=name, message=text)


def question(offered: Offer) -> str:
    """What stands above the form, Markdown."""
    serves = f"version {offered.champion} serves now" if offered.champion else "nobody serves now"
    user = tracking_user()
    identity = (
        f"MLflow is asked as its user `{user}`, that of the worker; your name is recorded as you type it. To be "
        f"recorded as yourself, cancel this run and use `stillroom promote {offered.name} --version "
        f"{offered.version}` with your own user of MLflow."
        if user
        else "MLflow here knows no users: your name is recorded as you type it, and nobody checks it."
    )
    parts = [
        f"**Does version {offered.version} of {offered.name} become the champion?** It passed the gate; {serves}. The "
        "whole description is this run's artifact, the report lies in MLflow.",
        section_of(offered.description, "Figures"),
        identity,
    ]
    return "\n\n".join(filter(None, parts))


def section_of(description: str, heading: str) -> str:
    """The text below a heading of the third level, up to the next one; "" where there is none."""
    return f"\n{description}".partition(f"\n### {heading}\n")[2].partition("\n### ")[0].strip()


def _page(offered: Offer) -> str:
    serves = f"Version {offered.champion} serves now" if offered.champion else "Nobody serves now"
    return (
        f"# {title(offered.name, offered.version)} waits for a decision\n\n{serves}. Choose **Resume** in the menu at "
        f"the top right of this run's page to approve or refuse.\n\n{offered.description}"
    )
