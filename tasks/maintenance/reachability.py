"""Which manifests of a store are still needed: those that can be reached from its roots.

Roots are the heads, the registered versions and what recent runs ended with. A manifest refers to all
that it was made from: each digest, key or id in its inputs, section or facts.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from infra.digest import canonical_json
from infra.errors import CorruptError, PermanentError
from infra.storage.manifest import REMEDY, manifest_name
from infra.storage.store import Store
from tasks.maintenance.store_contents import HEADS, StoreContents, read_documents

_DIGEST = re.compile(r"[0-9a-f]{64}")
_REGISTERED = "manifests/register/"
_REPORTS = ("label-card", "compare")


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


def run_record(spec: str, manifests: Iterable[tuple[str, str]]) -> bytes:
    """What a run leaves under `runs/<id>.json`: the name of its spec, and (stage, key) of what it ended with."""
    return canonical_json({"spec": spec, "manifests": [list(pair) for pair in manifests]})


def run_manifests(store: Store, names: Iterable[str]) -> list[str]:
    """Names of the manifests that some runs ended with; CorruptError names a run whose record is damaged."""
    found: list[str] = []
    for record in read_documents(store, names, _run).values():
        if isinstance(record, CorruptError):
            raise record
        found += record
    return found


def registered_digests(contents: StoreContents) -> list[str]:
    """Every digest that the tags of registered versions name, whatever store they came from.

    Raises:
        PermanentError: MLflow cannot be read.
    """
    from infra.servers.tracking import connect, quiet, tracking_place, tracking_uri

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
    return [value for each in tags for value in each.values() if _DIGEST.fullmatch(value)]


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


def _run(data: bytes, name: str) -> list[str]:
    try:
        record = json.loads(data)
        names = [manifest_name(str(stage), str(key)) for stage, key in record["manifests"]]
        whole = run_record(record["spec"], record["manifests"]) == data
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise CorruptError(f"{name}: damaged: no record of a run; remove it if the run is of no interest")
    return names
