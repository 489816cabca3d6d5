"""The dashboard: its form, and that it shows every metric."""

from fleet import promtool
from helm import find, template
from queries import board, names, of_dashboard, panels, series


def the_dashboard_is_a_dashboard():
    assert find(template("--set", "dashboard.enabled=true"), "ConfigMap", "-dashboard")
    top = board()["panels"]
    inner = [panel for row in top for panel in row.get("panels", [])]
    assert len({panel["id"] for panel in top + inner}) == len(top + inner)
    for level in top, *(row["panels"] for row in top if row.get("collapsed")):
        places = set()
        for panel in level:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24, panel["title"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            assert not cells & places, f"{panel['title']} lies upon another panel"
            places |= cells
    for panel in panels():
        assert panel["targets"] and all(target["expr"] for target in panel["targets"]), panel["title"]


def rows_of_details_are_collapsed():
    rows = {row["title"]: row["collapsed"] for row in board()["panels"] if row["type"] == "row"}
    assert [title for title, collapsed in rows.items() if not collapsed] == ["Overview", "Devices", "Messages", "Queue"]
    assert all(row["panels"] for row in board()["panels"] if row.get("collapsed"))


def trouble_has_another_colour_than_health():
    steps = {panel["title"]: panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", []) for panel in panels()}
    for title, none, one in [("Replicas that answer", "red", "green"), ("Ready replicas", "red", "green"),
                             ("Parts that do not answer", "green", "red"), ("Restarts, 1 h", "green", "orange")]:
        colours = {step["value"]: step["color"] for step in steps[title]}
        assert (colours.get(None), colours.get(1)) == (none, one), (title, colours)


def the_dashboard_shows_every_documented_metric():
    shown = set().union(*(names(query) for _, query in of_dashboard()))
    missing = [name for name in series() if not name.endswith(("_sum", "_count")) and name not in shown]
    assert not missing, missing


def every_query_selects_by_all_variables():
    for place, query in of_dashboard():
        if not query.startswith("label_values") and "kube_" not in query:
            for label in "cluster", "namespace", "job", "pod":
                assert query.count(f'{label}=~"${label}"') == len([*filter(None, query.split("{")[1:])]), f"{place}: {query}"


def the_number_of_messages_is_of_those_that_were_understood():
    (query,) = [query for place, query in of_dashboard() if place == "Messages"]
    assert 'result="accepted"' in query


def connections_bytes_memory_and_files_have_a_line_for_their_limit():
    limited = {
        panel["title"] for panel in panels()
        if any("limit" in target["legendFormat"] for target in panel["targets"])
    }
    assert limited == {
        "Connections and their limit", "Under way, bytes of each worker", "Memory and its limit", "Open files and their limit",
    }, limited


def promtool_reads_every_query():
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, (_, query) in enumerate(of_dashboard()) if not query.startswith("label_values")
    ]
    done = promtool(["check", "rules"], {"rules.yaml": {"groups": [{"name": "dashboard", "rules": rules}]}})
    assert done.returncode == 0 and len(rules) > 70, done.stdout + done.stderr
