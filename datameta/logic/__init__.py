"""The rules, as functions: ``db`` or ``sessions`` first, then ``actor``, the rest by keyword."""
