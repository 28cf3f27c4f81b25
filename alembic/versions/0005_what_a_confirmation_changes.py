"""A file that is being confirmed keeps what it was announced as, for the case that it is refused."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.add_column("files", sa.Column("former", postgresql.JSONB(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Take the schema back to the one before; what is refused keeps what its confirmation changed."""
    op.drop_column("files", "former")
