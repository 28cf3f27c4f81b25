from datameta.sheets.archive import Archive
from datameta.sheets.limits import Limits
from datameta.sheets.values import SheetError, Table


class OdsWorkbook:
    dialect = None
    template_version = None
    format = "ods"
    tables: list[Table]

    def __init__(self, archive: Archive, limits: Limits) -> None:
        raise SheetError("Not yet.", "unknown_format")
