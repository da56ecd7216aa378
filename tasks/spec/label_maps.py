"""Which label maps each adapter knows, by name; `tasks/corpora/label_maps.py` says what they are."""

from __future__ import annotations

_GRADES = ("any-retinopathy", "referable")
OEDEMA = "referable-or-oedema"
"""The map that needs a column on macular oedema."""

LABEL_MAPS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("eyepacs", "aptos", "ddr", "phantom-fundus"), _GRADES),
    **dict.fromkeys(("messidor", "messidor-2", "idrid"), (*_GRADES, OEDEMA)),
    "hyper-kvasir": ("all", "kvasir"),
    "chexpert": ("all", "competition"),
    "chestx-ray14": ("all", "eight"),
}
"""Names of maps, by adapter; adapters that are not here know none."""


def check_label_map(adapter: str, name: str) -> None:
    """ValueError where the adapter does not know the map; it names those that it does."""
    known = LABEL_MAPS.get(adapter)
    if known is None:
        raise ValueError(f"corpus.label_map: {adapter} knows no maps; they are of {', '.join(sorted(LABEL_MAPS))}")
    if name in known:
        return
    why = f"; {adapter} has no column on macular oedema" if name == OEDEMA and "referable" in known else ""
    raise ValueError(f"corpus.label_map {name!r}: no such map of {adapter}{why}; there are {', '.join(known)}")
