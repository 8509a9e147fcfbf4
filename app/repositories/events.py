"""How a verb records what it changed: pieces of its own statement, so that both commit or neither does."""

# Ids that one event carries at most in `added`, and in `removed`. Larger changes write several events.
IDS_PER_EVENT = 500


def record(
    kind: str, source: str, *, audience: str = "null", tag: str = "null", contact: str = "null", payload: str = "'{}'"
) -> str:
    """An INSERT of one event for each row of `source`; the other arguments are SQL expressions over that row.

    The event's sequence number is drawn as its row is made, so `source` must be finished when its first row comes
    out: an aggregate or a grouping over the changed rows, never a bare look at them. Then the locks are held, and
    changes that conflict are numbered in the order of their effects.
    """
    return f"""
        insert into events
            (workspace_id, type, audience_id, tag_id, contact_id, payload, client_id, key_id, front_end, request_id)
        select
            :workspace_id, '{kind}', cast({audience} as uuid), cast({tag} as uuid), cast({contact} as uuid),
            cast({payload} as jsonb), cast(:client_id as uuid), cast(:key_id as uuid),
            cast(:front_end as text), cast(:request_id as text)
        from {source}
    """


def chunks(changes: str, *, group: str, member: str) -> str:
    """Rows of (group, added, removed), at most 500 ids each, from rows of (group, member, delta) named `changes`."""
    return f"""
        select
            {group},
            coalesce(jsonb_agg({member} order by {member}) filter (where delta > 0), '[]') as added,
            coalesce(jsonb_agg({member} order by {member}) filter (where delta < 0), '[]') as removed
        from (
            select
                {group}, {member}, delta,
                (row_number() over (partition by {group}, delta order by {member}) - 1) / {IDS_PER_EVENT} as chunk
            from {changes}
        ) numbered
        group by {group}, chunk
        order by {group}, chunk
    """
