"""Queries of rules and dashboard, and what docs/metrics.md says of their metrics."""

import json
import re

from fleet import groups
from helm import ROOT, VALUES, find, template

METRICS = (ROOT / "docs/metrics.md").read_text()
# Of Prometheus itself, and of kube-state-metrics, which need not be there.
FOREIGN = {"up", "kube_deployment_spec_replicas"}
TARGET = {"cluster", "namespace", "job", "pod", "deployment"}
_NAME = r"\b(?:jetlinks_bridge|process|kube)_\w+|\bup\b(?=\{)"


def board():
    """The dashboard."""
    return json.loads(find(template("-f", VALUES / "everything.yaml"), "ConfigMap", "-dashboard")["data"]["jetlinks-bridge.json"])


def panels():
    """The panels that hold queries, those of collapsed rows included."""
    for panel in board()["panels"]:
        yield from (inner for inner in [panel, *panel.get("panels", [])] if inner["type"] != "row")


def of_rules():
    """Each rule's name and query."""
    for group in groups():
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]


def of_dashboard():
    """Each panel's, annotation's and variable's name and query."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in board()["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for variable in board()["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


def names(query):
    """The metrics of a query; recorded ones are made of others."""
    return set(re.findall(_NAME, re.sub(r"\bjob:\w+:\w+", "", query)))


def series():
    """Name and labels of every series that is documented: a histogram has three names."""
    known = {name: set(TARGET) for name in FOREIGN}
    rows = re.findall(r"^\| `((?:jetlinks_bridge|process)_\w+)` \| (\w+) \| ([^|]*)\|", METRICS, re.MULTILINE)
    for name, kind, labels in rows:
        has = set(re.findall(r"`(\w+)`", labels)) | TARGET
        for ending in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            known[name + ending] = has | ({"le"} if ending == "_bucket" else set())
    return known
