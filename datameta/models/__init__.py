"""The tables. A row's key is ``id``, its UUID ``uuid``, its short id ``site_id``."""

from datameta.models.accounts import ApiKey, Group, User
from datameta.models.base import Base
from datameta.models.files import DownloadToken, File, FileReference, FileState
from datameta.models.metadata import SITE_SCOPE, MetaDataSet, MetaDatum, UniqueClaim
from datameta.models.services import Service, ServiceExecution, ServiceUser
from datameta.models.submissions import Submission

__all__ = [
    "SITE_SCOPE",
    "ApiKey",
    "Base",
    "DownloadToken",
    "File",
    "FileReference",
    "FileState",
    "Group",
    "MetaDataSet",
    "MetaDatum",
    "Service",
    "ServiceExecution",
    "ServiceUser",
    "Submission",
    "UniqueClaim",
    "User",
]
