"""Start a program with secrets from files: `python -m infra.deploy.with_secrets PROGRAM ARGS`.

Programs of others read passwords from their environment, and container engines hand them over as files. For each
variable `NAME__FILE` the program finds `NAME`, with the text of that file; nothing secret stands in a compose file, in
an image or among the arguments of a process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.errors import UsageError

SUFFIX = "__FILE"


def with_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which each `NAME__FILE` has become `NAME`.

    Raises:
        UsageError: a file is missing or empty, or a name is given both ways; no value is repeated.
    """
    found = {name: value for name, value in environment.items() if not name.endswith(SUFFIX)}
    for variable, place in environment.items():
        name = variable.removesuffix(SUFFIX)
        if name == variable:
            continue
        if name in found:
            raise UsageError(f"{name} and {variable} are both set; keep {variable}")
        try:
            text = Path(place).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UsageError(
                f"{variable}: {place} cannot be read ({error.strerror}); `python -m infra.deploy.prepare FOLDER` makes "
                "the files of secrets, and the user of the container must own them"
            ) from None
        if not text:
            raise UsageError(f"{variable}: {place} is empty")
        found[name] = text
    return found


def main(command: Sequence[str]) -> None:
    """Become the program."""
    if not command:
        raise UsageError("name the program to start")
    environment = with_secrets(os.environ)
    try:
        os.execvpe(command[0], list(command), environment)
    except OSError as error:
        raise UsageError(f"{command[0]} cannot be started: {error.strerror}") from None


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UsageError as wrong:
        sys.exit(f"error: {wrong}")
