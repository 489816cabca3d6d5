"""Rules and their runbooks: what is rendered with which values."""

import json
import re

from fleet import alerts, groups, promtool
from helm import CHART, RELEASE, ROOT, run
from queries import METRICS, names, of_dashboard, of_rules, series

RUNBOOKS = (ROOT / "docs/runbooks.md").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
GROUPS = ["replicas", "process", "queue", "devices", "commands", "registry", "certificates", "objectives"]


def promtool_reads_every_rule_whatever_the_values_are():
    for arguments in (
        [],
        ["--set-json", 'prometheusRule.thresholds={"commandLagRecords": 12345678, "refusedShare": 0, "certificateCriticalDays": 0.5}'],
        ["--set-json", "prometheusRule.objectives.acknowledgedInTime=0.99999"],
        ["--set", "prometheusRule.additionalLabels.team=devices,prometheusRule.severities.JetlinksBridgeTakeovers=info"],
        ["--set", "prometheusRule.disabledGroups={objectives,process},prometheusRule.disabled={JetlinksBridgeAbsent}"],
        ["--set", "autoscaling.enabled=true,autoscaling.targetConnections=1000,config.registry.http.timeout=750ms"],
        ["--set-string", r"prometheusRule.selector=job=~\"a: #b\"\,cluster=\"c\""],
        ["--set", "replicas=null"],
    ):
        done = promtool(["check", "rules", "--lint=all", "--lint-fatal"], {"rules.yaml": {"groups": groups(*arguments)}})
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        rendered = json.dumps(groups(*arguments))
        assert not re.search(r"<\w+>", rendered), re.findall(r"<\w+>", rendered)


def a_wrong_expression_is_found():
    rules = groups()
    rules[0]["rules"][0]["expr"] += " >"
    assert promtool(["check", "rules"], {"rules.yaml": {"groups": rules}}).returncode != 0


def rules_and_dashboard_use_documented_metrics_and_labels_alone():
    known = series()
    for place, query in [*of_rules(), *of_dashboard()]:
        used = names(query)
        assert used or "job:" in query, place
        assert used <= set(known), f"{place}: {used - set(known)}"
        for name, selector in re.findall(r"\b(\w+)\{([^}]*)\}", query):
            labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", selector))
            assert name.startswith("job:") or name not in known or labels <= known[name], f"{place}: {name} has no {labels - known[name]}"
        for by in re.findall(r"by \(([^)]*)\)", query):
            labels = set().union(*(known[name] for name in used))
            assert set(by.replace(" ", "").split(",")) <= labels, f"{place}: by ({by})"


def values_of_labels_in_rules_and_dashboard_are_documented():
    for place, query in [*of_rules(), *of_dashboard()]:
        for label, text in re.findall(r"(outcome|reason|result|part|transport|cause|role)(?:=~|!~|!=|=)\"([^\"$]*)\"", query):
            for value in text.split("|"):
                assert re.search(rf"\b{value}\b", METRICS), f"{place}: {label}={value}"


def every_rule_selects_this_release_and_keeps_its_labels():
    release = 'namespace="field",job="devices-jetlinks-bridge-admin"'
    for place, query in of_rules():
        for name, selector in re.findall(r"([\w:]+)\{([^}]*)\}", query):
            if name.startswith("job:"):
                assert selector == 'bridge="field/devices-jetlinks-bridge"', place
            else:
                assert name.startswith("kube_") or selector.startswith(release), f"{place}: {name}{{{selector}}}"
        # Of what is aggregated the name of the release stays.
        assert all(by.startswith("namespace, job") for by in re.findall(r"by \(([^)]*)\)", query)), place
    assert 'job="x"' in alerts("--set-string", 'prometheusRule.selector=job="x"')["JetlinksBridgeAbsent"]["expr"]


def disabled_alerts_and_groups_are_gone_and_no_others():
    every = set(alerts())
    assert every - set(alerts("--set", "prometheusRule.disabled={JetlinksBridgeTakeovers}")) == {"JetlinksBridgeTakeovers"}
    assert [group["name"].split(".")[-1] for group in groups()] == GROUPS
    for name in GROUPS:
        left = [group["name"].split(".")[-1] for group in groups("--set", f"prometheusRule.disabledGroups={{{name}}}")]
        assert left == [group for group in GROUPS if group != name], left


def every_threshold_and_objective_changes_a_rule():
    rule = SCHEMA["properties"]["prometheusRule"]["properties"]
    names_and_values = {name: f"0.98{number + 1:03}1" for number, name in enumerate(
        [*rule["thresholds"]["properties"], *rule["objectives"]["properties"]])}
    arguments = []
    for kind in "thresholds", "objectives":
        given = {name: float(names_and_values[name]) for name in rule[kind]["properties"]}
        arguments += ["--set-json", f"prometheusRule.{kind}={json.dumps(given)}"]
    changed = json.dumps(groups(*arguments))
    for kind in "thresholds", "objectives":
        for name in rule[kind]["properties"]:
            assert names_and_values[name] in changed or name == "registryTimeoutShare", name
    # Half of the time-out, and whatever that is.
    slow = "JetlinksBridgeRegistrySlow"
    assert alerts()[slow]["expr"].endswith("> 1")
    assert alerts("--set", "config.registry.http.timeout=1s500ms")[slow]["expr"].endswith("> 0.75")


def labels_annotations_and_severities_are_values():
    rules = alerts(
        "--set", "prometheusRule.additionalLabels.team=devices,prometheusRule.additionalAnnotations.board=one",
        "--set", "prometheusRule.severities.JetlinksBridgeTakeovers=info,prometheusRule.runbookUrl=https://example.com/r",
    )
    for name, rule in rules.items():
        assert rule["labels"]["team"] == "devices" and rule["annotations"]["board"] == "one", name
        assert rule["annotations"]["runbook_url"] == f"https://example.com/r#{name.lower()}"
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), name
    assert rules["JetlinksBridgeTakeovers"]["labels"]["severity"] == "info"
    assert alerts()["JetlinksBridgeTakeovers"]["labels"]["severity"] == "warning"


def what_no_rule_has_is_refused():
    for value in (
        'disabled=["JetlinksBridgeOther"]', 'disabledGroups=["other"]', 'severities={"JetlinksBridgeOther": "info"}',
        "thresholds.other=1", "thresholds.refusedShare=2", "objectives.connectsAccepted=1", "objectives.connectsAccepted=0.5",
        'runbookUrl="a#b"', 'additionalLabels={"prometheusRule-a-b": "c"}',
    ):
        done = run("template", RELEASE, CHART, "--set-json", f"prometheusRule.{value}")
        assert done.returncode != 0 and re.search("prometheusRule|JetlinksBridgeOther", done.stderr), f"{value}: {done.stderr}"


def the_schema_names_every_alert():
    assert SCHEMA["definitions"]["alert"]["enum"] == list(alerts())


def every_text_says_which_release_and_those_of_pods_which_pod():
    for name, rule in alerts().items():
        text = rule["annotations"]["description"]
        assert "{{ $labels.namespace }}" in text, name
        assert "{{ $labels.pod }}" in text or "{{ $labels.job }}" in text, name
        assert ("{{ $labels.pod }}" in text) == ("job, pod" in rule["expr"]), name


def every_alert_has_one_runbook_and_every_runbook_an_alert():
    headings = re.findall(r"^## (JetlinksBridge\w+)$", RUNBOOKS, re.MULTILINE)
    assert sorted(headings) == sorted(alerts()), set(headings) ^ set(alerts())
    anchors = {heading.lower() for heading in headings}
    for name, rule in alerts().items():
        path, _, fragment = rule["annotations"]["runbook_url"].partition("#")
        assert (ROOT / path).is_file() and fragment in anchors, name


def every_runbook_says_what_it_means_what_to_look_at_and_what_to_do():
    sections = re.split(r"^## (JetlinksBridge\w+)$", RUNBOOKS, flags=re.MULTILINE)[1:]
    for name, text in zip(sections[::2], sections[1::2]):
        for part in "Means", "Look at", "Do":
            assert len(re.findall(rf"^\*\*{part}:\*\* \S", text, re.MULTILINE)) == 1, f"{name}: {part}"
        for metric in re.findall(r"`(?:sum by \(\w+\) \()?((?:jetlinks_bridge|process)_\w+)", text):
            assert any(known.startswith(metric) for known in series()), f"{name}: {metric}"


def every_line_of_the_log_that_a_runbook_names_is_in_the_sources():
    sources = "".join(path.read_text() for path in (ROOT / "src").rglob("*.rs"))
    named = set(re.findall(r"(?<!\*)\*([A-Za-z][^*]+)\*(?!\*)", re.sub(r"\s+", " ", re.sub(r"\*\*[^*]+\*\*", "", RUNBOOKS))))
    missing = {line for line in named if line not in sources}
    assert len(named) > 10 and not missing, missing
