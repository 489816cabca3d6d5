"""Metrics and values of labels that rules and dashboard use and docs/metrics.md does not name yet."""

METRICS = {
    "process_resident_memory_bytes": set(),
    "process_cpu_seconds_total": set(),
    "process_open_fds": set(),
    "process_max_fds": set(),
    "process_start_time_seconds": set(),
    "process_threads": set(),
    "jetlinks_bridge_worker_tick_age_seconds": {"worker"},
    "jetlinks_bridge_worker_cpu_seconds_total": {"worker"},
    "jetlinks_bridge_worker_inflight_bytes": {"worker"},
    "jetlinks_bridge_limit_connections": set(),
    "jetlinks_bridge_limit_inflight_bytes": set(),
    "jetlinks_bridge_limit_memory_bytes": set(),
    "jetlinks_bridge_connections_waiting": set(),
    "jetlinks_bridge_accept_wait_seconds": {"le"},
    "jetlinks_bridge_nats_connected": {"role"},
    "jetlinks_bridge_nats_reconnects_total": {"role"},
    "jetlinks_bridge_nats_slow_consumer_total": {"role"},
    "jetlinks_bridge_commands_refused_interests": set(),
    "jetlinks_bridge_kafka_command_lag_records": set(),
    "jetlinks_bridge_kafka_command_age_seconds": {"le"},
    "jetlinks_bridge_registry_lookups_waiting": set(),
}
VALUES = {"gone", "late", "commands", "hand_over", "registry"}
