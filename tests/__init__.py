"""The tests. This runs before any of them imports numpy."""

from infra.process_start import begin_process

begin_process()
