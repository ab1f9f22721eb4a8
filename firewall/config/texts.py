"""Values that mean the same in a settings file, in the environment and on the command line."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from firewall.host.core_list import core_list

__all__ = ["OFF", "CoreList", "Text", "numbers"]

#: Words that leave out what can be left out.
OFF = ("off", "false", "no", "none")


def _text(value: Any) -> Any:
    """A number or truth value where text is asked for: what YAML or a program made of `0` or `off`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value) if isinstance(value, int | float) else value


def numbers(value: Any) -> Any:
    """A list of four numbers for a text of them."""
    return ",".join(map(str, value)) if isinstance(value, list) and len(value) == 4 else value


def _cores(value: Any) -> Any:
    """A number or a list of numbers for a text of them; off for none. Whether the machine has them is asked later."""
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    value = _text(value)
    if not isinstance(value, str):
        return value
    if value.strip().lower() in OFF:
        return None
    core_list(value)
    return value.strip()


#: Text, also if it looks like a number or a truth value.
Text = Annotated[str, BeforeValidator(_text)]
#: Cores as Linux lists them, such as 2-3,5.
CoreList = Annotated[str | None, BeforeValidator(_cores)]
