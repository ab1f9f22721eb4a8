"""A settings file in YAML, read the way a person means it.

YAML 1.1 makes `off` a truth value, `0` a number, `10:30` a number in base 60 and `2026-01-02` a date. Here every plain
value stays the text that was written, as if it came from the command line or the environment, and the schema says what
it is. Only `null`, `~` and nothing at all are something else: they mean that no value is given.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from firewall.errors import ConfigError

__all__ = ["read_settings"]

_MEANINGS = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")


def _resolvers() -> dict[str, list[tuple[str, Any]]]:
    all_of_them = yaml.SafeLoader.yaml_implicit_resolvers.items()
    return {first: [each for each in resolvers if each[0] in _MEANINGS] for first, resolvers in all_of_them}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Keys that stand there twice are an error: one of them would be lost without a word."""
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name.lower() in seen and name != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name!r} stands there twice", key.start_mark
                )
            seen.add(name.lower())
        return super().construct_mapping(node, deep=deep)


def read_settings(file: Path, known: str) -> dict[str, Any]:
    """What a settings file says: texts, None, lists and mappings of these. The first keys are in lower case.

    UTF-8 or UTF-16 with or without a byte order mark, any line ends.

    Args:
        file: The file.
        known: The keys, for messages.

    Raises:
        ConfigError: In one line.
    """
    try:
        values = yaml.load(file.read_bytes(), _Loader)  # noqa: S506 - a SafeLoader that makes fewer types
    except yaml.YAMLError as error:
        raise ConfigError(f"can't read settings from {file}: {_said(error)}") from error
    except OSError as error:
        raise ConfigError(f"can't read settings from {file}: {error.strerror or error}; name a YAML file") from error
    except ValueError as error:
        raise ConfigError(f"can't read settings from {file}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"can't read settings from {file}: it is nested too deeply") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{file} must hold 'key: value' lines; known keys: {known}")
    return {key.lower(): value for key, value in values.items()}


def _said(error: yaml.YAMLError) -> str:
    text = " ".join(str(error).split()).replace('in "<byte string>", ', "at ")
    problem = str(getattr(error, "problem", "") or "")
    if "\\t" in problem:
        return f"{text}; indent with spaces"
    if isinstance(error, (yaml.scanner.ScannerError, yaml.parser.ParserError, yaml.composer.ComposerError)):
        return f"{text}; a value that is - or begins with [ {{ * & ! % @ ` or holds ': ' or ' #' must stand in quotes"
    return text
