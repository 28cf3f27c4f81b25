"""the first schema."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema to this revision."""
    op.create_table(
        "groups",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("site_id", sa.String(length=50), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("uuid", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_groups")),
        sa.UniqueConstraint("name", name=op.f("uq_groups_name")),
        sa.UniqueConstraint("site_id", name=op.f("uq_groups_site_id")),
        sa.UniqueConstraint("uuid", name=op.f("uq_groups_uuid")),
    )
    op.create_table(
        "services",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("site_id", sa.String(length=50), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("uuid", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_services")),
        sa.UniqueConstraint("name", name=op.f("uq_services_name")),
        sa.UniqueConstraint("site_id", name=op.f("uq_services_site_id")),
        sa.UniqueConstraint("uuid", name=op.f("uq_services_uuid")),
    )
    op.create_table(
        "metadata",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("regex_description", sa.String(length=10000), nullable=True),
        sa.Column("long_description", sa.String(length=10000), nullable=True),
        sa.Column("example", sa.String(length=10000), nullable=True),
        sa.Column("reg_exp", sa.String(length=1000), nullable=True),
        sa.Column("date_time_fmt", sa.String(length=100), nullable=True),
        sa.Column("is_mandatory", sa.Boolean(), nullable=False),
        sa.Column("order", sa.Integer(), nullable=False),
        sa.Column("is_file", sa.Boolean(), nullable=False),
        sa.Column("is_submission_unique", sa.Boolean(), nullable=False),
        sa.Column("is_site_unique", sa.Boolean(), nullable=False),
        sa.Column("service_id", sa.BigInteger(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("uuid", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name=op.f("fk_metadata_service_id_services")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metadata")),
        sa.UniqueConstraint("name", name=op.f("uq_metadata_name")),
        sa.UniqueConstraint("uuid", name=op.f("uq_metadata_uuid")),
    )
    op.create_index(op.f("ix_metadata_service_id"), "metadata", ["service_id"], unique=False)
    op.create_table(
        "users",
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("password_hash", sa.String(length=200), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("group_id", sa.BigInteger(), nullable=False),
        sa.Column("group_admin", sa.Boolean(), nullable=False),
        sa.Column("site_admin", sa.Boolean(), nullable=False),
        sa.Column("site_read", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("site_id", sa.String(length=50), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("uuid", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_users_group_id_groups")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("site_id", name=op.f("uq_users_site_id")),
        sa.UniqueConstraint("uuid", name=op.f("uq_users_uuid")),
    )
    op.create_index(op.f("ix_users_group_id"), "users", ["group_id"], unique=False)
    op.create_index("uq_users_email_lower", "users", [sa.literal_column("lower(email)")], unique=True)
    op.create_table(
        "api_keys",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("label", sa.String(length=200), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("uuid", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["api_keys.id"], name=op.f("fk_api_keys_parent_id_api_keys"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_keys_user_id_users"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_api_keys_token_hash")),
        sa.UniqueConstraint("uuid", name=op.f("uq_api_keys_uuid")),
    )
    op.create_index(op.f("ix_api_keys_parent_id"), "api_keys", ["parent_id"], unique=False)
    op.create_index(op.f("ix_api_keys_user_id"), "api_keys", ["user_id"], unique=False)
    op.create_table(
        "service_users",
        sa.Column("service_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["service_id"], ["services.id"], name=op.f("fk_service_users_service_id_services"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_service_users_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("service_id", "user_id", name=op.f("pk_service_users")),
    )
    op.create_index(op.f("ix_service_users_user_id"), "service_users", ["user_id"], unique=False)
    op.create_table(
        "submissions",
        sa.Column("label", sa.String(length=100), nullable=True),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("group_id", sa.BigInteger(), nullable=False),
        sa.Column("submitted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("site_id", sa.String(length=50), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("uuid", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name=op.f("fk_submissions_group_id_groups")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_submissions_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_submissions")),
        sa.UniqueConstraint("site_id", name=op.f("uq_submissions_site_id")),
        sa.UniqueConstraint("uuid", name=op.f("uq_submissions_uuid")),
    )
    op.create_index("ix_submissions_group_id", "submissions", ["group_id", "submitted_at"], unique=False)
    op.create_index("ix_submissions_submitted_at", "submissions", ["submitted_at"], unique=False)
    op.create_table(
        "metadatasets",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("submission_id", sa.BigInteger(), nullable=True),
        sa.Column("record", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("site_id", sa.String(length=50), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("uuid", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["submission_id"], ["submissions.id"], name=op.f("fk_metadatasets_submission_id_submissions")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_metadatasets_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metadatasets")),
        sa.UniqueConstraint("site_id", name=op.f("uq_metadatasets_site_id")),
        sa.UniqueConstraint("uuid", name=op.f("uq_metadatasets_uuid")),
    )
    op.create_index(
        "ix_metadatasets_staged_by",
        "metadatasets",
        ["user_id"],
        unique=False,
        postgresql_where=sa.text("submission_id IS NULL"),
    )
    op.create_index("ix_metadatasets_submission_id", "metadatasets", ["submission_id", "id"], unique=False)
    op.create_table(
        "service_executions",
        sa.Column("service_id", sa.BigInteger(), nullable=False),
        sa.Column("metadataset_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("record", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("executed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("uuid", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["metadataset_id"], ["metadatasets.id"], name=op.f("fk_service_executions_metadataset_id_metadatasets")
        ),
        sa.ForeignKeyConstraint(
            ["service_id"], ["services.id"], name=op.f("fk_service_executions_service_id_services")
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_service_executions_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_executions")),
        sa.UniqueConstraint(
            "metadataset_id", "service_id", name=op.f("uq_service_executions_metadataset_id_service_id")
        ),
        sa.UniqueConstraint("uuid", name=op.f("uq_service_executions_uuid")),
    )
    op.create_index(op.f("ix_service_executions_service_id"), "service_executions", ["service_id"], unique=False)
    op.create_table(
        "unique_claims",
        sa.Column("metadatum_id", sa.BigInteger(), nullable=False),
        sa.Column("scope", sa.BigInteger(), nullable=False),
        sa.Column("value_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("metadataset_id", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("scope >= 0", name=op.f("ck_unique_claims_scope")),
        sa.ForeignKeyConstraint(
            ["metadataset_id"], ["metadatasets.id"], name=op.f("fk_unique_claims_metadataset_id_metadatasets")
        ),
        sa.ForeignKeyConstraint(["metadatum_id"], ["metadata.id"], name=op.f("fk_unique_claims_metadatum_id_metadata")),
        sa.PrimaryKeyConstraint("metadatum_id", "scope", "value_hash", name=op.f("pk_unique_claims")),
    )
    op.create_index(op.f("ix_unique_claims_metadataset_id"), "unique_claims", ["metadataset_id"], unique=False)
    op.create_table(
        "files",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("checksum", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("state_changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("upload", sa.String(length=1024), nullable=True),
        sa.Column("upload_token_hash", sa.LargeBinary(length=32), nullable=True),
        sa.Column("upload_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("storage_key", sa.String(length=200), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("submission_id", sa.BigInteger(), nullable=True),
        sa.Column("service_execution_id", sa.BigInteger(), nullable=True),
        sa.Column("site_id", sa.String(length=50), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("uuid", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.CheckConstraint("service_execution_id IS NULL OR state = 'confirmed'", name=op.f("ck_files_executed")),
        sa.CheckConstraint(
            "state <> 'confirmed' OR (storage_key IS NOT NULL AND size IS NOT NULL)", name=op.f("ck_files_confirmed")
        ),
        sa.CheckConstraint(
            "state IN ('new', 'announced', 'confirming', 'confirmed', 'deleting')", name=op.f("ck_files_state")
        ),
        sa.CheckConstraint("submission_id IS NULL OR state = 'confirmed'", name=op.f("ck_files_submitted")),
        sa.ForeignKeyConstraint(
            ["service_execution_id"],
            ["service_executions.id"],
            name=op.f("fk_files_service_execution_id_service_executions"),
        ),
        sa.ForeignKeyConstraint(["submission_id"], ["submissions.id"], name=op.f("fk_files_submission_id_submissions")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_files_user_id_users")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
        sa.UniqueConstraint("site_id", name=op.f("uq_files_site_id")),
        sa.UniqueConstraint("uuid", name=op.f("uq_files_uuid")),
    )
    op.create_index(op.f("ix_files_service_execution_id"), "files", ["service_execution_id"], unique=False)
    op.create_index(
        "ix_files_staged_by", "files", ["user_id"], unique=False, postgresql_where=sa.text("submission_id IS NULL")
    )
    op.create_index(op.f("ix_files_submission_id"), "files", ["submission_id"], unique=False)
    op.create_index(
        "ix_files_unfinished",
        "files",
        ["state_changed_at"],
        unique=False,
        postgresql_where=sa.text("state <> 'confirmed'"),
    )
    op.create_table(
        "download_tokens",
        sa.Column("token_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("file_id", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["file_id"], ["files.id"], name=op.f("fk_download_tokens_file_id_files"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_download_tokens")),
    )
    op.create_index(op.f("ix_download_tokens_expires_at"), "download_tokens", ["expires_at"], unique=False)
    op.create_index(op.f("ix_download_tokens_file_id"), "download_tokens", ["file_id"], unique=False)
    op.create_table(
        "file_references",
        sa.Column("metadataset_id", sa.BigInteger(), nullable=False),
        sa.Column("metadatum_id", sa.BigInteger(), nullable=False),
        sa.Column("file_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["files.id"], name=op.f("fk_file_references_file_id_files")),
        sa.ForeignKeyConstraint(
            ["metadataset_id"], ["metadatasets.id"], name=op.f("fk_file_references_metadataset_id_metadatasets")
        ),
        sa.ForeignKeyConstraint(
            ["metadatum_id"], ["metadata.id"], name=op.f("fk_file_references_metadatum_id_metadata")
        ),
        sa.PrimaryKeyConstraint("metadataset_id", "metadatum_id", name=op.f("pk_file_references")),
        sa.UniqueConstraint("file_id", name=op.f("uq_file_references_file_id")),
    )


def downgrade() -> None:
    """Take the schema back to the one before."""
    op.drop_table("file_references")
    op.drop_index(op.f("ix_download_tokens_file_id"), table_name="download_tokens")
    op.drop_index(op.f("ix_download_tokens_expires_at"), table_name="download_tokens")
    op.drop_table("download_tokens")
    op.drop_index("ix_files_unfinished", table_name="files", postgresql_where=sa.text("state <> 'confirmed'"))
    op.drop_index(op.f("ix_files_submission_id"), table_name="files")
    op.drop_index("ix_files_staged_by", table_name="files", postgresql_where=sa.text("submission_id IS NULL"))
    op.drop_index(op.f("ix_files_service_execution_id"), table_name="files")
    op.drop_table("files")
    op.drop_index(op.f("ix_unique_claims_metadataset_id"), table_name="unique_claims")
    op.drop_table("unique_claims")
    op.drop_index(op.f("ix_service_executions_service_id"), table_name="service_executions")
    op.drop_table("service_executions")
    op.drop_index("ix_metadatasets_submission_id", table_name="metadatasets")
    op.drop_index(
        "ix_metadatasets_staged_by", table_name="metadatasets", postgresql_where=sa.text("submission_id IS NULL")
    )
    op.drop_table("metadatasets")
    op.drop_index("ix_submissions_submitted_at", table_name="submissions")
    op.drop_index("ix_submissions_group_id", table_name="submissions")
    op.drop_table("submissions")
    op.drop_index(op.f("ix_service_users_user_id"), table_name="service_users")
    op.drop_table("service_users")
    op.drop_index(op.f("ix_api_keys_user_id"), table_name="api_keys")
    op.drop_index(op.f("ix_api_keys_parent_id"), table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_index("uq_users_email_lower", table_name="users")
    op.drop_index(op.f("ix_users_group_id"), table_name="users")
    op.drop_table("users")
    op.drop_index(op.f("ix_metadata_service_id"), table_name="metadata")
    op.drop_table("metadata")
    op.drop_table("services")
    op.drop_table("groups")
