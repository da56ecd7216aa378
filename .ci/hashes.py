"""Write hashes*.txt and constraints.txt anew from what uv resolves; `make hashes` runs it.

    uv pip compile pyproject.toml --all-extras --constraint constraints.txt --generate-hashes --no-annotate \
        --no-header --python-version 3.11 | python .ci/hashes.py

Versions are those of constraints.txt where it has the package. uv sees PyPI alone; hashes of other builds of a version
(torch for CPUs) stay as they stand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
CUDA = re.compile(r"(nvidia|cuda)-|triton==")
# The installer itself is the virtual environment's, and only the oldest Python 3.11 asks for the other.
LEFT_OUT = {"pip"}
MARKERS = {"async-timeout": 'python_full_version < "3.11.3"'}
HEAD = {
    "hashes.txt": "# What `make` installs: every version of constraints.txt with the sha256 of its files.\n",
    "hashes-torch.txt": "# torch alone: `make` takes the build that pip prefers, then holds it against these.\n",
    "hashes-cuda.txt": "# What PyPI's torch for Linux needs besides; `make` installs it where torch is that build.\n",
    "constraints.txt": "# Every version that is installed, for `pip install -c`, which takes hashes for no folder.\n",
}


def blocks(text: str) -> dict[str, list[str]]:
    """Package to its lines: the pinned requirement, then hashes."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line and not line.startswith(("#", " ")):
            name = line.partition("==")[0]
            found[name] = [line.rstrip(" \\")]
        elif line.startswith(" "):
            found[name].append(line.strip().rstrip(" \\"))
    return found


def written(blocks: dict[str, list[str]]) -> str:
    """Requirements with hashes, as pip reads them."""
    return "".join(" \\\n    ".join(lines) + "\n" for lines in blocks.values())


def main() -> None:
    """Read uv's output, write the three files."""
    found = {name: lines for name, lines in blocks(sys.stdin.read()).items() if name not in LEFT_OUT}
    paths = [path for name in ("hashes.txt", "hashes-torch.txt") if (path := HERE / name).exists()]
    before = {name: lines for path in paths for name, lines in blocks(path.read_text(encoding="utf-8")).items()}
    plain, cuda = dict[str, list[str]](), dict[str, list[str]]()
    for name, (requirement, *hashes) in found.items():
        marker = MARKERS.get(name)
        if CUDA.match(requirement):
            cuda[name] = [f'{requirement} ; platform_system == "Linux"', *hashes]
            continue
        known = before.get(name, [""])
        other = known[1:] if known[0].partition(" ;")[0] == requirement else []
        line = f"{requirement} ; {marker}" if marker else requirement
        plain[name] = [line, *sorted({*hashes, *other})]
    files = {
        "hashes.txt": written({name: lines for name, lines in plain.items() if name != "torch"}),
        "hashes-torch.txt": written({"torch": plain["torch"]}),
        "hashes-cuda.txt": written(cuda),
        "constraints.txt": "".join(f"{lines[0]}\n" for lines in plain.values()),
    }
    for name, text in files.items():
        (HERE / name).write_text(HEAD[name] + text, encoding="utf-8")


if __name__ == "__main__":
    main()
