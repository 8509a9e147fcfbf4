"""The tables, for Alembic and for the statements of the repositories."""

from app.models.audiences import Audience
from app.models.base import Base
from app.models.bulk_actions import BulkAction
from app.models.contacts import AudienceMember, Contact, Subscription
from app.models.events import Event, EventStream
from app.models.idempotency_keys import IdempotencyKey
from app.models.tags import ContactTag, Tag, TagCount
from app.models.workspaces import ApiKey, Client, Workspace

__all__ = [
    "ApiKey",
    "Audience",
    "AudienceMember",
    "Base",
    "BulkAction",
    "Client",
    "Contact",
    "ContactTag",
    "Event",
    "EventStream",
    "IdempotencyKey",
    "Subscription",
    "Tag",
    "TagCount",
    "Workspace",
]
