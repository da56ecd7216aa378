"""Lines of a YAML file for people: scalars that are read back as they are, and comments in one column."""

from __future__ import annotations

import json
import re

COMMENT_AT = 34


def quoted(text: str) -> str:
    """A YAML scalar that is read back as this text."""
    plain = re.fullmatch(r"[A-Za-z/][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*", text)
    keyword = text.casefold() in ("yes", "no", "y", "n", "on", "off", "true", "false", "null")
    return text if plain and not keyword else json.dumps(text, ensure_ascii=False)


def commented(line: str, comment: str) -> str:
    """A line with its comment, all comments of the file in one column."""
    return f"{line:<{COMMENT_AT}} # {' '.join(comment.split())}"
