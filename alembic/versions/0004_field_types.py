"""Fields are refined: vocabularies, numbers, terms for missing values, and rules between fields.

No field is of another kind than text before somebody says so: what is stored passes as it did.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    for column in make_columns():
        op.add_column("metadata", column)
    op.create_check_constraint("kind", "metadata", "kind IN ('text', 'vocabulary', 'number')")
    op.create_index(
        "ix_metadatasets_same", "metadatasets", ["user_id", sa.text("md5(record::text)")], unique=False
    )
    op.create_table(
        "vocabulary_terms",
        sa.Column("metadatum_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("term", sa.String(length=255), nullable=False),
        sa.Column("synonyms", sa.ARRAY(sa.String(length=255)), nullable=False),
        sa.ForeignKeyConstraint(
            ["metadatum_id"], ["metadata.id"], name=op.f("fk_vocabulary_terms_metadatum_id_metadata")
        ),
        sa.PrimaryKeyConstraint("metadatum_id", "position", name=op.f("pk_vocabulary_terms")),
    )
    op.create_table(
        "record_rules",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("message", sa.String(length=1000), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_record_rules")),
        sa.UniqueConstraint("position", name=op.f("uq_record_rules_position")),
    )
    op.create_table(
        "rule_conditions",
        sa.Column("rule_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("is_demand", sa.Boolean(), nullable=False),
        sa.Column("metadatum_id", sa.BigInteger(), nullable=False),
        sa.Column("operator", sa.String(length=20), nullable=False),
        sa.Column("words", sa.ARRAY(sa.String(length=255)), nullable=False),
        sa.Column("other_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["rule_id"], ["record_rules.id"], name=op.f("fk_rule_conditions_rule_id_record_rules"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["metadatum_id"], ["metadata.id"], name=op.f("fk_rule_conditions_metadatum_id_metadata")
        ),
        sa.ForeignKeyConstraint(["other_id"], ["metadata.id"], name=op.f("fk_rule_conditions_other_id_metadata")),
        sa.PrimaryKeyConstraint("rule_id", "position", name=op.f("pk_rule_conditions")),
    )
    for name in ("metadatum_id", "other_id"):
        op.create_index(op.f(f"ix_rule_conditions_{name}"), "rule_conditions", [name], unique=False)


def downgrade() -> None:
    """Take the schema back to the one before; refinements, vocabularies and rules are lost."""
    for table in ("rule_conditions", "record_rules", "vocabulary_terms"):
        op.drop_table(table)
    op.drop_index("ix_metadatasets_same", table_name="metadatasets")
    op.drop_constraint("kind", "metadata", type_="check")
    for column in make_columns():
        op.drop_column("metadata", column.name)


def make_columns() -> list[sa.Column[Any]]:
    """Return the columns that definitions have more than before."""
    return [
        sa.Column("kind", sa.String(length=20), server_default="text", nullable=False),
        sa.Column("unit", sa.String(length=50), nullable=True),
        sa.Column("minimum", sa.String(length=50), nullable=True),
        sa.Column("maximum", sa.String(length=50), nullable=True),
        sa.Column("is_integer", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("missing_terms", sa.ARRAY(sa.String(length=100)), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("vocabulary_version", sa.Uuid(), nullable=True),
    ]
