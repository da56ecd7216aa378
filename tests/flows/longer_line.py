"""The command `stillroom` with a toy stage behind the ingest: the one line that it takes to add one."""

from __future__ import annotations

import flows.line
import flows.run
from flows.cli import main
from flows.line import line
from tasks.pipeline.graph import Graph
from tasks.spec import Spec
from tests.tasks.pipeline.toy import TOY


def longer(spec: Spec) -> Graph:
    """The line and the toy stage."""
    graph = line(spec)
    graph.add(TOY, "toy", "store a number", inputs={"corpus": graph.steps[0]}, number=3)
    return graph


if __name__ == "__main__":
    flows.line.line = flows.run.line = longer
    main()
