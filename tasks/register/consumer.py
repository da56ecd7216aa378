"""The code that travels with a registered model, as one file: `pyfunc.py` and the modules of this project that it uses.

The modules are those that ingestion and evaluation run, not copies that could drift. Their texts stand one after the
other, without the imports of each other, so that no name may be used twice on their top levels.
"""

from __future__ import annotations

import ast
from importlib.resources import files
from typing import TypeGuard

MODULES = (
    "models.networks.graph_archive",
    "models.augmentation.plain_view",
    "tasks.preprocessing.unreadable",
    "tasks.preprocessing.exif",
    "tasks.preprocessing.jpegfile",
    "tasks.preprocessing.pngfile",
    "tasks.preprocessing.effort",
    "tasks.preprocessing.dicomfile",
    "tasks.preprocessing.formats",
    "tasks.preprocessing.crop",
    "tasks.preprocessing.frame_mask",
    "tasks.preprocessing.stored_image",
    "tasks.preprocessing.network_input",
    "tasks.register.answers",
)
"""What is shipped before `pyfunc.py`, each after those that it imports."""

STUDENT = "tasks.register.pyfunc"

_HEAD = '''"""A student and all that it needs of its own: numpy, OpenCV, Pillow, torch and mlflow are to be installed.

Written by Stillroom when the model was registered; `preprocessing.json` says what this code does with an image.
"""

PermanentError = ValueError
'''
_GIVEN = {"PermanentError"}  # what the head defines
_OURS = ("flows", "tasks", "models", "infra")


def consumer_code() -> str:
    """Python source that imports nothing of ours.

    Raises:
        ValueError: a module uses what is not shipped before it, or a name that another one has.
    """
    parts, known = [_HEAD], set(_GIVEN)
    for module in (*MODULES, STUDENT):
        package, _, name = module.rpartition(".")
        text = files(package).joinpath(f"{name}.py").read_text(encoding="utf-8")
        parts.append(f"# {module.replace('.', '/')}.py\n\n{_without_own_imports(text, module, known)}")
    return "\n\n".join(parts)


def _without_own_imports(text: str, module: str, known: set[str]) -> str:
    """A module's text without imports of ours; its top-level names are added to `known`."""
    lines = text.splitlines(keepends=True)
    for node in ast.parse(text).body:
        if _is_own(node):
            missing = {alias.name for alias in node.names if alias.asname or alias.name not in known}
            if missing:
                raise ValueError(f"{module} imports {', '.join(sorted(missing))}, which no module before it defines")
        elif isinstance(node, ast.ImportFrom) and node.module == "__future__":
            pass
        else:
            twice = _names(node) & known
            if twice:
                raise ValueError(f"{module} defines {', '.join(sorted(twice))}, as a module before it does")
            known |= _names(node)
            continue
        for line in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[line] = ""
    return "".join(lines)


def _is_own(node: ast.stmt) -> TypeGuard[ast.ImportFrom]:
    return isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in _OURS


def _names(node: ast.stmt) -> set[str]:
    """Names that a statement of a top level defines; imported ones are the same wherever they are imported."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return set()
