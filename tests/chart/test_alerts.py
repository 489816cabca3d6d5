"""What the alerts say of a fleet in which something is wrong; promtool plays the rules over its series.

A fleet has six pods. Something goes wrong at minute 32, for the longest window of the rules is half an hour.
"""

import functools

from fleet import JOB, Fleet, alerts, groups, judge
from helm import NAMESPACE

BEGIN = 32
# What the tests of this file have seen firing.
_seen = set()


def _during(first, last, value, quiet=0):
    """The value from the first minute up to the last one, before and afterwards the quiet one."""
    return lambda time: value if first * 60 <= time < last * 60 else quiet


@functools.cache
def _severity(alert):
    return alerts()[alert]["labels"]["severity"]


def _fleet(*names, **labels):
    """Alerts about the fleet as a whole."""
    _seen.update(names)
    return [{"alertname": name, "severity": _severity(name), "namespace": NAMESPACE, "job": JOB, **labels} for name in names]


def _pods(pods, *names, **labels):
    """Alerts about these pods."""
    return [alert for pod in pods for alert in _fleet(*names, pod=pod, **labels)]


def _plays(fleet, expected, *only):
    """Plays the rules, or only these groups; at those minutes exactly those alerts fire. Before, all is quiet."""
    rules = [group for group in groups() if not only or group["name"].endswith(only)]
    complaint = judge(fleet, {BEGIN - 1: [], **expected}, rules)
    assert not complaint, complaint


def a_quiet_fleet_raises_no_alert_in_spite_of_health_checks_and_strangers():
    fleet = Fleet()
    # Devices stay connected, so most attempts are none of theirs.
    fleet.counter("jetlinks_bridge_connects_total", 0.05, outcome="accepted")
    fleet.counter("jetlinks_bridge_sessions_closed_total", 0.01, cause="taken_over")
    complaint = judge(fleet, {minute: [] for minute in range(60)})
    assert not complaint, complaint


def a_fleet_that_rolls_raises_no_alert():
    fleet = Fleet()
    for number, pod in enumerate(fleet.pods):
        # One pod after the other is new: it drains for half a minute, and its devices come to the others at once.
        begin = BEGIN + number
        fleet.lose([pod], _during(begin + 0.5, begin + 1, True, False))
        fleet.gauge("jetlinks_bridge_draining", _during(begin, begin + 0.5, 1), pods=[pod])
        fleet.gauge("jetlinks_bridge_sessions", lambda time, begin=begin: 33000 if not begin * 60 <= time < begin * 60 + 90 else 16000, pods=[pod])
        fleet.gauge("jetlinks_bridge_start_time_seconds", lambda time, begin=begin: 1 if time < begin * 60 else begin * 60, pods=[pod])
    _plays(fleet, {minute: [] for minute in range(BEGIN, 60)})


def a_queue_that_is_away_is_reported_within_two_minutes_and_until_it_is_back():
    fleet = Fleet()
    away = functools.partial(_during, BEGIN, BEGIN + 10)
    fleet.gauge("jetlinks_bridge_part_up", away(0, 1), part="queue")
    fleet.gauge("jetlinks_bridge_sessions", _during(BEGIN + 0.25, BEGIN + 10.5, 0, 33000))
    fleet.counter("jetlinks_bridge_stored_total", away(0, 1001))
    fleet.counter("jetlinks_bridge_unacknowledged_total", _during(BEGIN, BEGIN + 0.5, 1000))
    fleet.counter("jetlinks_bridge_queue_outages_total", _during(BEGIN, BEGIN + 0.25, 2 / 15))
    fleet.counter("jetlinks_bridge_connects_total", away(0, 2), outcome="accepted")
    fleet.counter("jetlinks_bridge_connects_total", away(10), outcome="queue_away")
    everywhere = _pods(fleet.pods, "JetlinksBridgeQueueAway")
    _plays(fleet, {
        BEGIN + 2: everywhere + _fleet("JetlinksBridgeUnacknowledged", "JetlinksBridgeConnectBudgetFast"),
        BEGIN + 9: everywhere + _fleet(
            "JetlinksBridgeUnacknowledged", "JetlinksBridgeSessionsFall", "JetlinksBridgeRefusesDevices",
            "JetlinksBridgeConnectBudgetFast",
        ),
        # Over half an hour too many were refused and given up: no reason to wake anybody.
        BEGIN + 27: _fleet("JetlinksBridgeConnectBudgetSlow", "JetlinksBridgeAcknowledgementBudgetSlow"),
    })


def a_queue_that_was_away_for_forty_seconds_is_reported():
    fleet = Fleet()
    fleet.gauge("jetlinks_bridge_part_up", _during(BEGIN, BEGIN + 2 / 3, 0, 1), part="queue")
    fleet.counter("jetlinks_bridge_stored_total", _during(BEGIN, BEGIN + 2 / 3, 0, 1001))
    # Ten seconds after the last acknowledgement each device gives up.
    fleet.counter("jetlinks_bridge_unacknowledged_total", _during(BEGIN + 0.25, BEGIN + 0.5, 33000 / 15))
    fleet.counter("jetlinks_bridge_dropped_total", _during(BEGIN + 0.25, BEGIN + 0.5, 10), reason="ack_timeout")
    reported = _fleet("JetlinksBridgeUnacknowledged") + _fleet("JetlinksBridgeDropsMessages", reason="ack_timeout")
    _plays(fleet, {BEGIN + 1: reported, BEGIN + 8: reported, BEGIN + 13: []})


def a_queue_that_comes_and_goes_is_reported():
    fleet = Fleet(75)
    lost = lambda time: BEGIN * 60 <= time < (BEGIN + 24) * 60 and (time - BEGIN * 60) % 180 < 50  # noqa: E731
    first = lambda time: BEGIN * 60 <= time < (BEGIN + 24) * 60 and (time - BEGIN * 60) % 180 < 15  # noqa: E731
    fleet.gauge("jetlinks_bridge_part_up", lambda time: 0 if lost(time) else 1, part="queue")
    # Both workers count, so that two outages are no four.
    fleet.counter("jetlinks_bridge_queue_outages_total", lambda time: 2 / 15 if first(time) else 0)
    reported = _pods(fleet.pods, "JetlinksBridgeQueueFlaps")
    _plays(fleet, {BEGIN + 5: [], BEGIN + 13: reported, BEGIN + 24: reported, BEGIN + 43: []})


def a_queue_that_stands_still_again_and_again_is_reported():
    fleet = Fleet(45)
    fleet.counter("jetlinks_bridge_queue_stalls_total", _during(BEGIN, BEGIN + 5, 2 / 60), pods=["pod-3"])
    _plays(fleet, {BEGIN + 1: [], BEGIN + 6: _pods(["pod-3"], "JetlinksBridgeQueueFlaps")})


def a_slow_queue_is_reported_by_who_waits():
    fleet = Fleet()
    slow = lambda time: [(2.5, 0.5), (10, 0.5)] if BEGIN * 60 <= time < (BEGIN + 15) * 60 else [(0.005, 0.99), (0.1, 0.01)]  # noqa: E731
    fleet.histogram("jetlinks_bridge_queue_duration_seconds", 1000, slow)
    fleet.histogram("jetlinks_bridge_acknowledgement_duration_seconds", 1000, slow)
    fleet.counter("jetlinks_bridge_paused_connection_seconds_total", _during(BEGIN, BEGIN + 15, 20), pods=["pod-0"])
    # One of two workers is at its own half; the sum is at six tenths.
    fleet.gauge("jetlinks_bridge_worker_inflight_bytes", _during(BEGIN, BEGIN + 15, 132000000, 1), pods=["pod-1"], worker="1")
    fleet.gauge("jetlinks_bridge_worker_inflight_bytes", _during(BEGIN, BEGIN + 15, 32000000, 1), pods=["pod-1"], worker="0")
    full = _pods(["pod-1"], "JetlinksBridgeInflightFull", worker="1")
    budget = _fleet("JetlinksBridgeAcknowledgementBudgetFast")
    _plays(fleet, {
        BEGIN + 6: full + budget,
        BEGIN + 14: full + budget + _pods(["pod-0"], "JetlinksBridgeHoldsBack") + _fleet(
            "JetlinksBridgeQueueSlow", "JetlinksBridgeAcknowledgesSlowly"),
        BEGIN + 24: _fleet("JetlinksBridgeAcknowledgementBudgetSlow"),
    })


def a_replica_that_is_gone_is_missed():
    fleet = Fleet()
    fleet.lose(["pod-5"], _during(BEGIN, BEGIN + 15, True, False))
    # Devices of the sixth replica are back on the others within a minute.
    _plays(fleet, {BEGIN + 4: [], BEGIN + 7: _fleet("JetlinksBridgeReplicaMissing"), BEGIN + 14: _fleet("JetlinksBridgeReplicaMissing"), BEGIN + 17: []})


def a_replica_that_is_frozen_is_reported():
    fleet = Fleet()
    fleet.lose(["pod-5"], _during(BEGIN, BEGIN + 15, True, False), down=True)
    down = _pods(["pod-5"], "JetlinksBridgeReplicaDown")
    _plays(fleet, {BEGIN + 3: down, BEGIN + 7: down + _fleet("JetlinksBridgeReplicaMissing"), BEGIN + 17: []})


def the_number_of_replicas_that_is_wanted_is_that_of_the_deployment():
    fleet = Fleet(pods=4)
    fleet.gauge("kube_deployment_spec_replicas", _during(BEGIN, BEGIN + 10, 5, 4), pods=["pod-0"], deployment="devices-jetlinks-bridge")
    _plays(fleet, {BEGIN + 7: _fleet("JetlinksBridgeReplicaMissing"), BEGIN + 12: []})


def no_replica_at_all_is_reported_within_four_minutes():
    fleet = Fleet()
    fleet.lose(fleet.pods, _during(BEGIN, BEGIN + 10, True, False))
    _plays(fleet, {BEGIN + 2: [], BEGIN + 4: _fleet("JetlinksBridgeAbsent"), BEGIN + 12: []})


def sessions_that_fall_by_a_third_are_reported():
    fleet = Fleet(75)
    fleet.gauge("jetlinks_bridge_sessions", _during(BEGIN, BEGIN + 20, 22000, 33000))
    _plays(fleet, {BEGIN + 2: [], BEGIN + 5: _fleet("JetlinksBridgeSessionsFall"), BEGIN + 19: _fleet("JetlinksBridgeSessionsFall"), BEGIN + 21: []})


def sessions_that_fall_by_a_fifth_are_no_alert():
    fleet = Fleet()
    fleet.gauge("jetlinks_bridge_sessions", _during(BEGIN, BEGIN + 20, 26400, 33000))
    _plays(fleet, {BEGIN + 5: [], BEGIN + 15: []})


def devices_that_push_each_other_out_over_several_replicas_are_reported():
    fleet = Fleet(75)
    storm = functools.partial(_during, BEGIN, BEGIN + 20)
    fleet.counter("jetlinks_bridge_connects_total", storm(20, 2), outcome="accepted")
    fleet.counter("jetlinks_bridge_sessions_closed_total", storm(18, 0.1), cause="taken_over")
    # Five of six takeovers end a session on another replica.
    fleet.counter("jetlinks_bridge_takeovers_total", storm(3, 0.02))
    _plays(fleet, {BEGIN + 9: [], BEGIN + 13: _fleet("JetlinksBridgeTakeovers"), BEGIN + 28: []})


def a_limit_that_all_listeners_reach_together_is_reported():
    fleet = Fleet()
    full = functools.partial(_during, BEGIN, BEGIN + 10)
    fleet.gauge("jetlinks_bridge_connections", full(28000, 10000), pods=["pod-2"], transport="mqtt", state="open")
    fleet.gauge("jetlinks_bridge_connections", full(28000, 20000), pods=["pod-2"], transport="mqtt_tls", state="open")
    # DTLS has a limit of its own: this is no sum with the others.
    fleet.gauge("jetlinks_bridge_connections", full(55000, 100), pods=["pod-4"], transport="dtls", state="open")
    fleet.counter("jetlinks_bridge_dtls_handshakes_total", full(1, 0), pods=["pod-4"], outcome="refused")
    near = _pods(["pod-2", "pod-4"], "JetlinksBridgeConnectionsNearLimit")
    refused = _pods(["pod-4"], "JetlinksBridgeHandshakesRefused")
    _plays(fleet, {BEGIN + 4: [], BEGIN + 7: near + refused, BEGIN + 20: []})


def devices_that_are_refused_are_reported():
    fleet = Fleet()
    fleet.counter("jetlinks_bridge_connects_total", _during(BEGIN, BEGIN + 12, 5), outcome="connection_limit")
    budget = _fleet("JetlinksBridgeConnectBudgetFast")
    _plays(fleet, {BEGIN + 11: _fleet("JetlinksBridgeRefusesDevices") + budget, BEGIN + 22: _fleet("JetlinksBridgeConnectBudgetSlow")})


def a_balancer_without_a_proxy_header_is_reported():
    fleet = Fleet()
    fleet.counter("jetlinks_bridge_connects_total", _during(BEGIN, BEGIN + 15, 5), outcome="proxy_header")
    _plays(fleet, {BEGIN + 8: [], BEGIN + 14: _fleet("JetlinksBridgeHandshakesFail"), BEGIN + 24: []})


def devices_that_wait_before_they_connect_are_reported():
    fleet = Fleet()
    storm = lambda time: [(0.1, 0.5), (10, 0.5)] if BEGIN * 60 <= time < (BEGIN + 8) * 60 else [(0.001, 1)]  # noqa: E731
    fleet.histogram("jetlinks_bridge_accept_wait_seconds", _during(BEGIN, BEGIN + 8, 200, 2), storm)
    _plays(fleet, {BEGIN + 4: _fleet("JetlinksBridgeConnectsWait"), BEGIN + 15: []})


def _rejected(share):
    fleet = Fleet()
    fleet.counter("jetlinks_bridge_messages_total", _during(BEGIN, BEGIN + 15, 1000 * (1 - share), 1000), result="accepted")
    fleet.counter("jetlinks_bridge_messages_total", _during(BEGIN, BEGIN + 15, 1000 * share, 1), result="rejected")
    fleet.counter("jetlinks_bridge_rejected_total", _during(BEGIN, BEGIN + 15, 1000 * share, 1), reason="undecodable")
    return fleet


def firmware_that_sends_wrong_messages_is_reported_by_its_share():
    _plays(_rejected(0.1), {BEGIN + 9: [], BEGIN + 14: _fleet("JetlinksBridgeRejectsMessages"), BEGIN + 21: []})
    _plays(_rejected(0.6), {BEGIN + 11: _fleet("JetlinksBridgeRejectsMostMessages"), BEGIN + 21: []})
    _plays(_rejected(0.03), {BEGIN + 14: []})


def single_devices_that_do_wrong_are_reported():
    fleet = Fleet()
    fleet.counter("jetlinks_bridge_foreign_topics_total", _during(BEGIN, BEGIN + 1, 0.1), pods=["pod-0"])
    fleet.counter("jetlinks_bridge_coap_refused_total", _during(BEGIN, BEGIN + 1, 0.1), pods=["pod-0"], reason="key_length")
    _plays(fleet, {BEGIN + 1: _fleet("JetlinksBridgeForeignTopics", "JetlinksBridgeKeyLength"), BEGIN + 17: []})


def a_certificate_is_reported_a_week_before_it_ends_then_a_day_then_when_it_has():
    def ends(seconds):
        fleet = Fleet(105)
        # The certificate for DTLS lasts, and so does that of the other pods.
        fleet.gauge("jetlinks_bridge_certificate_expiry_timestamp_seconds", _during(BEGIN, BEGIN + 65, seconds, 60 * 86400), pods=["pod-1"], use="mqtt")
        return fleet

    _plays(ends(5 * 86400), {BEGIN + 55: [], BEGIN + 62: _fleet("JetlinksBridgeCertificateEnds", use="mqtt"), BEGIN + 66: []}, "certificates")
    _plays(ends(20 * 3600), {BEGIN + 7: _fleet("JetlinksBridgeCertificateEndsAtOnce", use="mqtt"), BEGIN + 64: _fleet("JetlinksBridgeCertificateEndsAtOnce", use="mqtt"), BEGIN + 66: []}, "certificates")
    _plays(ends(BEGIN * 60), {BEGIN + 1: _fleet("JetlinksBridgeCertificateExpired", use="mqtt"), BEGIN + 64: _fleet("JetlinksBridgeCertificateExpired", use="mqtt"), BEGIN + 66: []}, "certificates")


def a_registry_that_is_slow_is_reported_before_it_fails():
    fleet = Fleet()
    slow = lambda time: [(2.5, 1)] if BEGIN * 60 <= time < (BEGIN + 12) * 60 else [(0.05, 1)]  # noqa: E731
    fleet.histogram("jetlinks_bridge_registry_request_duration_seconds", 0.5, slow)
    _plays(fleet, {BEGIN + 4: [], BEGIN + 7: _fleet("JetlinksBridgeRegistrySlow"), BEGIN + 20: []})


def a_registry_that_fails_is_reported():
    fleet = Fleet(75)
    bad = functools.partial(_during, BEGIN, BEGIN + 20)
    fleet.gauge("jetlinks_bridge_part_up", bad(0, 1), pods=["pod-1"], part="registry")
    fleet.gauge("jetlinks_bridge_registry_stale", bad(1), pods=["pod-2"])
    fleet.gauge("jetlinks_bridge_certificate_stale", bad(1), pods=["pod-2"], use="dtls")
    fleet.counter("jetlinks_bridge_registry_reloads_total", _during(BEGIN, BEGIN + 1, 0.1), pods=["pod-2"], result="refused")
    fleet.counter("jetlinks_bridge_registry_lookups_total", bad(1), result="late")
    fleet.counter("jetlinks_bridge_registry_cache_lookups_total", bad(5, 0.5), result="miss")
    lookups = _fleet("JetlinksBridgeRegistryRefusesLookups")
    others = _pods(["pod-1"], "JetlinksBridgeRegistryAway") + _pods(["pod-2"], "JetlinksBridgeRegistryStale") + _pods(
        ["pod-2"], "JetlinksBridgeCertificateStale", use="dtls")
    _plays(fleet, {
        BEGIN + 1: _fleet("JetlinksBridgeRegistryRefused"),
        BEGIN + 7: _fleet("JetlinksBridgeRegistryRefused") + lookups + others,
        BEGIN + 19: _fleet("JetlinksBridgeRegistryCacheMisses") + lookups + others,
        BEGIN + 28: [],
    })


def commands_that_are_away_or_refused_are_reported_within_two_minutes():
    fleet = Fleet()
    fleet.gauge("jetlinks_bridge_part_up", _during(BEGIN, BEGIN + 5, 0, 1), pods=["pod-0"], part="commands")
    fleet.gauge("jetlinks_bridge_commands_refused_interests", _during(BEGIN, BEGIN + 5, 1), pods=["pod-1"])
    fleet.gauge("jetlinks_bridge_commands_stored_by_stream", _during(BEGIN, BEGIN + 5, 1))
    stored = _fleet("JetlinksBridgeStreamStoresCommands")
    _plays(fleet, {BEGIN + 2: _pods(["pod-0", "pod-1"], "JetlinksBridgeCommandsAway") + stored, BEGIN + 7: []})


def commands_that_fail_or_come_late_are_reported():
    fleet = Fleet()
    bad = functools.partial(_during, BEGIN, BEGIN + 15)
    fleet.counter("jetlinks_bridge_commands_total", bad(10, 0.5), outcome="time_out")
    fleet.counter("jetlinks_bridge_command_answers_total", _during(BEGIN, BEGIN + 1, 1), pods=["pod-0"], result="dropped")
    fleet.gauge("jetlinks_bridge_kafka_command_lag_records", bad(500, 3))
    late = lambda time: [(0.5, 0.5), (10, 0.5)] if BEGIN * 60 <= time < (BEGIN + 15) * 60 else [(0.05, 1)]  # noqa: E731
    fleet.histogram("jetlinks_bridge_kafka_command_age_seconds", 10, late)
    waiting = _fleet("JetlinksBridgeCommandLag", "JetlinksBridgeCommandsLate")
    _plays(fleet, {
        BEGIN + 2: _fleet("JetlinksBridgeOutcomesLost"),
        BEGIN + 14: _fleet("JetlinksBridgeCommandsFail") + waiting,
        BEGIN + 25: [],
    })


def a_connection_to_nats_that_comes_and_goes_is_reported_by_its_role():
    fleet = Fleet(75)
    each_minute = lambda time: 1 / 15 if BEGIN * 60 <= time < (BEGIN + 5) * 60 and time % 60 == 0 else 0  # noqa: E731
    fleet.counter("jetlinks_bridge_coordination_outages_total", each_minute, pods=["pod-0"])
    fleet.counter("jetlinks_bridge_nats_reconnects_total", each_minute, pods=["pod-1"], role="hand_over")
    fleet.counter("jetlinks_bridge_nats_reconnects_total", lambda time: 2 * each_minute(time), pods=["pod-2"], role="commands")
    # Once for each of two workers is half as often.
    fleet.counter("jetlinks_bridge_nats_reconnects_total", each_minute, pods=["pod-3"], role="commands")
    fleet.counter("jetlinks_bridge_nats_slow_consumer_total", _during(BEGIN, BEGIN + 0.25, 1 / 15), pods=["pod-4"], role="commands")
    fleet.gauge("jetlinks_bridge_part_up", _during(BEGIN + 5, BEGIN + 9, 0, 1), pods=["pod-0"], part="coordination")
    slow = _pods(["pod-4"], "JetlinksBridgeSlowConsumer", role="commands")
    flaps = _pods(["pod-0"], "JetlinksBridgeCoordinationFlaps") + _pods(
        ["pod-1"], "JetlinksBridgeNatsFlaps", role="hand_over") + _pods(["pod-2"], "JetlinksBridgeNatsFlaps", role="commands")
    _plays(fleet, {
        BEGIN + 1: slow, BEGIN + 8: slow + flaps + _pods(["pod-0"], "JetlinksBridgeCoordinationAway"), BEGIN + 20: flaps, BEGIN + 38: [],
    })


def a_replica_that_restarts_every_two_minutes_is_reported():
    fleet = Fleet(75)
    fleet.gauge(
        "jetlinks_bridge_start_time_seconds", lambda time: min(max(time, BEGIN * 60), (BEGIN + 10) * 60) // 120 * 120, pods=["pod-3"],
    )
    _plays(fleet, {BEGIN + 4: [], BEGIN + 7: _pods(["pod-3"], "JetlinksBridgeRestarts"), BEGIN + 42: []})


def a_process_that_lacks_memory_files_or_processor_time_is_reported():
    fleet = Fleet(75)
    bad = functools.partial(_during, BEGIN, BEGIN + 25)
    fleet.gauge("process_resident_memory_bytes", bad(760000000, 400000000), pods=["pod-0"])
    # Without a limit nothing is near it.
    fleet.gauge("process_resident_memory_bytes", bad(9e9, 400000000), pods=["pod-1"])
    fleet.gauge("jetlinks_bridge_limit_memory_bytes", 0, pods=["pod-1"])
    fleet.gauge("process_open_fds", bad(950000, 34000), pods=["pod-1"])
    fleet.counter("jetlinks_bridge_worker_cpu_seconds_total", bad(0.97, 0.2), pods=["pod-2"], worker="1")
    fleet.gauge("jetlinks_bridge_ready", bad(0, 1), pods=["pod-3"])
    fleet.counter("jetlinks_bridge_log_lines_suppressed_total", bad(5), pods=["pod-4"], level="warn")
    fleet.counter("jetlinks_bridge_log_lines_dropped_total", bad(5), pods=["pod-5"])
    # A worker that stands still for twenty seconds is seen in one sample.
    fleet.gauge("jetlinks_bridge_worker_tick_age_seconds", _during(BEGIN + 1, BEGIN + 1.25, 9, 0.1), pods=["pod-2"], worker="1")
    stands = _pods(["pod-2"], "JetlinksBridgeWorkerStandsStill", worker="1")
    near = _pods(["pod-0"], "JetlinksBridgeMemoryNearLimit") + _pods(["pod-1"], "JetlinksBridgeOpenFilesNearLimit") + _pods(
        ["pod-5"], "JetlinksBridgeLogNotRead")
    _plays(fleet, {
        BEGIN + 1: stands + _pods(["pod-5"], "JetlinksBridgeLogNotRead"), BEGIN + 6: stands + near,
        BEGIN + 23: near + _pods(["pod-2"], "JetlinksBridgeWorkerBusy", worker="1") + _pods(
            ["pod-3"], "JetlinksBridgeNotReady") + _pods(["pod-4"], "JetlinksBridgeLogFlooded"),
        BEGIN + 38: [],
    })


def versions_that_stay_mixed_for_an_hour_are_reported():
    fleet = Fleet(110)
    fleet.gauge("jetlinks_bridge_build_info", _during(BEGIN, BEGIN + 65, 1, None), pods=["pod-0"], version="0.2.0")
    _plays(fleet, {BEGIN + 58: [], BEGIN + 62: _fleet("JetlinksBridgeVersionsMixed"), BEGIN + 72: []}, "replicas")


def errors_that_use_up_a_budget_slowly_are_reported_with_buckets_of_either_prometheus():
    for one in "1", "1.0":
        fleet = Fleet(8 * 60, pods=1, workers=1, one=one)
        # One in a hundred: six times the budget, and less than 14.4 times.
        late = lambda time: [(0.005, 0.99), (2.5, 0.01)] if 60 * 60 <= time < 300 * 60 else [(0.005, 1)]  # noqa: E731
        fleet.histogram("jetlinks_bridge_acknowledgement_duration_seconds", 1000, late)
        fleet.counter("jetlinks_bridge_connects_total", _during(60, 300, 0.02), outcome="registry_away")
        slow = _fleet("JetlinksBridgeAcknowledgementBudgetSlow", "JetlinksBridgeConnectBudgetSlow")
        _plays(fleet, {59: [], 299: slow, 360: []}, "objectives")


def messages_that_were_given_up_count_against_the_objective():
    fleet = Fleet(95)
    fleet.counter("jetlinks_bridge_unacknowledged_total", _during(BEGIN, BEGIN + 20, 60))
    _plays(fleet, {
        BEGIN + 15: _fleet("JetlinksBridgeUnacknowledged", "JetlinksBridgeAcknowledgementBudgetFast"),
        BEGIN + 58: [],
    })


def two_releases_in_two_namespaces_raise_two_alerts_and_each_ends_on_its_own():
    one = Fleet()
    other = Fleet(namespace="staging", job="trial-jetlinks-bridge-admin")
    rules = groups() + groups(release="trial", namespace="staging")
    for fleet, last in (one, BEGIN + 12), (other, BEGIN + 20):
        fleet.counter("jetlinks_bridge_messages_total", _during(BEGIN, last, 900), result="rejected")
        fleet.counter("jetlinks_bridge_rejected_total", _during(BEGIN, last, 900), reason="undecodable")
        fleet.gauge("jetlinks_bridge_part_up", _during(BEGIN, last, 0, 1), pods=["pod-0"], part="queue")
        fleet.histogram("jetlinks_bridge_acknowledgement_duration_seconds", 1000, lambda time, last=last: (
            [(2.5, 1)] if BEGIN * 60 <= time < last * 60 else [(0.005, 1)]))
    both = []
    for fleet in one, other:
        place = {"namespace": fleet.namespace, "job": fleet.job}
        both.append([alert | place for alert in _fleet("JetlinksBridgeAcknowledgementBudgetFast") + _pods(["pod-0"], "JetlinksBridgeQueueAway")])
    complaint = judge([one, other], {BEGIN - 1: [], BEGIN + 4: both[0] + both[1]}, rules)
    assert not complaint, complaint


def labels_and_texts_say_which_pod_and_how_much():
    fleet = Fleet()
    fleet.gauge("jetlinks_bridge_worker_tick_age_seconds", _during(BEGIN, 60, 9, 0.1), pods=["pod-2"], worker="1")
    place = {"namespace": NAMESPACE, "job": JOB, "pod": "pod-2"}
    exact = {
        "eval_time": f"{BEGIN + 1}m",
        "alertname": "JetlinksBridgeWorkerStandsStill",
        "exp_alerts": [{
            "exp_labels": {**place, "severity": "page", "worker": "1", "team": "devices"},
            "exp_annotations": {
                "summary": "A worker stands still",
                "description": "The loop of worker 1 of field/pod-2 has not turned for 9s; it serves none of its devices.",
                "runbook_url": "https://example.com/runbooks#jetlinksbridgeworkerstandsstill",
                "board": "devices",
            },
        }],
    }
    rules = groups(
        "--set", "prometheusRule.additionalLabels.team=devices,prometheusRule.additionalAnnotations.board=devices",
        "--set", "prometheusRule.severities.JetlinksBridgeWorkerStandsStill=page",
        "--set", "prometheusRule.runbookUrl=https://example.com/runbooks",
    )
    complaint = judge(fleet, {}, rules, [exact])
    assert not complaint, complaint


def every_alert_is_seen_firing_by_a_test_of_this_file():
    assert _seen == set(alerts()), set(alerts()) ^ _seen
