"""Field definitions, what refines them, and the rules between fields."""

from typing import Any

import orjson
from pyramid.request import Request
from pyramid.response import Response

from datameta.api import operation, serialize
from datameta.logic import definitions, refinements, rules, services, trials, vocabularies
from datameta.logic.definitions import Definition
from datameta.logic.fields import Kind, Operator, Term
from datameta.logic.refinements import Refinement
from datameta.logic.rulebook import KeptByVersion, load_rulebook
from datameta.logic.rules import SentCondition, SentRule
from datameta.models import MetaDatum

_shown: KeptByVersion[bytes] = KeptByVersion()
"""All definitions as they look on the wire: the same for everybody."""


@operation("getMetaData")
def get_meta_data(request: Request) -> Any:
    body = _shown.find(request.database) or _shown.get(request.db, lambda: orjson.dumps(_show_all(request)))
    return Response(body, content_type="application/json", charset=None)


@operation("createMetaDatum")
def create_meta_datum(request: Request) -> Any:
    definition = _read_definition(request.openapi_validated.body)
    return _show(request, *definitions.create_definition(request.db, request.actor, definition))


@operation("updateMetaDatum")
def update_meta_datum(request: Request) -> Any:
    definition = _read_definition(request.openapi_validated.body)
    metadatum_id = request.matchdict["id"]
    return _show(request, *definitions.update_definition(request.db, request.actor, metadatum_id, definition))


@operation("getRefinement")
def get_refinement(request: Request) -> Any:
    return serialize.show_refinement(refinements.get_refinement(request.db, metadatum_id=request.matchdict["id"]))


@operation("setRefinement")
def set_refinement(request: Request) -> Any:
    refinement = _read_refinement(request.openapi_validated.body)
    view, affected = refinements.update_refinement(
        request.db, request.actor, metadatum_id=request.matchdict["id"], refinement=refinement
    )
    _tell_affected(request, affected)
    return serialize.show_refinement(view)


@operation("tryField")
def try_field(request: Request) -> Any:
    body = request.openapi_validated.body
    refinement, vocabulary = body.get("refinement"), body.get("vocabulary")
    trial = trials.try_field(
        request.db,
        request.actor,
        definition=_read_definition(body["metadatum"]),
        refinement=None if refinement is None else _read_refinement(refinement),
        terms=None if vocabulary is None else _read_terms(vocabulary),
        metadatum_id=body.get("metadatumId"),
        value=body.get("value"),
    )
    return serialize.show_trial(trial, has_value="value" in body)


@operation("getVocabulary")
def get_vocabulary(request: Request) -> Any:
    return serialize.show_vocabulary(vocabularies.list_terms(request.db, metadatum_id=request.matchdict["id"]))


@operation("setVocabulary")
def set_vocabulary(request: Request) -> Any:
    body = request.openapi_validated.body
    if isinstance(body, str):
        terms, places = vocabularies.parse_vocabulary(body)
    else:
        terms = _read_terms(body)
        places = vocabularies.name_places(terms)
    shown, affected = vocabularies.replace_vocabulary(
        request.db, request.actor, metadatum_id=request.matchdict["id"], terms=terms, places=places
    )
    _tell_affected(request, affected)
    return serialize.show_vocabulary(shown)


@operation("getRecordRules")
def get_record_rules(request: Request) -> Any:
    return serialize.show_rules(load_rulebook(request.db))


@operation("setRecordRules")
def set_record_rules(request: Request) -> Any:
    sent = _read_rules(request.openapi_validated.body)
    book, affected = rules.replace_rules(request.db, request.actor, sent)
    _tell_affected(request, affected)
    return serialize.show_rules(book)


@operation("tryRecordRules")
def try_record_rules(request: Request) -> Any:
    body = request.openapi_validated.body
    trial = trials.try_rules(request.db, request.actor, rules=_read_rules(body), record=body["record"])
    return serialize.show_rule_trial(trial)


def _read_rules(body: dict[str, Any]) -> list[SentRule]:
    return [
        SentRule(rule["message"], _read_conditions(rule["when"]), _read_conditions(rule["then"]))
        for rule in body["rules"]
    ]


def _read_conditions(sent: list[dict[str, Any]]) -> tuple[SentCondition, ...]:
    return tuple(
        SentCondition(
            field=condition["field"],
            operator=Operator(condition["operator"]),
            words=tuple(condition.get("values", ())),
            other=condition.get("otherField"),
        )
        for condition in sent
    )


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


def _read_refinement(body: dict[str, Any]) -> Refinement:
    return Refinement(
        kind=Kind(body["kind"]),
        unit=body["unit"],
        minimum=body["minimum"],
        maximum=body["maximum"],
        is_integer=body["isInteger"],
        missing_terms=tuple(dict.fromkeys(body["missingTerms"])),
    )


def _read_terms(body: dict[str, Any]) -> list[Term]:
    return [Term(term["term"], tuple(term.get("synonyms", ()))) for term in body["terms"]]


def _show_all(request: Request) -> list[dict[str, Any]]:
    identifiers = services.list_identifiers(request.db)
    return [serialize.show_metadatum(field, identifiers) for field in definitions.list_definitions(request.db)]


def _show(request: Request, metadatum: MetaDatum, affected: int) -> Any:
    _tell_affected(request, affected)
    return serialize.show_metadatum(metadatum, services.list_identifiers(request.db))


def _tell_affected(request: Request, affected: int) -> None:
    """Say how many staged sets do not pass what was changed."""
    request.response.headers["DataMeta-Affected"] = str(affected)
