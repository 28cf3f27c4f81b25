"""The benchmark: ``python -m tests.bench [name…]``. It starts portals of its own and is no test."""
