"""A pytest plugin of `make mutation`: tests in mutants/ see the package that lies there, not the checkout.

An editable install finds `firewall` before anything on the path does, so that no mutant would ever be run. Its finder
is taken out; only the compiled module still comes from the installation.
"""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

HERE = Path.cwd()
# Outside mutants/ (where mutmut itself starts) there is nothing to do.
if HERE.name == "mutants":
    sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__name__.startswith("ScikitBuild")]
    import firewall

    if not Path(firewall.__file__).is_relative_to(HERE):
        raise ImportError(f"{firewall.__file__} would be tested, not the mutants in {HERE}")
    firewall.__path__.append(str(Path(sysconfig.get_path("platlib")) / "firewall"))
