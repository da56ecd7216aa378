"""Which manifests of a store are still needed: those that can be reached from its roots.

Roots are the heads, the registered versions and what recent runs ended with. A manifest refers to all
that it was made from: each digest, key or id in its inputs, section or facts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from infra.errors import CorruptError, PermanentError
from infra.storage.manifest import REMEDY, Manifest
from infra.storage.store import Store
from tasks.maintenance.store_contents import HEADS, StoreContents, read_documents
from tasks.maintenance.under_way import parse_run_record

_DIGEST = re.compile(r"[0-9a-f]{64}")
_REGISTERED = "manifests/register/"
_REPORTS = ("label-card", "compare")
_SHOWN = 5  # versions that a message names


def reachable(contents: StoreContents, roots: Iterable[str]) -> set[str]:
    """Names of the manifests that the roots lead to.

    Args:
        roots: names, keys or digests of manifests, or ids of outputs; those that this store does not know are
            passed over, because a registry serves several stores.
    """
    known: dict[str, set[str]] = defaultdict(set)
    for manifest in contents.manifests.values():
        for reference in (manifest.name, manifest.key, manifest.digest, *(p.id for p in manifest.outputs)):
            known[reference].add(manifest.name)
    found: set[str] = set()
    pending = [name for root in roots for name in known.get(root, ())]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            refers = contents.manifests[name].refers
            pending += [other for reference in refers for other in known.get(reference, ()) if other not in found]
    # No manifest refers to a label card or a check of teachers; each is kept as long as everything that it reports on.
    for manifest in contents.manifests.values():
        if manifest.stage in _REPORTS and all(known[reference] & found for reference in manifest.refers):
            found.add(manifest.name)
    return found


def head_digests(contents: StoreContents) -> list[str]:
    """Digests of the manifests that heads point at; CorruptError when one of them is not there."""
    current = contents.current
    for head in contents.heads.values():
        if head.title not in current:
            raise CorruptError(f"{HEADS}{head.title} points at {head.target}, which is not there as meant; {REMEDY}")
    return [manifest.digest for manifest in current.values()]


def run_manifests(store: Store, names: Iterable[str]) -> list[str]:
    """Names of the manifests that some runs ended with; CorruptError names a run whose record is damaged."""
    found: list[str] = []
    for record in read_documents(store, names, parse_run_record).values():
        if isinstance(record, CorruptError):
            raise record
        found += record[0]
    return found


def registered_digests(store: Store, contents: StoreContents, *, versions_deleted: bool = False) -> list[str]:
    """Every digest that the tags of registered versions name, whatever store they came from.

    Args:
        versions_deleted: versions that this store registered and the registry does not know were deleted there on
            purpose, so that nothing needs to be kept for them.

    Raises:
        PermanentError: MLflow cannot be read, or does not know a version that this store registered: then it is
            probably another registry than the one in use, and what it says keeps nothing.
    """
    from infra.servers.tracking import connect, quiet, tracking_place, tracking_uri
    from tasks.register.versions import KEY_TAG

    uri = tracking_uri()
    database = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not database.exists():
        if not contents.under(_REGISTERED):
            return []
        raise PermanentError(_unread(tracking_place(), "no such file"))
    with quiet():
        try:
            tags = _all_tags(connect())
        # Servers and databases fail with errors of many libraries; each means that the answer is not known.
        except Exception as error:
            raise PermanentError(_unread(tracking_place(), str(error).partition("\n")[0])) from error
    known = {each[KEY_TAG] for each in tags if KEY_TAG in each}
    unknown = [m.name for m in contents.manifests.values() if m.name.startswith(_REGISTERED) and m.key not in known]
    if unknown and not versions_deleted:
        raise PermanentError(
            f"the model registry at {tracking_place()} does not know {_versions(store, unknown)}, registered from this "
            "store; set STILLROOM_MLFLOW_URI to the registry that does, or, where they were deleted on purpose, go on "
            "with --versions-deleted"
        )
    return [value for each in tags for value in each.values() if _DIGEST.fullmatch(value)]


def _versions(store: Store, names: list[str]) -> str:
    """Registered versions for people: `eyes version 3` and so on."""
    facts = [Manifest.from_bytes(store.get(name), name).facts for name in sorted(names)[:_SHOWN]]
    shown = [f"{one.get('name', 'a model')} version {one.get('version', '?')}" for one in facts]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _all_tags(client: Any) -> list[Mapping[str, str]]:
    found: list[Mapping[str, str]] = []
    token = None
    while True:
        page = client.search_model_versions(max_results=1000, page_token=token)
        found += [dict(version.tags) for version in page]
        token = page.token
        if not token:
            return found


def _unread(uri: str, why: str) -> str:
    return (
        f"the model registry at {uri} cannot be read ({why}), so what registered versions need is not known; "
        "set STILLROOM_MLFLOW_URI, or go on without with --no-registry"
    )
