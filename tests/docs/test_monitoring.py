"""docs/monitoring.md lists every metric there is."""

import re
from collections.abc import Iterator

from datameta import metrics
from datameta.logic.health import Health
from datameta.web.monitoring import SiteCollector
from tests.conftest import Portal
from tests.docs import DOCS, check_document

TABLE = re.compile(r"(?<=\| --- \| --- \| --- \|\n)(?:\| `datameta_.*\n|{metrics}\n)+")
ENDINGS = {"counter": "_total", "info": "_info"}


def list_metrics(portal: Portal) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield each metric's name, as it is asked for, with its labels and what it says."""
    counted = {collector._name: collector._labelnames for collector in metrics.OWN._collector_to_names}
    for metric in metrics.OWN.collect():
        yield metric.name + ENDINGS.get(metric.type, ""), counted[metric.name], metric.documentation
    for metric in SiteCollector(Health(portal.database, portal.storage), portal.database).collect():
        labels = ("version",) if metric.type == "info" else metric._labelnames
        yield metric.name + ENDINGS.get(metric.type, ""), labels, metric.documentation


def test_the_document_has_every_metric(portal: Portal) -> None:
    rows = [
        f"| `{name}` | {', '.join(f'`{label}`' for label in labels)} | {documentation} |\n"
        for name, labels, documentation in list_metrics(portal)
    ]
    assert len(rows) > 10
    text = (DOCS / "monitoring.md").read_text("utf-8")
    check_document("monitoring.md", TABLE.sub(lambda match: "".join(rows), text, count=1))
