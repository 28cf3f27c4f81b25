"""The tables. A row's key is ``id``, its UUID ``uuid``, its short id ``site_id``."""

from datameta.models.accounts import (
    ApiKey,
    Group,
    LoginSession,
    OldPassword,
    PasswordToken,
    RecoveryCode,
    Registration,
    Throttle,
    User,
)
from datameta.models.appsettings import AppSetting
from datameta.models.audit import AuditEvent, AuditPending, AuditSeal
from datameta.models.base import Base
from datameta.models.files import DownloadToken, File, FileReference, FileState, UploadPart
from datameta.models.idempotency import IdempotentAnswer
from datameta.models.metadata import (
    SITE_SCOPE,
    MetaDataSet,
    MetaDatum,
    RecordRule,
    RulebookVersion,
    RuleCondition,
    UniqueClaim,
    VocabularyTerm,
)
from datameta.models.search import SearchAnswer, SearchBlock
from datameta.models.services import Service, ServiceExecution, ServiceUser
from datameta.models.submissions import Submission

__all__ = [
    "SITE_SCOPE",
    "ApiKey",
    "AppSetting",
    "AuditEvent",
    "AuditPending",
    "AuditSeal",
    "Base",
    "DownloadToken",
    "File",
    "FileReference",
    "FileState",
    "Group",
    "IdempotentAnswer",
    "LoginSession",
    "MetaDataSet",
    "MetaDatum",
    "OldPassword",
    "PasswordToken",
    "RecordRule",
    "RecoveryCode",
    "Registration",
    "RuleCondition",
    "RulebookVersion",
    "SearchAnswer",
    "SearchBlock",
    "Service",
    "ServiceExecution",
    "ServiceUser",
    "Submission",
    "Throttle",
    "UniqueClaim",
    "UploadPart",
    "User",
    "VocabularyTerm",
]
