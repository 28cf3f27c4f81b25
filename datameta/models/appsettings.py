"""What site admins set at run time; what may be set, its type and default are in ``logic/appsettings.py``.

Rows with other keys are notes that the portal keeps for itself, and shows to nobody.
"""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from datameta.models.base import Base, HasUuid


class AppSetting(HasUuid, Base):
    """One setting, as text in the form of its type."""

    __tablename__ = "app_settings"

    key: Mapped[str] = mapped_column(String(100), unique=True)
    value: Mapped[str] = mapped_column(String(100_000))
