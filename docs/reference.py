"""Write the pages of the documentation that follow from the code: `python docs/reference.py FOLDER`.

`spec.md` has every key of a spec, from the pydantic models of `tasks/spec`; `commands.md` every command with its
arguments and options, from click. `make docs` runs it, and the tests hold both pages against the code.
"""

from __future__ import annotations

import enum
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

MADE = "<!-- Made by docs/reference.py; do not edit. -->\n"


def sections(
    model: type[BaseModel], path: str = "", seen: set[type[BaseModel]] | None = None
) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every model within a model, with the key that leads there; a list adds `[]`, a mapping `.NAME`.

    What lies within a model that came before is not told again: a student's arms are students.
    """
    seen = set() if seen is None else seen
    yield path, model
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        key = field.alias or name
        for inner, suffix in _models_within(field.annotation):
            yield from sections(inner, f"{path}.{key}{suffix}".lstrip("."), seen)


def _models_within(annotation: Any, suffix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, suffix
        return
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (list, tuple):
        suffix += "[]"
    elif origin is dict:
        arguments, suffix = arguments[1:], f"{suffix}.NAME"
    elif origin is typing.Annotated:
        arguments = arguments[:1]
    for argument in arguments:
        yield from _models_within(argument, suffix)


def spec_page(model: type[BaseModel]) -> str:
    """The reference of a spec: a section a model, a table of its keys."""
    parts = [
        MADE,
        "# Keys of a spec\n",
        "A spec is one YAML file. Keys without a default have to be given; unknown keys are errors that name the "
        "nearest known one. `--set a.b=value` overrides a key for one run.\n",
    ]
    shown: dict[type[BaseModel], str] = {}
    for path, section in sections(model):
        title = f"`{path}`" if path else "The whole file"
        parts.append(f"## {title}\n")
        if section in shown:
            parts.append(f"The same keys as {shown[section]}.\n")
            continue
        shown[section] = title
        if text := _told(section, path):
            parts.append(f"{text}\n")
        parts.append("| key | value | default | meaning |\n|---|---|---|---|")
        parts += [_row(path, field.alias or name, field) for name, field in section.model_fields.items()]
        parts.append("")
    return "\n".join(parts)


def _told(section: type[BaseModel], path: str) -> str:
    """What a section's docstring says besides its key; "" where that is all."""
    text = inspect.cleandoc(section.__doc__ or "")
    said = text.removeprefix("One YAML file.").removeprefix(f"`{path}:`").removeprefix(f"`{path}`:").strip()
    return said[:1].upper() + said[1:]


def _row(path: str, key: str, field: FieldInfo) -> str:
    shown = f"`{key}`"
    for _, suffix in _models_within(field.annotation):
        shown = f"[`{key}`](#{_anchor(f'{path}.{key}{suffix}')})"
    return f"| {shown} | {_cell(_words(field))} | {_cell(_default(field))} | {_cell(field.description or '')} |"


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _words(field: FieldInfo) -> str:
    """What a value may be, with its bounds."""
    bounds = []
    for limit in field.metadata:
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
            if (bound := getattr(limit, name, None)) is not None:
                bounds.append(f"{sign} {bound}")
        if getattr(limit, "pattern", None):
            bounds.append(f"matches `{limit.pattern}`")
    return ", ".join([_type(field.annotation), *bounds])


_NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "anything", type(None): "null"}


def _type(annotation: Any) -> str:
    if annotation in _NAMES:
        return _NAMES[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(_type(argument) for argument in arguments))
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is tuple:
        return "list of " + " and ".join(_type(argument) for argument in arguments if argument is not Ellipsis)
    if origin is dict:
        return f"mapping of {_type(arguments[0])} to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    return getattr(annotation, "__name__", "anything")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "has to be given"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return "its own defaults"
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if value not in ("", [], {}, ()) else "empty"


def commands_page(group: click.Group) -> str:
    """The reference of a command line: a section a command."""
    parts = [
        MADE,
        "# Commands\n",
        "`--json` prints the result as one JSON document on standard output; everything else goes to standard error. "
        "Exit codes: 0 done (also when the gate refuses), 1 failed or defects found, 2 wrong usage or spec.\n",
    ]
    for name, command in commands(group):
        context = click.Context(command, info_name=name)
        parts.append(f"## `{name}`\n\n{_prose(command.help or '')}\n")
        usage = " ".join(command.collect_usage_pieces(context))
        parts.append(f"    {name} {usage}\n")
        options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
        if options:
            parts.append("| option | meaning |\n|---|---|")
            parts += [_option(option, context) for option in options]
            parts.append("")
    return "\n".join(parts)


def commands(group: click.Group, name: str = "stillroom") -> Iterator[tuple[str, click.Command]]:
    """Every command of a group and of the groups within it, in their order."""
    for word, command in group.commands.items():
        if command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def _prose(text: str) -> str:
    return inspect.cleandoc(text).replace("\b\n", "").replace("<", "&lt;")


def _option(option: click.Option, context: click.Context) -> str:
    names, text = option.get_help_record(context) or ("", "")
    return f"| `{_cell(names)}` | {_cell(text)} |"


def write(folder: Path) -> None:
    """Write both pages."""
    # As children of ours do: a checkout that is not installed has its packages beside this folder.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from flows.cli import cli
    from tasks.spec import Spec

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.md").write_text(spec_page(Spec), encoding="utf-8")
    (folder / "commands.md").write_text(commands_page(cli), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
