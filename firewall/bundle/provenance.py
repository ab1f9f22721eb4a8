"""How a bundle was made: each stage of a recipe with its command, parameters and the hashes of what it read and wrote.

It is taken from the record that the recipe's tool keeps (docs/rebuild.md), and stands in the manifest, so that a
signature covers it. Nothing at the edge depends on it.
"""

from __future__ import annotations

from pydantic import Field, JsonValue, model_validator

from firewall.bundle.strict import Strict

__all__ = ["Provenance", "StageFile", "StageRecord"]

_MOST_BYTES = 1 << 20


class StageFile(Strict):
    """A file or folder that a stage read or wrote. path: in the recipe's work folder. hash: the tool's, MD5 of the
    content; of a folder (`.dir`) MD5 of the list of its files with theirs. It tells contents apart; what can be trusted
    is the SHA-256 of the bundle's files. bytes: of all files together."""

    path: str = Field(min_length=1, max_length=300)
    hash: str = Field(pattern=r"^md5:[0-9a-f]{32}(\.dir)?$")
    bytes: int | None = Field(None, ge=0)
    files: int | None = Field(None, ge=0)


class StageRecord(Strict):
    """command: as it was run in the work folder. parameters: what it was given, by group."""

    command: str = Field(min_length=1, max_length=8192)
    parameters: dict[str, JsonValue] = Field(default_factory=dict)
    inputs: tuple[StageFile, ...] = Field((), max_length=64)
    outputs: tuple[StageFile, ...] = Field((), max_length=64)


class Provenance(Strict):
    """stages: by name, in the order in which they have to be run; at most 64, and a mebibyte of JSON in all."""

    tool: str = Field(min_length=1, max_length=100)
    stages: dict[str, StageRecord] = Field(min_length=1, max_length=64)

    @model_validator(mode="after")
    def _bounded(self) -> Provenance:
        size = len(self.model_dump_json())
        if size > _MOST_BYTES:
            raise ValueError(f"a record of {size} bytes; {_MOST_BYTES} are allowed")
        return self
