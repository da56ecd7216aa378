"""How a stage runs: found, made, committed."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import CancelledError
from infra.storage.manifest import Manifest
from infra.storage.store import LocalStore
from tasks.pipeline.context import Context
from tasks.pipeline.stage import run_stage
from tests.tasks.pipeline.toy import Toy, toy


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(LocalStore(tmp_path / "store"))


def test_what_is_not_there_is_made_and_committed(context: Context) -> None:
    result = toy(context)
    assert (result.cached, result.message) == (False, "made 1 of 1")
    assert context.cache.lookup("toy", result.manifest.key) is not None


def test_what_is_there_is_found(context: Context) -> None:
    first, again = toy(context), toy(context)
    assert (again.cached, again.message, again.manifest) == (True, "1 of 1 outputs found", first.manifest)


def test_a_lost_output_is_made_again(context: Context) -> None:
    output = toy(context).manifest.outputs[0]
    context.store.delete(output.name)
    assert not toy(context).cached
    assert context.store.get(output.name) == b"1"


def test_a_manifest_that_is_not_confirmed_is_made_again(context: Context) -> None:
    class Withdrawn(Toy):
        def confirmed(self, manifest: Manifest) -> bool:
            return False

    toy(context)
    assert not run_stage(Withdrawn(context, (), 1)).cached


def test_finish_follows_a_hit_as_well_as_a_commit(context: Context) -> None:
    seen: list[str] = []

    class Finishing(Toy):
        def finish(self, manifest: Manifest) -> None:
            seen.append(manifest.key)

    work = [Finishing(context, (), 1) for _ in range(2)]
    for one in work:
        run_stage(one)
    assert seen == [work[0].key] * 2


def test_a_run_that_was_asked_to_stop_makes_nothing(tmp_path: Path) -> None:
    context = Context(LocalStore(tmp_path / "store"), stop=lambda: True)
    work = Toy(context, (), 1)
    with pytest.raises(CancelledError):
        run_stage(work)
    assert work.calls == 0


def test_binding_key_and_lookup_write_nothing(tmp_path: Path) -> None:
    work = Toy(Context(LocalStore(tmp_path / "store")), (), 1)
    assert work.key
    assert work.lookup() is None
    assert not (tmp_path / "store").exists()
