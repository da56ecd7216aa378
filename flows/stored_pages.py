"""Pages in a store as addresses that a browser on this machine can open: `stillroom up` serves them beside its page.

The page of links is open to every user of the machine; what a store holds is not. So an address holds a code that only
this home can make, and who may read the artifacts of a run, may follow it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from urllib.parse import quote, unquote

from infra.errors import StillroomError
from infra.servers.services import noted_services, page_key
from infra.storage.store import Store, open_store

PREFIX = "/stored/"


def address_of(store: Store, name: str) -> str | None:
    """Where an object of a store is served as a page; None while `stillroom up` does not run."""
    noted = noted_services()
    if noted is None or "page" not in noted:
        return None
    place = base64.urlsafe_b64encode(store.url.encode()).decode()
    return f"{noted['page']}{PREFIX}{_code(place, name)}/{place}/{quote(name)}"


def stored_page(path: str) -> bytes | None:
    """What is served at a path; None where its code is wrong, or the object is not there any more."""
    try:
        code, place, name = path.removeprefix(PREFIX).split("/", 2)
        name = unquote(name)
        if not hmac.compare_digest(code.encode(), _code(place, name).encode()):
            return None
        return open_store(base64.urlsafe_b64decode(place).decode()).get(name)
    except (StillroomError, OSError, ValueError, binascii.Error):
        return None


def _code(place: str, name: str) -> str:
    return hmac.new(page_key().encode(), f"{place}\n{name}".encode(), hashlib.sha256).hexdigest()
