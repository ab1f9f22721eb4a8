"""The Grafana board that ships, against what /metrics really serves."""

from __future__ import annotations

import json
import re
import urllib.request
from importlib import resources
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from firewall.decision.drift import DriftState
from firewall.decision.golden import GoldenState
from firewall.host.sensors import Readings
from firewall.server import HttpServer, Monitor, create_app, monitor
from firewall.server.metrics import Metrics
from firewall.sinks import OutputHealth
from tests.server.reports import SOURCE, Reports

BOARD: dict[str, Any] = json.loads((resources.files("firewall") / "assets" / "grafana.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES: list[str] = [target["expr"] for panel in PANELS for target in panel["targets"]]
#: Served, and on no panel: parts of histograms of which others are shown. Who adds a metric adds a panel, or this.
NOT_SHOWN = {
    "firewall_verdict_latency_seconds_sum",
    "firewall_verdict_latency_seconds_count",
    "firewall_stage_duration_seconds_bucket",
}
_READINGS = Readings({"cpu": 48.0}, {"VDD_IN": 6.0}, {"gpu0": 0.5}, {"gpu0": 3e8}, {"cpu-throttle-alert": False})


@pytest.fixture(scope="module")
def served() -> dict[str, set[str]]:
    """Sample -> its labels, as a scraper reads them from a guard that has all there is: outputs, drift, golden frames
    and sensors."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(monitor, "Metrics", lambda version, cameras: Metrics(version, cameras, lambda: _READINGS))
        guard = Monitor(source=SOURCE, bundle="hand-made", live=True)
    guard.set_outputs(lambda: [OutputHealth("-", True, "", 3, 0, 0, 0)])
    guard.set_drift(DriftState())
    guard.set_golden(GoldenState(3))
    reports = Reports()
    guard.report(reports.frame(reports.released, reports.withheld))
    with (
        HttpServer(create_app(guard), "127.0.0.1", 0) as server,
        urllib.request.urlopen(f"{server.url}metrics", timeout=30) as answer,
    ):
        text = answer.read().decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def names(query: str) -> list[str]:
    """The metrics in a query."""
    return re.findall(r"\bfirewall_[a-z0-9_]+", query)


@pytest.mark.parametrize("query", [*QUERIES, BOARD["templating"]["list"][1]["definition"]])
def test_every_query_asks_for_what_there_is(query: str, served: dict[str, set[str]]) -> None:
    """Each metric is served under exactly this name, with the labels by which the query chooses and sums; `instance` is
    the scraper's own."""
    assert names(query) and set(names(query)) <= set(served)
    chosen = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", query)
    summed = [label.strip() for group in re.findall(r"\bby \(([^)]*)\)", query) for label in group.split(",")]
    known = {"instance"}.union(*(served[name] for name in names(query)))
    assert set(chosen) | set(summed) <= known
    for one, other in ("()", "{}", "[]"):
        assert query.count(one) == query.count(other)


def test_everything_that_is_served_is_shown(served: dict[str, set[str]]) -> None:
    """No metric is left off the board but those of NOT_SHOWN, and the times at which counters began."""
    shown = {name for query in QUERIES for name in names(query)}
    assert {name for name in served if not name.endswith("_created")} - NOT_SHOWN == shown


def test_the_legends_name_labels_that_the_queries_keep() -> None:
    """A legend with a label that was summed away would be empty."""
    for panel in PANELS:
        for target in panel["targets"]:
            kept = set(re.findall(r"\w+", " ".join(re.findall(r"\bby \(([^)]*)\)", target["expr"]))))
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept - {"le"}


def test_the_board_can_be_imported() -> None:
    """Ids and titles are its own, panels don't lie on one another, and each asks the data source that is chosen when
    the board is opened."""
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids) and BOARD["uid"] and BOARD["schemaVersion"] >= 36
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24
        taken |= cells
    asked = [each["datasource"]["uid"] for panel in PANELS for each in (panel, *panel["targets"])]
    assert set(asked) == {"${datasource}"}
    assert [each["name"] for each in BOARD["templating"]["list"]] == ["datasource", "instance"]
