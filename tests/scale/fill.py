"""Fill a database with as many submitted sets as a site has after years, by SQL, in a minute or two.

Sets have twelve fields as sequencing labs do, half of them with few different values; every set has a file and a claim,
and a service has answered for all but the newest. The values follow from the numbers of the sets: each time the same.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

import psycopg
from psycopg import sql

from datameta.logic.blocks import BLOCK_SIZE, list_pieces, make_block

GROUPS = 50
SETS_OF_A_SUBMISSION = 100
BEGUN_AT = datetime(2020, 1, 1, tzinfo=UTC)
BETWEEN = timedelta(minutes=7)
"""When the first submission was made, and how long after each the next."""
STAGED = 2000
AWAITING = 300
FIELDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Lab-ID", {"isSiteUnique": True, "isMandatory": True}),
    ("Sampling date", {"dateTimeFmt": "%d.%m.%Y", "isMandatory": True}),
    ("ZIPCode", {}),
    ("Platform", {"isMandatory": True}),
    ("Reads", {"isFile": True, "isMandatory": True}),
    ("Organism", {}),
    ("Tissue", {}),
    ("Country", {}),
    ("Library", {}),
    ("Read count", {}),
    ("Concentration", {}),
    ("Comment", {}),
)
ANSWERS = ("Accession", "Verdict")
VALUES = {
    "Lab-ID": "'L' || lpad(g::text, 2, '0') || '-' || lpad(n::text, 7, '0')",
    "Sampling date": "to_char(date '2019-01-01' + (n * 7 % 2500)::int, 'YYYY-MM-DD') || 'T00:00:00'",
    "ZIPCode": "lpad((n * 37 % 1000)::text, 3, '0')",
    "Platform": "(ARRAY['Illumina NovaSeq 6000', 'Illumina MiSeq', 'Oxford Nanopore', 'PacBio Revio'])"
    "[1 + (n / 3 * 7 % 4)::int]",
    "Reads": "'L' || lpad(g::text, 2, '0') || '-' || lpad(n::text, 7, '0') || '_R1.fastq.gz'",
    "Organism": "(ARRAY['Homo sapiens', 'Mus musculus', 'Escherichia coli', 'SARS-CoV-2', 'Danio rerio',"
    " 'Salmonella enterica', 'Listeria monocytogenes', 'Drosophila melanogaster'])[1 + (n / 5 * 31 % 8)::int]",
    "Tissue": "(ARRAY['blood', 'swab', 'liver', 'lung', 'stool', 'brain', 'skin'])[1 + ((n * 11 + n / 7) % 7)::int]",
    "Country": "CASE WHEN n % 9973 = 0 THEN 'FR' ELSE (ARRAY['DE', 'AT', 'CH', 'NL'])[1 + (n * 13 / 3 % 4)::int] END",
    "Library": "'PCR-free, insert ' || 200 + n * 17 % 300",
    "Read count": "(100000 + n * 7919 % 9000000)::text",
    "Concentration": "round((n * 271 % 9973) / 100.0, 2)::text",
    "Comment": "CASE WHEN n % 50021 = 17 THEN 'contaminated in transit' WHEN n % 3 = 0 THEN 'sent on dry ice, tube '"
    " || n % 96 ELSE '' END",
}
"""The values of the set with the number ``n`` of the group ``g``, as SQL."""
INDEXES = ("ix_search_blocks_pieces", "ix_search_answers_pieces")
"""What is made much faster at the end."""

USERS = """
    INSERT INTO groups (site_id, name) SELECT 'SCALE-G' || n, 'Lab ' || lpad(n::text, 2, '0')
    FROM generate_series(1, {groups}) AS n ON CONFLICT DO NOTHING;
    INSERT INTO users (site_id, email, name, password_hash, group_id, group_admin, site_admin, site_read)
    SELECT 'SCALE-U' || id, 'user' || id || '@scale.example', 'User ' || id, '', id, false, false, false
    FROM groups WHERE site_id LIKE 'SCALE-%' ON CONFLICT DO NOTHING;
"""
SUBMISSIONS = """
    CREATE TEMPORARY TABLE numbered AS
    SELECT row_number() OVER (ORDER BY g.id) - 1 AS g, g.id AS group_id, u.id AS user_id, u.uuid AS user_uuid
    FROM groups g JOIN users u ON u.group_id = g.id AND u.site_id LIKE 'SCALE-%';
    CREATE TEMPORARY TABLE made AS
    SELECT n, n / {each} AS place, n / {each} * 7 % {groups} AS g FROM generate_series({first}::bigint, {last}) AS n;
    INSERT INTO submissions (site_id, label, user_id, group_id, submitted_at)
    SELECT 'SCALE-S' || place, CASE WHEN place % 3 = 0 THEN 'Run ' || place END, user_id, group_id,
        {begun_at} + place * {between}
    FROM (SELECT DISTINCT place, g FROM made) AS places JOIN numbered USING (g) ORDER BY place;
    INSERT INTO metadatasets (site_id, user_id, submission_id, record)
    SELECT 'SCALE-' || lpad((n * 7368787 % 100000000)::text, 8, '0'), s.user_id, s.id, {record}
    FROM made JOIN submissions s ON s.site_id = 'SCALE-S' || place ORDER BY n;
    INSERT INTO files (site_id, user_id, name, checksum, state, upload_expires_at, storage_key, size, md5,
        confirmed_at, checked_at, submission_id)
    SELECT 'SCALE-F' || m.id, m.user_id, m.record ->> {reads}, md5(m.id::text), 'confirmed', now(),
        'files/' || gen_random_uuid(), 1000 + m.id % 5000, md5(m.id::text), now(), now(), m.submission_id
    FROM metadatasets m JOIN submissions s ON s.id = m.submission_id WHERE s.site_id IN
        (SELECT 'SCALE-S' || place FROM made);
    INSERT INTO file_references (metadataset_id, metadatum_id, file_id)
    SELECT m.id, {reads}::bigint, f.id FROM metadatasets m JOIN files f ON f.site_id = 'SCALE-F' || m.id
    ON CONFLICT DO NOTHING;
    INSERT INTO unique_claims (metadatum_id, scope, value_hash, metadataset_id)
    SELECT {unique}::bigint, 0, sha256((m.record ->> {unique})::bytea), m.id FROM metadatasets m
    WHERE m.submission_id IS NOT NULL ON CONFLICT DO NOTHING;
    UPDATE submissions s SET metadataset_count = {each}, file_count = {each},
        byte_count = (SELECT sum(size) FROM files WHERE submission_id = s.id) WHERE metadataset_count = 0;
    DROP TABLE numbered, made;
"""
AUDIT = """
    INSERT INTO audit_events (event, actor_uuid, entity_type, entity_uuid, entity_site_id)
    SELECT 'metadataset.staged', u.uuid, 'MetaDataSet', m.uuid, m.site_id FROM metadatasets m
    JOIN users u ON u.id = m.user_id WHERE NOT EXISTS (SELECT FROM audit_events WHERE entity_uuid = m.uuid);
    INSERT INTO audit_seals (event_id, hash) SELECT e.id, sha256(e.id::text::bytea) FROM audit_events e
    WHERE NOT EXISTS (SELECT FROM audit_seals WHERE event_id = e.id) ORDER BY id;
"""
OTHERS = """
    INSERT INTO service_executions (service_id, metadataset_id, user_id, record)
    SELECT {service}, m.id, m.user_id,
        jsonb_build_object({accession}, 'ERS' || lpad((m.id * 7919 % 10000000)::text, 7, '0'),
            {verdict}, CASE WHEN m.id % 20011 = 5 THEN 'withdrawn' ELSE 'passed' END)
    FROM metadatasets m WHERE m.submission_id IS NOT NULL ORDER BY m.id
    LIMIT (SELECT greatest(count(*) - {awaiting}, 0) FROM metadatasets WHERE submission_id IS NOT NULL)
    ON CONFLICT DO NOTHING;
    INSERT INTO metadatasets (site_id, user_id, record)
    SELECT 'SCALE-T' || n, u.id, '{{}}' FROM generate_series(1, {staged}) AS n
    JOIN users u ON u.site_id = 'SCALE-U' || (SELECT min(id) + n % {groups} FROM groups WHERE site_id LIKE 'SCALE-%')
    ON CONFLICT DO NOTHING;
"""


BLOCKS = """
    SELECT s.id, s.site_id, s.label, m.id, m.site_id, m.record FROM submissions s
    JOIN metadatasets m ON m.submission_id = s.id
    WHERE NOT EXISTS (SELECT FROM search_blocks b WHERE b.submission_id = s.id) ORDER BY s.id, m.id
"""
COVERED = """
    SELECT b.id, e.service_id, e.record FROM search_blocks b
    JOIN metadatasets m ON m.submission_id = b.submission_id AND m.id BETWEEN b.first_id AND b.last_id
    JOIN service_executions e ON e.metadataset_id = m.id
    WHERE NOT EXISTS (SELECT FROM search_answers a WHERE a.block_id = b.id) ORDER BY b.id, e.service_id
"""

Connection = psycopg.Connection[Any]


class Lower(dict[str, str]):
    """Texts in lower case; they are all ASCII."""

    def __missing__(self, text: str) -> str:
        return text.lower()


def define(post: Callable[[str, dict[str, Any]], Any]) -> str:
    """Define the fields and the service, whose id is returned; ``post`` returns what the API answers."""
    service: str = post("/services", {"name": "Analysis"})["id"]["uuid"]
    fields = [*FIELDS, *((name, {"serviceId": service}) for name in ANSWERS)]
    texts = dict.fromkeys(("regexDescription", "longDescription", "example", "regExp", "dateTimeFmt"), "")
    rules = dict.fromkeys(("isMandatory", "isFile", "isSubmissionUnique", "isSiteUnique"), False)
    for order, (name, changes) in enumerate(fields):
        post("/metadata", {"name": name, "order": order, "serviceId": None, **texts, **rules, **changes})
    return service


def fill(connection: Connection, *, sets: int, first: int = 0, has_audit: bool = True) -> None:
    """Add submitted sets with the numbers from ``first`` on, and their events; the fields are defined already."""
    ids = dict(connection.execute("SELECT name, id FROM metadata").fetchall())
    [service] = connection.execute("SELECT service_id FROM metadata WHERE name = %s", [ANSWERS[0]]).fetchone() or [None]
    parts = [sql.SQL("{}, {}").format(str(ids[name]), sql.SQL(VALUES[name])) for name, _ in FIELDS]
    given = {
        "groups": GROUPS,
        "each": SETS_OF_A_SUBMISSION,
        "first": first,
        "last": first + sets - 1,
        "begun_at": BEGUN_AT,
        "between": BETWEEN,
        "staged": STAGED,
        "awaiting": AWAITING,
        "service": service,
        "reads": str(ids["Reads"]),
        "unique": str(ids["Lab-ID"]),
        "accession": str(ids["Accession"]),
        "verdict": str(ids["Verdict"]),
    }
    record = sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(parts))
    # Without triggers: the rows refer to each other as they should.
    connection.execute("SET session_replication_role = replica")
    for statements in (USERS, SUBMISSIONS, OTHERS, AUDIT) if has_audit else (USERS, SUBMISSIONS, OTHERS):
        connection.execute(sql.SQL(statements).format(record=record, **given))
    query = sql.SQL("SELECT indexdef FROM pg_indexes WHERE indexname = ANY({})").format(list(INDEXES))
    indexes = [row[0] for row in connection.execute(query)]
    connection.execute(sql.SQL("DROP INDEX {}").format(sql.SQL(", ").join(map(sql.Identifier, INDEXES))))
    columns = ("submission_id", "first_id", "last_id", "size", "filled", "pieces")
    _copy(connection, "search_blocks", columns, _make_blocks(connection))
    _copy(connection, "search_answers", ("block_id", "service_id", "answered", "pieces"), _make_answers(connection))
    for definition in indexes:
        connection.execute(definition)
    connection.execute("SET session_replication_role = DEFAULT")
    connection.commit()
    connection.autocommit = True
    connection.execute("VACUUM ANALYZE")
    connection.autocommit = False


def _copy(connection: Connection, table: str, columns: Iterable[str], rows: Iterator[tuple[Any, ...]]) -> None:
    names = ", ".join(columns)
    while some := list(islice(rows, 500)):
        with connection.cursor().copy(f"COPY {table} ({names}) FROM STDIN") as copy:
            for row in some:
                copy.write_row(row)


def _make_blocks(connection: Connection) -> Iterator[tuple[Any, ...]]:
    lower = Lower()
    for (submission, *names), rows in groupby(_read(connection, BLOCKS), itemgetter(0, 1, 2)):
        while some := list(islice(rows, BLOCK_SIZE)):
            records = {row[3]: row[5] for row in some}
            block = make_block([row[3:5] for row in some], filter(None, names), records, lower)
            yield (submission, *block.values())


def _make_answers(connection: Connection) -> Iterator[tuple[Any, ...]]:
    lower = Lower()
    for key, rows in groupby(_read(connection, COVERED), itemgetter(0, 1)):
        records = [row[2] for row in rows]
        yield (*key, len(records), list_pieces(records, [], lower))


def _read(connection: Connection, query: str) -> Iterator[tuple[Any, ...]]:
    with connection.cursor("scale") as cursor:
        cursor.itersize = 10_000
        yield from cursor.execute(query)
