"""What of a store is still of use: everything that can be reached from its roots.

Roots are the heads, the registered versions and what recent runs ended with. From a manifest the way leads to all
that it was made from: each digest, key or id that its inputs, section or facts name.
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
from tasks.maintenance.holdings import HEADS, Holdings, in_threads

_DIGEST = re.compile(r"[0-9a-f]{64}")
_REGISTERED = "manifests/register/"
_CARD = "label-card"


def reachable(held: Holdings, roots: Iterable[str]) -> set[str]:
    """Names of the manifests that the roots lead to.

    Args:
        roots: names, keys or digests of manifests, or ids of outputs; those that this store does not know are
            passed over, because a registry serves several stores.
    """
    known: dict[str, set[str]] = defaultdict(set)
    for manifest in held.manifests.values():
        for reference in (manifest.name, manifest.key, manifest.digest, *(p.id for p in manifest.outputs)):
            known[reference].add(manifest.name)
    found: set[str] = set()
    pending = [name for root in roots for name in known.get(root, ())]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            refers = held.manifests[name].refers
            pending += [other for reference in refers for other in known.get(reference, ()) if other not in found]
    # Nothing leads to a label card; it stays as long as all that it reports on.
    for manifest in held.manifests.values():
        if manifest.stage == _CARD and all(known[reference] & found for reference in manifest.refers):
            found.add(manifest.name)
    return found


def heads_of(held: Holdings) -> list[str]:
    """Digests of the manifests that heads point at; CorruptError when one of them is not there."""
    current = held.current
    for head in held.heads.values():
        if head.title not in current:
            raise CorruptError(f"{HEADS}{head.title} points at {head.target}, which is not there as meant; {REMEDY}")
    return [manifest.digest for manifest in current.values()]


def run_record(spec: str, manifests: Iterable[tuple[str, str]]) -> bytes:
    """What a run leaves under `runs/<id>.json`: the name of its spec, and (stage, key) of what it ended with."""
    return canonical_json({"spec": spec, "manifests": [list(pair) for pair in manifests]})


def runs_of(store: Store, names: Iterable[str]) -> list[str]:
    """Names of the manifests that some runs ended with; CorruptError names a run whose record is damaged."""
    found: list[str] = []
    for told in in_threads(store, names, _run).values():
        if isinstance(told, CorruptError):
            raise told
        found += told
    return found


def registered(held: Holdings) -> list[str]:
    """Every digest that the tags of registered versions name, whatever store they came from.

    Raises:
        PermanentError: MLflow cannot be read.
    """
    from infra.servers.tracking import connect, quiet, tracking_uri

    uri = tracking_uri()
    database = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///") and not database.exists():
        if not held.under(_REGISTERED):
            return []
        raise PermanentError(_unread(uri, "no such file"))
    with quiet():
        try:
            tags = _all_tags(connect())
        # Servers and databases fail with errors of many libraries; each means that the answer is not known.
        except Exception as error:
            raise PermanentError(_unread(uri, str(error).partition("\n")[0])) from error
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
        told = json.loads(data)
        names = [manifest_name(str(stage), str(key)) for stage, key in told["manifests"]]
        whole = run_record(told["spec"], told["manifests"]) == data
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise CorruptError(f"{name}: damaged: no record of a run; remove it if the run is of no interest")
    return names
