"""An artifact of a flow run that changes while the run goes on."""

from __future__ import annotations

from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client

from infra.servers.telling import tell
from tasks.pipeline.stage import Artifact


class LivePage:
    """One page in several states; the newest stands above the run's other artifacts, earlier ones are deleted."""

    def __init__(self) -> None:
        self._shown: list[Any] = []

    def show(self, page: Artifact, *, wait: bool = False) -> None:
        """Show a state of the page.

        Args:
            wait: for an API that is gone; else this state is lost, and the next one takes its place.
        """
        tell(lambda: self._replace(page), page.key, wait=wait)

    def _replace(self, page: Artifact) -> None:
        before = list(self._shown)
        self._shown.append(create_markdown_artifact(str(page.content), key=page.key, description=page.description))
        with get_client(sync_client=True) as client:
            for one in before:
                client.delete_artifact(one)
                self._shown.remove(one)
