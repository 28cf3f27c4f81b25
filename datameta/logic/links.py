"""Links by mail to set a password: one live link per user, kept as its hash, and good for one use.

The token stands in the link's fragment, which reaches neither logs nor other sites.
"""

from datetime import datetime, timedelta

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from datameta.credentials import hash_token, make_token
from datameta.logic.mail import store_mail
from datameta.models import PasswordToken, User
from datameta.settings import Settings
from datameta.vault import Vault


def mail_link(
    db: Session, user: User, *, settings: Settings, vault: Vault, template: str, lifetime: timedelta, **values: str
) -> None:
    """Store the mail with a new link, which ends the one before; ``values`` are further ones the template names."""
    token = make_token()
    row = {"token_hash": hash_token(token), "expires_at": func.now() + lifetime, "created_at": func.now()}
    statement = insert(PasswordToken).values(user_id=user.id, **row)
    statement = statement.on_conflict_do_update(index_elements=["user_id"], set_=row)
    expires_at = db.execute(statement.returning(PasswordToken.expires_at)).scalar_one()
    store_mail(
        db, vault, template=template, to=user.email, values=fill_link(settings, user.name, token, expires_at) | values
    )


def fill_link(settings: Settings, name: str, token: str, expires_at: datetime) -> dict[str, str]:
    """Return what a mail with a link names."""
    link = f"{settings.base_url}/setpass#{token}"
    return {"name": name, "link": link, "expires": f"{expires_at:%Y-%m-%d %H:%M} UTC"}
