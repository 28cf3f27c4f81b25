"""Field definitions."""

from typing import Any

from pyramid.request import Request

from datameta.api import operation, serialize
from datameta.logic import definitions, services
from datameta.logic.definitions import Definition
from datameta.models import MetaDatum


@operation("getMetaData")
def get_meta_data(request: Request) -> Any:
    identifiers = services.list_identifiers(request.db)
    return [serialize.show_metadatum(field, identifiers) for field in definitions.list_definitions(request.db)]


@operation("createMetaDatum")
def create_meta_datum(request: Request) -> Any:
    definition = _read_definition(request.openapi_validated.body)
    return _show(request, *definitions.create_definition(request.db, request.actor, definition))


@operation("updateMetaDatum")
def update_meta_datum(request: Request) -> Any:
    definition = _read_definition(request.openapi_validated.body)
    metadatum_id = request.matchdict["id"]
    return _show(request, *definitions.update_definition(request.db, request.actor, metadatum_id, definition))


def _read_definition(body: dict[str, Any]) -> Definition:
    return Definition(
        name=body["name"],
        regex_description=body["regexDescription"],
        long_description=body["longDescription"],
        example=body["example"],
        reg_exp=body["regExp"],
        date_time_fmt=body["dateTimeFmt"],
        is_mandatory=body["isMandatory"],
        order=int(body["order"]),
        is_file=body["isFile"],
        is_submission_unique=body["isSubmissionUnique"],
        is_site_unique=body["isSiteUnique"],
        service_id=body["serviceId"],
    )


def _show(request: Request, metadatum: MetaDatum, affected: int) -> Any:
    request.response.headers["DataMeta-Affected"] = str(affected)
    return serialize.show_metadatum(metadatum, services.list_identifiers(request.db))
