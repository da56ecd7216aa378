"""Opening a `.pt2` archive of torch.export only when nothing in it can run code.

`torch.export.load` unpickles what an archive calls pickled, loads compiled libraries, evaluates symbolic expressions
and guards as Python, and calls any function of torch that a node names. A file from elsewhere could do anything with
that. Here a list of what a network needs decides, and all else is refused before torch reads it. The checks go by the
reader that torch itself uses, so that what was checked is what is loaded.

Registered students carry this file's text in their code, so it imports the standard library and torch alone.
"""

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

# Records of an archive with one network, below the folder that all of them share.
_RECORDS = re.compile(
    r"archive_(format|version)|byteorder|\.data/(version|serialization_id)|\.format_version|\.storage_alignment"
    r"|models/model\.json|data/sample_inputs/model\.pt"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
)
_CONFIGS = {
    "data/weights/model_weights_config.json": "weight_",
    "data/constants/model_constants_config.json": "tensor_",
}

_OPERATORS = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|torch\.ops\.higher_order\.wrap_with_set_grad_enabled|math\.[a-z]\w*|torch\.sym_\w+"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|neg|pos|pow|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
)
_FILES = re.compile(r"torch\.ops\.aten\.(save|from_file|_print|warn)\b.*")  # they read or write files, or print
_FUNCTIONS = re.compile(
    r"Symbol|Integer|Float|Rational|Add|Mul|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|ModularIndexing"
    r"|Where|CeilToInt|FloorToInt|TruncToInt|TruncToFloat|RoundToInt|ToFloat|IntTrueDiv|FloatTrueDiv|Identity|Eq"
    r"|Ne|Equality|Unequality|Lt|Le|Gt|Ge|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan|And|Or|Not"
)
_SYMBOL = re.compile(r"[a-z]{1,4}\d{1,6}")
_NODES = (
    ast.Expression, ast.Call, ast.Name, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare,
    ast.Load, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.USub, ast.UAdd, ast.And, ast.Or, ast.Not,
    ast.cmpop,
)  # fmt: skip

_NAME = re.compile(r"[\w.+\-]*")  # of tensors, parameters and arguments: torch writes some into the code that it runs
_TEXT = re.compile(r"[ -~]{0,1000}")  # arguments of operators, such as "zeros" and an equation of einsum
_FORBIDDEN = frozenset(("as_operator", "as_custom_obj", "custom_obj", "as_opaque_obj"))
_CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")


def load_graph(data: bytes) -> Any:
    """The `torch.export.ExportedProgram` of an archive.

    Args:
        data: the whole file.

    Raises:
        ValueError: it is no archive of one network, or holds something besides a graph of tensor operations and plain
            tensors; the text says what.
    """
    check_graph(data)
    return torch.export.load(io.BytesIO(data))


def check_graph(data: bytes) -> None:
    """ValueError when an archive holds anything that could run code or reach files."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
        reader = torch._C.PyTorchFileReader(io.BytesIO(data))
        records = list(reader.get_all_records())
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, UnicodeDecodeError) as error:
        raise ValueError(f"it is no archive of torch.export ({str(error).splitlines()[0]})") from None
    _check_records([entry.filename.partition("/")[2] for entry in entries], records)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its records are compressed, which torch.export.save never does")
    for name, prefix in _CONFIGS.items():
        _check_payload(name, prefix, _json(reader, name))
    program = _json(reader, "models/model.json")
    if program.get("guards_code"):
        raise ValueError("it holds guards, which are code; export it again with a torch that writes none, or as ONNX")
    _check_values(program, "")
    _check_example(reader.get_record("data/sample_inputs/model.pt"))


def _check_records(names: list[str], records: list[str]) -> None:
    for name in (*names, *records):
        if name.startswith(("data/weights/model.pt", "data/constants/model.pt")) or not name:
            raise ValueError(
                "it has the pickled layout of an old torch; export and save it again with torch 2.9 or later"
            )
        if _RECORDS.fullmatch(name) is None:
            raise ValueError(f"it holds {name!r}, which a network does not need and which may be code")
    if len(set(names)) != len(names) or sorted(names) != sorted(records):
        raise ValueError("its records stand twice, or are not those of its directory")
    if missing := {"models/model.json", "data/sample_inputs/model.pt", *_CONFIGS} - set(names):
        raise ValueError(f"it has no {min(missing)}; it is no archive of one network of torch.export.save")


def _json(reader: Any, name: str) -> Any:
    try:
        return json.loads(reader.get_record(name))
    except ValueError:
        raise ValueError(f"its {name} is no JSON") from None


def _check_payload(name: str, prefix: str, config: Any) -> None:
    for tensor, payload in config["config"].items():
        if payload["use_pickle"]:
            raise ValueError(f"it holds {tensor} pickled; a pickle can run code; save plain tensors alone")
        if re.fullmatch(rf"{prefix}\d+", payload["path_name"]) is None:
            raise ValueError(f"{name} names {payload['path_name']!r}, which is no tensor")


def _check_example(data: bytes) -> None:
    """The example input is the one record that is always a pickle; where this fails, torch tries without limits."""
    if not data:
        return
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    # The restricted unpickler raises many classes.
    except Exception:
        raise ValueError("its example input is a pickle of more than plain tensors, which can run code") from None


def _check_values(value: Any, key: str) -> None:
    """Every name, operator and expression of a program, wherever it stands."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name in _FORBIDDEN and part is not None:
                raise ValueError(f"it uses {name}, an object of its own; a network of plain tensors does not need it")
            if name != "metadata" or key == "graph_module":
                _require(_NAME.fullmatch(name), "name", name)
                _check_values(part, name)
    elif isinstance(value, list):
        for part in value:
            _check_values(part, key)
    elif isinstance(value, str):
        _check_text(value, key)


def _check_text(text: str, key: str) -> None:
    if key == "target":
        _require(_OPERATORS.fullmatch(text) and not _FILES.fullmatch(text), "operator", text)
    elif key == "expr_str":
        _require(_is_arithmetic(text), "expression", text)
    elif key in ("in_spec", "out_spec"):
        _require(text == "" or all(_is_plain(spec) for spec in _specs(text)), "structure", text)
    else:
        _require((_TEXT if key in ("as_string", "as_strings") else _NAME).fullmatch(text), key or "text", text)


def _require(fits: Any, what: str, text: str) -> None:
    if not fits:
        raise ValueError(f"its {what} {text[:80]!r} is none that a network needs; it may be code")


def _is_arithmetic(text: str) -> bool:
    """Whether an expression is made of symbols, numbers and the functions that torch writes."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if not isinstance(node, _NODES):
            return False
        if isinstance(node, ast.Name):
            known = _FUNCTIONS.fullmatch(node.id) if id(node) in called else _SYMBOL.fullmatch(node.id)
            if not known:
                return False
        if isinstance(node, ast.Call) and not isinstance(node.func, ast.Name):
            return False
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str) and _SYMBOL.fullmatch(node.value) is None:
                return False
            if not isinstance(node.value, str | bool | int | float) or len(str(node.value)) > 24:
                return False
    return True


def _specs(text: str) -> Iterator[dict[str, Any]]:
    """All parts of the description of a nested input or output."""
    try:
        pending = [json.loads(text)[1]]
    except (ValueError, LookupError, TypeError):
        raise ValueError("it describes its inputs in a way that torch.export does not") from None
    while pending:
        spec = pending.pop()
        yield spec
        pending.extend(spec["children_spec"])


def _is_plain(spec: dict[str, Any]) -> bool:
    """Whether a part is a tensor, tuple, list or dict, whose keys are names."""
    context = spec["context"]
    keys = json.loads(context) if isinstance(context, str) else context
    named = keys is None or (isinstance(keys, list) and all(isinstance(k, str) and _NAME.fullmatch(k) for k in keys))
    return spec["type"] in _CONTAINERS and named
