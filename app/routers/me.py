"""What a key can find out about itself."""

from app.dependencies import PrincipalDep
from app.frontend import new_router, requires
from app.schemas.me import MeRead

router = new_router("me", "Whom a key speaks for.")


@router.get("/me", response_description="The key, but for what makes it one.")
@requires()
async def get_me(principal: PrincipalDep) -> MeRead:
    """Tell whom the key speaks for, and what it may do."""
    return MeRead(
        key_id=principal.key_id,
        workspace=principal.workspace,
        client=principal.client,
        scopes=sorted(principal.scopes),
        audience=principal.audience,
        expires_at=principal.expires_at,
    )
