"""Indexes for lists by what contacts agreed to.

Revision 0002. Writers of the two tables wait while they are built. Not concurrently: that would wait for a second
service that waits for its turn to migrate.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_subscriptions_subscribed",
        "subscriptions",
        ["workspace_id", "audience_id", "client_id", "contact_id"],
        postgresql_where=sa.text("status = 'subscribed'"),
    )
    op.create_index(
        "ix_contacts_global_unsubscribed",
        "contacts",
        ["workspace_id", "id"],
        postgresql_where=sa.text("global_unsubscribed_at is not null"),
    )


def downgrade() -> None:
    op.drop_index("ix_contacts_global_unsubscribed", "contacts")
    op.drop_index("ix_subscriptions_subscribed", "subscriptions")
