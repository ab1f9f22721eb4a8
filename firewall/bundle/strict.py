"""What every schema of a bundle has in common, and how a value that doesn't fit one is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from firewall.errors import BundleError

__all__ = ["Sha256", "Strict", "first_fault", "parameters_of"]

#: A SHA-256 in lower-case hexadecimal.
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Strict(BaseModel):
    """Base of every schema: an unknown key is an error, numbers are finite, and an object can't be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


def first_fault(error: ValidationError) -> str:
    """The first thing that doesn't fit, in one line: where it stands and what is wrong with it."""
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def parameters_of(model: type[Model], values: Mapping[str, object], owner: str) -> Model:
    """Check the parameters that a bundle gives to one of its parts.

    Args:
        model: The schema of the parameters.
        values: The parameters as the manifest has them.
        owner: Whose parameters they are, for the message, such as "detector 'agreement'".

    Returns:
        The parameters, checked.

    Raises:
        BundleError: If they don't fit the schema.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise BundleError(f"parameters of {owner}: {error.errors()[0]['msg']}") from error
