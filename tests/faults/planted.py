"""Bugs to plant, so that the checker can show that it finds them."""

from collections.abc import Callable

BUGS: dict[str, Callable[[], None]] = {}
