"""Every failure the firewall can name. A leaf: it imports nothing of the project.

* FirewallError                the message is for the user: what is wrong, what is allowed, what to do next
  + UsageError                 wrong option, argument or configuration; the command ends with exit code 2
    - ConfigError              a settings file or environment variable that does not fit the schema
    - SourceUriError           a source URI that names nothing we can open
  + ImageError                 pixels that can't be judged: wrong shape, type or size, not an image
    - StaleError               a frame that is not new: its time stamp goes back, or it repeats a part of one before
    - CameraFaultError         a frame of a camera that is frozen, repeating, blank, blocked or over-exposed
  + SourceError                a camera, stream or file that can't be opened or stopped giving frames
  + BundleError                a bundle that is missing, altered, incomplete or of another format version
  + EngineError                a network that can't be loaded, or gave no usable output
  + MissingExtraError          a command that needs packages of an optional extra
  + DataError                  (lab) a data set, checkpoint or database that is missing or does not fit
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "CameraFaultError",
    "ConfigError",
    "DataError",
    "EngineError",
    "FirewallError",
    "ImageError",
    "MissingExtraError",
    "SourceError",
    "SourceUriError",
    "StaleError",
    "UsageError",
]


class FirewallError(Exception):
    """Base of all errors a user can meet; `exit_code` is what a command line ends with."""

    exit_code = 1


class UsageError(FirewallError):
    """A command or function was used in a way that isn't allowed; nothing was done."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting that is unknown, of the wrong type or out of range."""


class SourceUriError(UsageError):
    """A source URI that the grammar doesn't know."""


class ImageError(FirewallError):
    """Pixels that the firewall refuses to judge."""


class StaleError(ImageError):
    """A frame that shows what was seen before, not what there is now."""


class CameraFaultError(ImageError):
    """A frame of a camera that doesn't show what is before it, or showed nothing of it a moment ago."""


class SourceError(FirewallError):
    """A source that can't be opened, or that failed while it was read."""


class BundleError(FirewallError):
    """A bundle that may not be used."""


class EngineError(FirewallError):
    """A network that can't be loaded or run."""


class MissingExtraError(FirewallError):
    """An optional extra is not installed."""


class DataError(FirewallError):
    """Lab data that is missing or doesn't fit."""
