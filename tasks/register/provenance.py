"""What a version of a student was made with: code, packages, spec, and the licences of its images, as tags."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from infra.digest import digest_of
from tasks.corpora import adapter_of
from tasks.register.mlflow_run import parameters
from tasks.spec import CorpusSection, Spec

CODE_TAG, ENVIRONMENT_TAG = "stillroom.code", "stillroom.environment"
SPEC_TAG, LICENCES_TAG = "stillroom.spec", "stillroom.licences"

UNKNOWN = "not known"
"""Licence of images of which nobody said it."""

# Those whose version may change what a student sees or answers.
_PACKAGES = (
    *("albumentations", "mlflow", "numpy", "onnxruntime", "opencv-python-headless", "pillow", "pyarrow"),
    *("pydicom", "python-gdcm", "scikit-learn", "scipy", "timm", "torch", "torchvision"),
)
_ROOT = Path(__file__).parents[2]
_SECONDS = 10.0


def provenance_tags(spec: Spec) -> dict[str, str]:
    """Tags of a version; they name no place of this machine."""
    licences = {corpus.title: licence_of(corpus) for corpus in spec.each_corpus}
    return {
        CODE_TAG: code_version(),
        ENVIRONMENT_TAG: json.dumps(environment(), sort_keys=True),
        SPEC_TAG: digest_of(parameters(spec)),
        LICENCES_TAG: json.dumps(licences, sort_keys=True, ensure_ascii=False),
    }


def code_version() -> str:
    """Version of the package, with the commit where it is installed from git or lies in a checkout."""
    try:
        package = metadata.distribution("stillroom")
        version, origin = package.version, json.loads(package.read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        version, origin = UNKNOWN, {}
    commit = str(origin.get("vcs_info", {}).get("commit_id", "")) or _commit()
    return f"stillroom {version}" + (f", commit {commit}" if commit else "")


def environment() -> dict[str, str]:
    """Versions of Python and of the packages that matter, those that are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def licence_of(corpus: CorpusSection) -> str:
    """Licence of a corpus's images: what the spec says, else the adapter; "not known" where neither does."""
    return corpus.licence or adapter_of(corpus.adapter).licence or UNKNOWN


def _commit() -> str:
    """Commit of the checkout that this file lies in, and whether files differ from it; "" where it lies in none."""
    if not (_ROOT / ".git").exists():
        return ""
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if not commit:
        return ""
    return commit + (" with changes" if changed else "")


def _git(*arguments: str) -> str:
    try:
        ran = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""
