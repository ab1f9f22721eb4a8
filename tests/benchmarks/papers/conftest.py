"""The lab's drawn signs and their database: the papers' experiments run on them in small."""

from tests.lab.conftest import made, signs, small_gtsrb

__all__ = ["made", "signs", "small_gtsrb"]
