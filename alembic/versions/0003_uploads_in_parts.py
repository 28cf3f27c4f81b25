"""Uploads in parts, verification of what no store proves, and the baseline of every content.

Rows of before stay as they are: their content is read, and its digests noted, in the next cycle.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATES = "'new', 'announced', 'confirming', 'verifying', 'failed', 'confirmed', 'deleting'"
FORMER_STATES = "'new', 'announced', 'confirming', 'confirmed', 'deleting'"
HAS_CONTENT = "(storage_key IS NOT NULL AND size IS NOT NULL)"


def upgrade() -> None:
    """Bring the schema to this revision."""
    for column in make_columns():
        op.add_column("files", column)
    replace_checks(STATES, f"state NOT IN ('verifying', 'failed', 'confirmed') OR {HAS_CONTENT}")
    op.create_check_constraint("session", "files", "part_size IS NULL OR announced_size IS NOT NULL")
    op.create_index(
        "ix_files_occupied", "files", ["user_id"], unique=False, postgresql_include=["size", "announced_size"]
    )
    op.create_index(
        "ix_files_checked",
        "files",
        [sa.text("checked_at NULLS FIRST")],
        unique=False,
        postgresql_where=sa.text("state = 'confirmed' AND problem IS NULL"),
    )
    op.create_table(
        "upload_parts",
        sa.Column("file_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("md5", sa.String(length=32), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(length=32), nullable=True),
        sa.ForeignKeyConstraint(
            ["file_id"], ["files.id"], name=op.f("fk_upload_parts_file_id_files"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("file_id", "number", name=op.f("pk_upload_parts")),
    )


def downgrade() -> None:
    """Take the schema back to the one before; what is being verified is deleted by the next sweep."""
    op.execute("UPDATE files SET state = 'deleting', state_changed_at = now() WHERE state IN ('verifying', 'failed')")
    op.drop_table("upload_parts")
    op.drop_index("ix_files_checked", table_name="files")
    op.drop_index("ix_files_occupied", table_name="files", postgresql_include=["size", "announced_size"])
    op.drop_constraint("session", "files", type_="check")
    replace_checks(FORMER_STATES, f"state <> 'confirmed' OR {HAS_CONTENT}")
    for column in make_columns():
        op.drop_column("files", column.name)


def replace_checks(states: str, content: str) -> None:
    """Give the table of files the rules on states of one revision."""
    op.drop_constraint("state", "files", type_="check")
    op.drop_constraint("confirmed", "files", type_="check")
    op.create_check_constraint("state", "files", f"state IN ({states})")
    op.create_check_constraint("confirmed", "files", content)


def make_columns() -> list[sa.Column[Any]]:
    """Return the columns that files have more than before."""
    return [
        sa.Column("upload_suffix", sa.String(length=40), server_default="", nullable=False),
        sa.Column("announced_size", sa.BigInteger(), nullable=True),
        sa.Column("part_size", sa.BigInteger(), nullable=True),
        sa.Column("md5", sa.String(length=32), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("verified_bytes", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("lease", sa.Uuid(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("problem", sa.String(length=40), nullable=True),
    ]
