"""What a scheduler shows of its work to browsers on its machine: workers and counts of tasks, as a page and as JSON.

Dask's own pages show keys, paths, stacks and logs to whoever asks; here are numbers and names of functions alone.
"""

from __future__ import annotations

import json
from collections import Counter
from html import escape
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes
from distributed.http.utils import RequestHandler

from infra.compute.cluster_spec import FIGURES

if TYPE_CHECKING:
    from distributed.scheduler import Scheduler

REFRESH_SECONDS = 3

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Stillroom: Dask</title>
<meta http-equiv="refresh" content="{refresh}">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 3rem auto; padding: 0 1rem; color: #1c2430 }}
table {{ border-collapse: collapse; width: 100% }} th, td {{ text-align: left; padding: .4rem .75rem }}
tr + tr td, th {{ border-bottom: 1px solid #d8dee6 }} td + td, th + th {{ text-align: right }}
small {{ color: #5b6675 }}
</style></head><body><h1>Dask</h1>
<table><tr><th>worker</th><th>threads</th><th>running</th><th>CPU</th><th>memory</th><th>of</th></tr>
{workers}
</table>
<h2>Work</h2>
<table><tr><th>function</th><th>waiting</th><th>at workers</th><th>done</th><th>failed</th></tr>
{work}
</table>
<p><small>Done and failed are kept as long as a run holds the results. Read again every {refresh} s.</small></p>
</body></html>
"""

_COLUMNS = {"waiting": "waiting", "no-worker": "waiting", "queued": "waiting", "processing": "at workers"}
_COLUMNS |= {"memory": "done", "erred": "failed"}


def figures(scheduler: Scheduler) -> dict[str, Any]:
    """JSON-safe: `workers` (name, threads, running, cpu in percent, memory and limit in bytes), `work` by function."""
    workers = [
        {
            "name": str(worker.name),
            "threads": worker.nthreads,
            "running": int(worker.metrics.get("task_counts", {}).get("executing", 0)),
            "cpu": round(float(worker.metrics.get("cpu", 0.0))),
            "memory": int(worker.metrics.get("memory", 0)),
            "limit": int(worker.memory_limit or 0),
        }
        for worker in scheduler.workers.values()
    ]
    work: dict[str, Counter[str]] = {}
    for task in scheduler.tasks.values():
        column = _COLUMNS.get(task.state)
        if column is not None:
            work.setdefault(task.prefix.name, Counter())[column] += 1
    return {
        "workers": sorted(workers, key=lambda worker: (len(worker["name"]), worker["name"])),
        "work": {name: dict(found) for name, found in sorted(work.items())},
    }


def page(found: dict[str, Any]) -> str:
    """HTML of the figures."""
    workers = [
        f"<tr><td>{escape(one['name'])}</td><td>{one['threads']}</td><td>{one['running']}</td><td>{one['cpu']} %</td>"
        f"<td>{format_bytes(one['memory'])}</td><td>{format_bytes(one['limit']) if one['limit'] else 'any'}</td></tr>"
        for one in found["workers"]
    ]
    work = [
        f"<tr><td>{escape(name)}</td>"
        + "".join(f"<td>{counts.get(column, 0)}</td>" for column in ("waiting", "at workers", "done", "failed"))
        + "</tr>"
        for name, counts in found["work"].items()
    ]
    nothing = '<tr><td colspan="{}">none</td></tr>'
    return _PAGE.format(
        workers="\n".join(workers) or nothing.format(6),
        work="\n".join(work) or nothing.format(5),
        refresh=REFRESH_SECONDS,
    )


class _Handler(RequestHandler):
    def get(self) -> None:
        # A page of another site may have its name resolve to this machine.
        if self.request.host.rpartition(":")[0] not in ("127.0.0.1", "localhost", "[::1]"):
            self.send_error(403)
            return
        found = figures(self.server)
        if self.request.path == FIGURES:
            self.set_header("content-type", "application/json")
            self.write(json.dumps(found))
        else:
            self.write(page(found))


routes: list[tuple[str, type[_Handler], dict[str, object]]] = [("/", _Handler, {}), (FIGURES, _Handler, {})]
