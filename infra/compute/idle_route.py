"""The one route that the Dask operator of Kubernetes asks a scheduler for: since when it has had no work.

Dask's own module of routes also retires workers for whoever asks.
"""

from __future__ import annotations

from distributed.http.scheduler.api import CheckIdleHandler

routes: list[tuple[str, type[CheckIdleHandler], dict[str, object]]] = [("/api/v1/check_idle", CheckIdleHandler, {})]
