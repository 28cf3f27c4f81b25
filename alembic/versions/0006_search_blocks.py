"""Searches are narrowed by blocks of submitted sets, which tell what occurs in them; submissions count what they hold.

The blocks of what was submitted before are made here, as ``logic/blocks.py`` makes those of what is submitted after.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SIZE = 20
MOST = 20_000
SHORT = 4

PIECES = f"""
    pieces AS (
        SELECT block, key || '=' AS piece FROM held WHERE value <> ''
        UNION SELECT block, key || '=' || value FROM held WHERE length(value) BETWEEN 1 AND {SHORT}
        UNION SELECT block, substr(content, place, length)
        FROM contents, generate_series(1, 3) AS length, generate_series(1, length(content) - length + 1) AS place
    ),
    gathered AS (
        SELECT block, CASE WHEN count(*) > {MOST} THEN ARRAY[''] ELSE array_agg(piece) END AS pieces
        FROM pieces GROUP BY block
    )
"""

BLOCKS = f"""
    WITH numbered AS MATERIALIZED (
        SELECT m.id, m.site_id, m.submission_id, m.record,
            (row_number() OVER (PARTITION BY m.submission_id ORDER BY m.id) - 1) / {SIZE} AS place
        FROM metadatasets m WHERE m.submission_id IS NOT NULL
    ),
    blocks AS MATERIALIZED (
        SELECT min(id) AS block, submission_id, place, min(id) AS first_id, max(id) AS last_id, count(*) AS size
        FROM numbered GROUP BY submission_id, place
    ),
    sets AS (SELECT block, n.* FROM numbered n JOIN blocks USING (submission_id, place)),
    held AS MATERIALIZED (SELECT block, key, value FROM sets, jsonb_each_text(record)),
    contents AS (
        SELECT block, lower(value) AS content FROM held
        UNION SELECT block, lower(site_id) FROM sets
        UNION SELECT block, lower(name) FROM blocks b JOIN submissions s ON s.id = b.submission_id,
            unnest(ARRAY[s.site_id, s.label]) AS name WHERE name IS NOT NULL
    ),
    filled AS (
        SELECT block, array_agg(key::bigint ORDER BY key::bigint) AS filled
        FROM (
            SELECT block, key FROM held JOIN blocks USING (block)
            WHERE value <> '' GROUP BY block, key, size HAVING count(*) = size
        ) AS everywhere
        GROUP BY block
    ),
    {PIECES}
    INSERT INTO search_blocks (submission_id, first_id, last_id, size, filled, pieces)
    SELECT submission_id, first_id, last_id, size, coalesce(filled, '{{}}'), pieces
    FROM blocks JOIN gathered USING (block) LEFT JOIN filled USING (block) ORDER BY submission_id, first_id
"""

ANSWERS = f"""
    WITH answers AS MATERIALIZED (
        SELECT dense_rank() OVER (ORDER BY b.id, e.service_id) AS block, b.id AS block_id, e.service_id, e.record
        FROM service_executions e JOIN metadatasets m ON m.id = e.metadataset_id
        JOIN search_blocks b ON b.submission_id = m.submission_id AND m.id BETWEEN b.first_id AND b.last_id
    ),
    held AS MATERIALIZED (SELECT block, key, value FROM answers, jsonb_each_text(record)),
    contents AS (SELECT DISTINCT block, lower(value) AS content FROM held),
    {PIECES},
    counted AS (SELECT block, block_id, service_id, count(*) AS answered FROM answers GROUP BY 1, 2, 3)
    INSERT INTO search_answers (block_id, service_id, answered, pieces)
    SELECT block_id, service_id, answered, coalesce(pieces, '{{}}') FROM counted LEFT JOIN gathered USING (block)
"""


COUNTS = """
    UPDATE submissions s SET
        metadataset_count = (SELECT count(*) FROM metadatasets WHERE submission_id = s.id),
        file_count = (SELECT count(*) FROM files WHERE submission_id = s.id),
        byte_count = (SELECT coalesce(sum(size), 0) FROM files WHERE submission_id = s.id)
"""

INDEXES = (
    ("audit_events", "ix_audit_events_event", ["event", "id"], None),
    ("audit_events", "ix_audit_events_actor_site", ["actor_site_id", "id"], None),
    ("audit_events", "ix_audit_events_entity_site", ["entity_site_id", "id"], "entity_site_id IS NOT NULL"),
    ("files", "ix_files_problem", ["id"], "problem IS NOT NULL"),
)


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "search_blocks",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("submission_id", sa.BigInteger(), nullable=False),
        sa.Column("first_id", sa.BigInteger(), nullable=False),
        sa.Column("last_id", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("filled", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("pieces", postgresql.ARRAY(sa.Text(collation="C")), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name=op.f("fk_search_blocks_submission_id_submissions")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search_blocks")),
        sa.UniqueConstraint("submission_id", "first_id", name=op.f("uq_search_blocks_submission_id_first_id")),
    )
    op.create_table(
        "search_answers",
        sa.Column("block_id", sa.BigInteger(), nullable=False),
        sa.Column("service_id", sa.BigInteger(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.Column("pieces", postgresql.ARRAY(sa.Text(collation="C")), nullable=False),
        sa.ForeignKeyConstraint(
            ["block_id"], ["search_blocks.id"], name=op.f("fk_search_answers_block_id_search_blocks")
        ),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name=op.f("fk_search_answers_service_id_services")),
        sa.PrimaryKeyConstraint("block_id", "service_id", name=op.f("pk_search_answers")),
    )
    for table in ("search_blocks", "search_answers"):
        # The pieces lie beside the rows, which are gone through where their order is asked for.
        op.execute(f"ALTER TABLE {table} SET (toast_tuple_target = 128)")
    for column in make_columns():
        op.add_column("submissions", column)
    op.execute(COUNTS)
    for table, name, columns, condition in INDEXES:
        where = None if condition is None else sa.text(condition)
        op.create_index(name, table, columns, unique=False, postgresql_where=where)
    op.execute(BLOCKS)
    op.execute(ANSWERS)
    op.create_index(op.f("ix_search_answers_service_id"), "search_answers", ["service_id"], unique=False)
    for table in ("search_blocks", "search_answers"):
        op.create_index(
            f"ix_{table}_pieces",
            table,
            ["pieces"],
            unique=False,
            postgresql_using="gin",
            postgresql_with={"fastupdate": "off"},
        )


def downgrade() -> None:
    """Take the schema back to the one before; the blocks are made again by an upgrade."""
    op.drop_table("search_answers")
    op.drop_table("search_blocks")
    for table, name, _, _ in INDEXES:
        op.drop_index(name, table_name=table)
    for column in make_columns():
        op.drop_column("submissions", column.name)


def make_columns() -> list[sa.Column[Any]]:
    """Return the columns that submissions have more than before."""
    return [
        sa.Column("metadataset_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("file_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("byte_count", sa.BigInteger(), server_default="0", nullable=False),
    ]
