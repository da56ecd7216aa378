"""Servers that are kept running: one that dies is started again, after a pause that doubles up to a bound.

Servers of somebody else, which run already, stand beside them: they are asked how they are, and left alone.
"""

from __future__ import annotations

import http.client
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.errors import StillroomError, TransientError
from infra.servers.server_process import ServerProcess, wait_for

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a server that died is started again, the first time and at most."""

STEADY_SECONDS = 300.0
"""A server that lived as long as that has recovered; its next pause is the first again."""

HEALTH_SECONDS = 3.0


@dataclass
class Service:
    """One server.

    Attributes:
        start: starts it as a child of this process; None: somebody else does.
        link: its pages for people; "" for none.
        health: URL of this machine that answers while it is well; "": it is well while it lives.
        asks: raises a StillroomError where it does not answer us; for servers of somebody else.
        says: one line for people on what it does now; may ask the service.
    """

    name: str
    start: Callable[[], ServerProcess] | None
    link: str = ""
    health: str = ""
    asks: Callable[[], None] = lambda: None
    says: Callable[[], str] = lambda: ""
    process: ServerProcess | None = None
    restarts: int = 0
    pause: float = FIRST_PAUSE
    since: float = field(default_factory=time.monotonic)
    due: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Name, state (running, silent or restarting), link, restarts, log, says."""
        state, log, says = "restarting", "", ""
        if self.start is None:
            state, log, says = "running", "", "not ours: used, neither started nor stopped"
            try:
                self.asks()
            except StillroomError as error:
                state, says = "silent", str(error)
        elif self.process is not None:
            state = "running" if answers(self.health) else "silent"
            log, says = str(self.process.log), self.says()
        return {
            "name": self.name,
            "state": state,
            "link": self.link,
            "restarts": self.restarts,
            "log": log,
            "says": says,
        }


def answers(url: str) -> bool:
    """Whether a URL of this machine answers; True where there is none to ask."""
    if not url:
        return True
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=HEALTH_SECONDS):
            return True
    except (OSError, http.client.HTTPException):
        return False


class Supervisor:
    """Services in the order in which they need each other; stopped in the opposite one.

    Args:
        say: told of every death and restart.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.services: list[Service] = []

    def start(self, services: Sequence[Service]) -> None:
        """Start services and wait until they are well.

        Raises:
            TransientError: one ends at once or does not answer; its log is quoted.
        """
        for service in services:
            self.services.append(service)
            if service.start is not None:
                service.process = service.start()
        for service in services:
            if service.health and service.process is not None:
                wait_for(service.health, service.process)

    def watch(self, over: threading.Event) -> None:
        """Start again what dies, until `over` is set; call from the main thread."""
        while not over.wait(0.5):
            for service in self.services:
                self._look(service)

    def _look(self, service: Service) -> None:
        now = time.monotonic()
        if service.start is None:
            return
        if service.process is None:
            if now < service.due:
                return
            service.restarts, service.since = service.restarts + 1, now
            try:
                service.process = service.start()
            except (StillroomError, OSError) as error:
                self._ended(service, error)
            else:
                self._say(f"{service.name}: started again")
            return
        try:
            service.process.check()
            service.process.bound_log()
        except TransientError as error:
            if now - service.since > STEADY_SECONDS:
                service.pause = FIRST_PAUSE
            self._ended(service, error)

    def _ended(self, service: Service, error: Exception) -> None:
        service.process = None
        service.due = time.monotonic() + service.pause
        self._say(f"{service.name}: {error}\n{service.name}: starts again in {service.pause:g} s")
        service.pause = min(LONGEST_PAUSE, 2 * service.pause)

    def stop(self) -> None:
        """End all, the last first."""
        for service in reversed(self.services):
            if service.process is not None:
                service.process.stop()
