"""The whole schema, with what later versions write: the event feed, repeats, subscriptions.

Revision 0001, the first.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


SEQUENCES = ("contacts_number_seq", "tags_number_seq", "events_sequence_seq")


def upgrade() -> None:
    for name in SEQUENCES:
        op.execute(sa.schema.CreateSequence(sa.Sequence(name)))
    op.create_table(
        "contact_tags",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("tag_id", sa.Uuid(), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("assigned_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("front_end", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "tag_id", "contact_id", name=op.f("pk_contact_tags")),
    )
    op.create_index(
        op.f("ix_contact_tags_workspace_id_contact_id_tag_id"),
        "contact_tags",
        ["workspace_id", "contact_id", "tag_id"],
        unique=False,
    )
    op.create_table(
        "events",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column(
            "sequence", sa.BigInteger(), server_default=sa.text("nextval('events_sequence_seq')"), nullable=False
        ),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=True),
        sa.Column("tag_id", sa.Uuid(), nullable=True),
        sa.Column("contact_id", sa.Uuid(), nullable=True),
        sa.Column("client_id", sa.Uuid(), nullable=True),
        sa.Column("key_id", sa.Uuid(), nullable=True),
        sa.Column("front_end", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "id", name=op.f("pk_events")),
        sa.UniqueConstraint("workspace_id", "position", name=op.f("uq_events_workspace_id_position")),
    )
    op.create_index(
        "ix_events_unnumbered",
        "events",
        ["workspace_id", "sequence"],
        unique=False,
        postgresql_where=sa.text("position is null"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("front_end", sa.Text(collation="C"), nullable=False),
        sa.Column("key", sa.Text(collation="C"), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "key_id", "front_end", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "tag_counts",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("tag_id", sa.Uuid(), nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("workspace_id", "tag_id", "slot", name=op.f("pk_tag_counts")),
    )
    op.create_table(
        "workspaces",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workspaces")),
        sa.UniqueConstraint("slug", name=op.f("uq_workspaces_slug")),
    )
    op.create_table(
        "audiences",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_default", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("last_secondary_id", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_audiences_workspaces")),
        sa.PrimaryKeyConstraint("workspace_id", "id", name=op.f("pk_audiences")),
        sa.UniqueConstraint("workspace_id", "slug", name=op.f("uq_audiences_workspace_id_slug")),
    )
    op.create_index(
        "uq_audiences_default", "audiences", ["workspace_id"], unique=True, postgresql_where=sa.text("is_default")
    )
    op.create_table(
        "clients",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.Text(collation="C"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_clients_workspaces")),
        sa.PrimaryKeyConstraint("workspace_id", "id", name=op.f("pk_clients")),
        sa.UniqueConstraint("workspace_id", "slug", name=op.f("uq_clients_workspace_id_slug")),
    )
    op.create_table(
        "contacts",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), server_default=sa.text("nextval('contacts_number_seq')"), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("email_key", sa.Text(collation="C"), nullable=False),
        sa.Column("external_id", sa.Text(collation="C"), nullable=True),
        sa.Column("first_name", sa.Text(), nullable=True),
        sa.Column("last_name", sa.Text(), nullable=True),
        sa.Column(
            "attributes", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("email_validation_status", sa.Text(), nullable=True),
        sa.Column("email_validation_reason", sa.Text(), nullable=True),
        sa.Column("email_validated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("global_unsubscribed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hard_bounced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("complained_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_contacts_workspaces")),
        sa.PrimaryKeyConstraint("workspace_id", "id", name=op.f("pk_contacts")),
        sa.UniqueConstraint("workspace_id", "email_key", name=op.f("uq_contacts_workspace_id_email_key")),
        sa.UniqueConstraint("workspace_id", "external_id", name=op.f("uq_contacts_workspace_id_external_id")),
        sa.UniqueConstraint("workspace_id", "number", name=op.f("uq_contacts_workspace_id_number")),
    )
    op.create_table(
        "event_streams",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("last_position", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name=op.f("fk_event_streams_workspaces")),
        sa.PrimaryKeyConstraint("workspace_id", name=op.f("pk_event_streams")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=True),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["workspace_id", "audience_id"],
            ["audiences.workspace_id", "audiences.id"],
            name=op.f("fk_api_keys_audiences"),
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id", "client_id"], ["clients.workspace_id", "clients.id"], name=op.f("fk_api_keys_clients")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("secret_hash", name=op.f("uq_api_keys_secret_hash")),
    )
    op.create_index(op.f("ix_api_keys_workspace_id"), "api_keys", ["workspace_id"], unique=False)
    op.create_table(
        "audience_members",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("joined_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id", "audience_id"],
            ["audiences.workspace_id", "audiences.id"],
            name=op.f("fk_audience_members_audiences"),
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id", "contact_id"],
            ["contacts.workspace_id", "contacts.id"],
            name=op.f("fk_audience_members_contacts"),
        ),
        sa.PrimaryKeyConstraint("workspace_id", "audience_id", "contact_id", name=op.f("pk_audience_members")),
    )
    op.create_index(
        op.f("ix_audience_members_workspace_id_contact_id"),
        "audience_members",
        ["workspace_id", "contact_id"],
        unique=False,
    )
    op.create_table(
        "tags",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), server_default=sa.text("nextval('tags_number_seq')"), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", sa.Text(collation="C"), nullable=False),
        sa.Column("slug", sa.Text(collation="C"), nullable=False),
        sa.Column("secondary_id", sa.BigInteger(), nullable=False),
        sa.Column("color", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("public_description", sa.Text(), nullable=True),
        sa.Column("subscriber_editable", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id", "audience_id"], ["audiences.workspace_id", "audiences.id"], name=op.f("fk_tags_audiences")
        ),
        sa.PrimaryKeyConstraint("workspace_id", "id", name=op.f("pk_tags")),
        sa.UniqueConstraint(
            "workspace_id", "audience_id", "name_key", name=op.f("uq_tags_workspace_id_audience_id_name_key")
        ),
        sa.UniqueConstraint(
            "workspace_id", "audience_id", "secondary_id", name=op.f("uq_tags_workspace_id_audience_id_secondary_id")
        ),
        sa.UniqueConstraint("workspace_id", "audience_id", "slug", name=op.f("uq_tags_workspace_id_audience_id_slug")),
        sa.UniqueConstraint("workspace_id", "number", name=op.f("uq_tags_workspace_id_number")),
    )
    op.create_table(
        "subscriptions",
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unsubscribed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("status in ('pending', 'subscribed', 'unsubscribed')", name=op.f("ck_subscriptions_status")),
        sa.ForeignKeyConstraint(
            ["workspace_id", "audience_id", "contact_id"],
            ["audience_members.workspace_id", "audience_members.audience_id", "audience_members.contact_id"],
            name=op.f("fk_subscriptions_audience_members"),
        ),
        sa.ForeignKeyConstraint(
            ["workspace_id", "client_id"], ["clients.workspace_id", "clients.id"], name=op.f("fk_subscriptions_clients")
        ),
        sa.PrimaryKeyConstraint("workspace_id", "id", name=op.f("pk_subscriptions")),
        sa.UniqueConstraint(
            "workspace_id",
            "contact_id",
            "audience_id",
            "client_id",
            name=op.f("uq_subscriptions_workspace_id_contact_id_audience_id_client_id"),
            postgresql_nulls_not_distinct=True,
        ),
    )


def downgrade() -> None:
    op.drop_table("subscriptions")
    op.drop_table("tags")
    op.drop_table("audience_members")
    op.drop_table("api_keys")
    op.drop_table("event_streams")
    op.drop_table("contacts")
    op.drop_table("clients")
    op.drop_table("audiences")
    op.drop_table("workspaces")
    op.drop_table("tag_counts")
    op.drop_table("idempotency_keys")
    op.drop_table("events")
    op.drop_table("contact_tags")
    for name in SEQUENCES:
        op.execute(sa.schema.DropSequence(sa.Sequence(name)))
