"""Prompt templates: sandboxed Jinja files that write the turns of a chat.

A turn is a call block, such as `{% call user() %}…{% endcall %}`, of `system`, `user` or `assistant`. What it prints
is the turn's text, without the blanks around it; a turn without text is left out. Data can therefore never become a
turn or markup, whatever it looks like.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from traceback import walk_tb
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, nodes
from jinja2 import Template as JinjaTemplate
from jinja2.sandbox import ImmutableSandboxedEnvironment

from amalgam.errors import DataError

_ROLES = ("system", "user", "assistant")
_OTHER_FILES = (nodes.Extends, nodes.FromImport, nodes.Import, nodes.Include)
_FAILURES = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

Turns = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Template:
    """A template that was read and found to be of the right form."""

    path: Path
    compiled: JinjaTemplate

    def render(self, values: dict[str, Any]) -> Turns:
        """Write the turns, as the `messages` of a chat request.

        Args:
            values: plain data (texts, numbers, lists, dicts) by the names that the template knows them by.

        Raises:
            DataError: the template uses what is not there, or its turns are not of the right form.
        """
        turns: Turns = []
        try:
            outside = self.compiled.render({**values, **{role: partial(_add_turn, turns, role) for role in _ROLES}})
        except _FAILURES as error:
            places = [
                line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(self.path)
            ]
            known = f"; a template knows {', '.join(values)}" if str(error).endswith("is undefined") else ""
            raise DataError(f"{self.path}, line {places[-1] if places else 1}: {error}{known}") from error
        if text := " ".join(outside.split()):
            raise DataError(
                f"{self.path}: '{text[:60]}' stands outside of the turns: put it into `{{% call user() %}}` … "
                "`{% endcall %}`"
            )
        if not turns or turns[-1]["role"] != "user":
            raise DataError(f"{self.path}: the last turn must be the user's: end with `{{% call user() %}}` and a text")
        return turns


def load_template(name: str, folders: Sequence[Path]) -> Template:
    """Read `NAME.j2` from the first folder that has it.

    Raises:
        DataError: there is no such template, or it is not of the right form; with the file and the line.
    """
    path = next((path for folder in folders if (path := folder / f"{name}.j2").is_file()), None)
    if path is None:
        names = ", ".join(sorted({path.stem for folder in folders for path in folder.glob("*.j2")}))
        raise DataError(
            f"there is no prompt template '{name}': set `prompts.template` in params.yaml to one of {names}, or write "
            f"{folders[0] / name}.j2"
        )
    # No loader: a template reads no file. Nothing is escaped: chat turns are no markup.
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # Equal data must give equal prompts.
    del environment.globals["lipsum"], environment.filters["random"]
    try:
        source = path.read_text(encoding="utf-8")
        tree = environment.parse(source)
        code = environment.compile(source, name, str(path))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8: save it as that") from error
    except TemplateSyntaxError as error:
        raise DataError(f"{path}, line {error.lineno}: {error.message}") from error
    for other in tree.find_all(_OTHER_FILES):
        raise DataError(f"{path}, line {other.lineno}: a template cannot use other files: write it as one")
    return Template(path, JinjaTemplate.from_code(environment, code, environment.make_globals(None)))


def _add_turn(turns: Turns, role: str, caller: Any = None) -> str:
    if caller is None:
        raise TypeError(f"a turn is written as `{{% call {role}() %}}` … `{{% endcall %}}`")
    number, text = len(turns), str(caller()).strip()
    if len(turns) != number:
        raise TypeError("a turn cannot stand within a turn")
    if text:
        turns.append({"role": role, "content": text})
    return ""
