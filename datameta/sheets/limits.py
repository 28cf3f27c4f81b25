"""How large a sheet may be, and what reading one may cost: every bound in one place, none depends on the file."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Bounds of a file, of its tables, and of the process that reads it. Sizes are bytes, times seconds."""

    file_size: int = 64 * MIB
    members: int = 200
    inflated_size: int = 2048 * MIB
    """Of all members together, as they declare it; none can be larger than it says."""
    ratio: int = 500
    """Inflated to deflated size of one member: sheets reach 20, those whose rows are all alike 280, bombs 1,000."""
    ratio_exempt_size: int = MIB
    """Members up to this inflated size may have any ratio."""
    rows: int = 100_000
    """Rows of one table that hold something, beside the header."""
    columns: int = 500
    cell_length: int = 10_000
    """Characters of one cell."""
    address_space: int = 1024 * MIB
    cpu_seconds: int = 90
    wall_seconds: int = 120
    open_files: int = 32
    output_size: int = 256 * MIB
    """Of what the process writes to a file."""


DEFAULT_LIMITS = Limits()
