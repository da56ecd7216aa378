"""Manifests: the commit point of a stage (DESIGN: Identity).

A manifest is one JSON document, written last. It holds no time and no host name, so that equal work
gives an equal digest wherever it ran. Stored, it carries the digest of the rest of itself, so that whoever reads
it notices damage; unit records (`infra/storage/stage_cache.py`) do the same.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.digest import canonical_json, digest_of
from infra.errors import CorruptError

DIGEST = "digest"
REMEDY = "run stillroom verify, then repair"


class Output(BaseModel):
    """One stored object of a stage."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="name in the store")
    id: str = Field(description="sha256 of the bytes where they repeat, else the key of the unit")
    bytes: int
    sha256: str = Field(description="of the bytes, for verify")
    samples: int = 0
    unit: str = Field("", description="key of the unit that made it")
    meta: dict[str, Any] = Field(default_factory=dict, description="split, teacher, view, ...: small facts")


class Quarantined(BaseModel):
    """One input that a permanent fault keeps out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(description="file, row or key; a keyed hash where the corpus is private")
    reason: str
    stage: str = ""


class Manifest(BaseModel):
    """What a stage made of what, and what it could not use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    version: int
    key: str
    inputs: list[str]
    section: dict[str, Any]
    outputs: list[Output]
    quarantine: list[Quarantined] = Field(default_factory=list)
    facts: dict[str, Any] = Field(default_factory=dict, description="counts and results worth reading")

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON of its content; the stored field of that name is not part of it."""
        return digest_of(self.model_dump(mode="json"))

    @property
    def name(self) -> str:
        """Name in the store."""
        return manifest_name(self.stage, self.key)

    def to_bytes(self) -> bytes:
        """Canonical JSON with its digest, as stored."""
        return seal(self.model_dump(mode="json"))

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "manifest") -> Manifest:
        """Parse what `to_bytes` made.

        Args:
            name: begins the message of an error; the name in the store.

        Raises:
            CorruptError: a byte differs from what was written, or it was no manifest at all.
        """
        content = unseal(data, name)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise CorruptError(
                f"{name}: no manifest of this release ({error.error_count()} fields); {REMEDY}"
            ) from None

    def output(self, **meta: Any) -> Output:
        """The one output whose meta has these values; KeyError when there is none or more than one."""
        found = self.outputs_where(**meta)
        if len(found) != 1:
            raise KeyError(f"{self.stage} manifest {self.key[:12]}: {len(found)} outputs with {meta}")
        return found[0]

    def outputs_where(self, **meta: Any) -> list[Output]:
        """Outputs whose meta has these values, in order."""
        return [o for o in self.outputs if all(o.meta.get(k) == v for k, v in meta.items())]


def manifest_name(stage: str, key: str) -> str:
    """Where the manifest of (stage, key) lies."""
    return f"manifests/{stage}/{key}.json"


def seal(content: dict[str, Any]) -> bytes:
    """Canonical JSON of an object with a field `digest`: the sha256 of the canonical JSON of the rest."""
    # Numbers as keys become text before they are sorted, as they will be when it is read again.
    plain = json.loads(canonical_json(content))
    return canonical_json({**plain, DIGEST: digest_of(plain)})


def unseal(data: bytes, name: str) -> dict[str, Any]:
    """The content that `seal` was given.

    Raises:
        CorruptError: it is not, byte for byte, what `seal` returned; the text begins with `name`.
    """
    try:
        content = json.loads(data)
        content.pop(DIGEST)
        # The text is compared, not the values: a flipped bit may spell the same value in another way.
        whole = seal(content) == data
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise CorruptError(
            f"{name}: damaged, or not written by this release: no JSON with a digest; {REMEDY}"
        ) from None
    if not whole:
        raise CorruptError(f"{name}: damaged: the content is not what its digest says; {REMEDY}")
    return dict(content)
