"""Hold the pinned versions against the database of known vulnerabilities, or say that it cannot be reached.

    python .ci/audit.py hashes.txt

Exit code 1 where a version has a known vulnerability; 0 also where the database does not answer.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SECONDS = 600


def entries(path: Path) -> list[str]:
    """The requirements of a file with hashes, each with the lines that belong to it."""
    found: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith(" "):
            found[-1] += f"\n{line}"
        else:
            found.append(line)
    return found


def asked(requirements: list[str]) -> list[dict[str, Any]] | str:
    """What pip-audit knows of each, or why it knows nothing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requirements.txt"
        path.write_text("\n".join(requirements) + "\n", encoding="utf-8")
        options = ["--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"]
        command = [sys.executable, "-m", "pip_audit", *options, "--requirement", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return f"no answer in {SECONDS} s"
    try:
        return list(json.loads(done.stdout)["dependencies"])
    except (ValueError, KeyError):
        return done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"


def main(path: Path) -> int:
    """Print what is known; the exit code."""
    wanted = entries(path)
    # One first: where the database does not answer, hundreds of questions would find out nothing more.
    for some in (wanted[:1], wanted):
        found = asked(some)
        if isinstance(found, str) or all("skip_reason" in one for one in found):
            why = found if isinstance(found, str) else found[0]["skip_reason"]
            print(f"pip-audit: the database of vulnerabilities cannot be reached, nothing was audited ({why})")
            return 0
    assert not isinstance(found, str)
    for one in found:
        for each in one.get("vulns", ()):
            print(f"pip-audit: {one['name']} {one['version']}: {each['id']}, mended in {each['fix_versions']}")
        if "skip_reason" in one:
            print(f"pip-audit: {one['name']}: {one['skip_reason']}")
    hit = sum(bool(one.get("vulns")) for one in found)
    print(f"pip-audit: {len(found)} versions asked about, {hit} with known vulnerabilities")
    return 1 if hit else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
