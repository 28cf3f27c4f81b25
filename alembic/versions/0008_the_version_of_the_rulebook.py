"""All that records are checked by has one version, which triggers change with any of it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = ("metadata", "vocabulary_terms", "record_rules", "rule_conditions")
MAKE_FUNCTION = """
CREATE FUNCTION renew_rulebook() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rulebook_version (id, version) VALUES (1, gen_random_uuid())
    ON CONFLICT (id) DO UPDATE SET version = excluded.version;
    RETURN NULL;
END $$
"""
MAKE_TRIGGER = """
CREATE TRIGGER renew_rulebook AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION renew_rulebook()
"""


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "rulebook_version",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rulebook_version")),
    )
    op.execute("INSERT INTO rulebook_version (id, version) VALUES (1, gen_random_uuid())")
    op.execute(MAKE_FUNCTION)
    for table in TABLES:
        op.execute(MAKE_TRIGGER.format(table=table))
    op.drop_column("metadata", "vocabulary_version")


def downgrade() -> None:
    """Take the schema back to the one before."""
    op.add_column("metadata", sa.Column("vocabulary_version", sa.Uuid(), nullable=True))
    op.execute("UPDATE metadata SET vocabulary_version = gen_random_uuid() WHERE kind = 'vocabulary'")
    op.execute("DROP FUNCTION renew_rulebook() CASCADE")
    op.drop_table("rulebook_version")
