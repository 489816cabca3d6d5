"""Series of a fleet as Prometheus would have read them, and what its rules say of them: judged by promtool."""

import os
import subprocess
import tempfile

import yaml

from helm import NAMESPACE, RELEASE, TOOLS, find, template

PROMTOOL = TOOLS / "bin/promtool"
JOB = f"{RELEASE}-jetlinks-bridge-admin"
# Seconds between two samples, and between two evaluations of the rules.
STEP, EVALUATION = 15, 60
# Some of the buckets of the bridge: all that the rules look at.
BUCKETS = [0.005, 0.1, 0.5, 1, 2.5, 5, 10]
LABELS = "alertname, severity, namespace, job, pod, worker, use, role, reason"


def groups(*arguments, **release):
    """The groups of rules that the chart renders."""
    manifests = template("--set", "prometheusRule.enabled=true,replicas=6", *arguments, **release)
    return find(manifests, "PrometheusRule")["spec"]["groups"]


def alerts(*arguments):
    """The alerts that the chart renders, by name."""
    return {rule["alert"]: rule for group in groups(*arguments) for rule in group["rules"] if "alert" in rule}


def promtool(command, files):
    """Runs promtool on the first of these files, which are names and contents."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            with open(os.path.join(folder, name), "w") as file:
                yaml.dump(content, file, Dumper=yaml.CSafeDumper)
        assert PROMTOOL.exists(), "promtool is missing: make tools"
        return subprocess.run(
            [PROMTOOL, *command, next(iter(files))], cwd=folder, capture_output=True, text=True, check=False, timeout=300,
        )


class Fleet:
    """A fleet in which nothing is wrong, for so many minutes; a test then changes some of its series.

    A value is a number, or a function of the time in seconds; None is a sample that is missing.
    """

    def __init__(self, minutes=60, *, pods=6, workers=2, namespace=NAMESPACE, job=JOB, one="1"):
        self.minutes, self.namespace, self.job, self.one = minutes, namespace, job, one
        self.pods, self.workers = [f"pod-{n}" for n in range(pods)], [str(n) for n in range(workers)]
        self.series, self.gone = {}, []
        self._quiet()

    def gauge(self, name, value, *, pods=None, **labels):
        """Sets a gauge of all pods, or of these."""
        for pod in self.pods if pods is None else pods:
            self.series[name, pod, tuple(sorted(labels.items()))] = value, False

    def counter(self, name, rate, *, pods=None, **labels):
        """Sets a counter by how much it grows in a second."""
        for pod in self.pods if pods is None else pods:
            self.series[name, pod, tuple(sorted(labels.items()))] = rate, True

    def histogram(self, name, rate, shares, *, pods=None):
        """Sets a histogram by how much it grows in a second, and shares that took at most so many seconds.

        With a function of time in place of the shares each bucket asks it."""
        def part(bucket):
            def grown(time):
                given = shares(time) if callable(shares) else shares
                return (rate(time) if callable(rate) else rate) * sum(share for seconds, share in given if seconds <= bucket)
            return grown if callable(shares) or callable(rate) else grown(0)
        for bucket in BUCKETS:
            self.counter(f"{name}_bucket", part(bucket), pods=pods, le=self.one if bucket == 1 else str(bucket))
        self.counter(f"{name}_bucket", part(float("inf")), pods=pods, le="+Inf")
        self.counter(f"{name}_count", part(float("inf")), pods=pods)

    def lose(self, pods, during, *, down=False):
        """Takes away all series of these pods in that time; `up` stays at 0 where the pod itself is still there."""
        self.gone.append((set(pods), during, down))

    def input(self):
        """The series in the notation of promtool."""
        steps = self.minutes * 60 // STEP
        result = []
        for (name, pod, labels), (value, grows) in self.series.items():
            given = {"namespace": self.namespace, "job": self.job, "pod": pod, "instance": f"{pod}:9090", **dict(labels)}
            if name.startswith("kube_"):
                given = {"namespace": self.namespace, **dict(labels)}
            text = ",".join(f'{label}="{text}"' for label, text in given.items())
            lost = [(during, down) for pods, during, down in self.gone if pod in pods]
            if not callable(value) and not lost:
                values = f"0+{value * STEP}x{steps}" if grows else f"{value}+0x{steps}"
            else:
                values = " ".join(self._samples(name, value, grows, lost, steps))
            result.append({"series": f"{name}{{{text}}}", "values": values})
        return result

    @staticmethod
    def _samples(name, value, grows, lost, steps):
        total = 0
        for time in range(0, (steps + 1) * STEP, STEP):
            sample = value(time) if callable(value) else value
            if grows:
                total += (sample or 0) * STEP
                sample = total
            down = [is_down for during, is_down in lost if during(time)]
            if down and name == "up" and down[0]:
                sample = 0
            elif down:
                sample = "stale"
            yield "_" if sample is None else str(sample)

    def _quiet(self):
        self.gauge("up", 1)
        bridge = "jetlinks_bridge_"
        for name, value in {
            "ready": 1, "draining": 0, "sessions": 33000, "start_time_seconds": 1, "limit_connections": 60000,
            "limit_inflight_bytes": 268435456, "limit_memory_bytes": 805306368, "commands_refused_interests": 0,
            "kafka_command_lag_records": 3, "registry_stale": 0, "commands_stored_by_stream": 0,
        }.items():
            self.gauge(bridge + name, value)
        self.gauge(bridge + "build_info", 1, version="0.1.0")
        self.gauge("process_resident_memory_bytes", 400000000)
        self.gauge("process_open_fds", 34000)
        self.gauge("process_max_fds", 1000000)
        for part in "queue", "registry", "coordination", "commands":
            self.gauge(bridge + "part_up", 1, part=part)
        for transport, count in {"mqtt": 10000, "mqtt_tls": 20000, "websocket": 1000, "websocket_tls": 2000, "dtls": 100, "coap": 500}.items():
            self.gauge(bridge + "connections", count, transport=transport, state="open")
        for worker in self.workers:
            self.gauge(bridge + "worker_tick_age_seconds", 0.1, worker=worker)
            self.gauge(bridge + "worker_inflight_bytes", 1000000, worker=worker)
            self.counter(bridge + "worker_cpu_seconds_total", 0.2, worker=worker)
        for use in "mqtt", "dtls":
            self.gauge(bridge + "certificate_expiry_timestamp_seconds", 60 * 86400, use=use)
            self.gauge(bridge + "certificate_stale", 0, use=use)
        # Health checks of balancers, and devices that come and go.
        for outcome, rate in {
            "accepted": 2, "proxy_header": 0.2, "gone": 0.3, "malformed": 0.2, "tls_handshake": 0.1, "websocket_handshake": 0.05,
            "wrong_credentials": 0.02, "queue_away": 0, "registry_away": 0, "connection_limit": 0, "draining": 0,
        }.items():
            self.counter(bridge + "connects_total", rate, outcome=outcome)
        for cause, rate in {"disconnected": 1.5, "connection_lost": 0.4, "taken_over": 0.1}.items():
            self.counter(bridge + "sessions_closed_total", rate, cause=cause)
        for name, rate in {
            "stored_total": 1001, "unacknowledged_total": 0, "queue_outages_total": 0, "queue_stalls_total": 0,
            "paused_connection_seconds_total": 0, "foreign_topics_total": 0, "coordination_outages_total": 0,
            "log_lines_dropped_total": 0,
        }.items():
            self.counter(bridge + name, rate)
        for name, label, rates in (
            ("messages_total", "result", {"accepted": 1000, "rejected": 1}),
            ("rejected_total", "reason", {"undecodable": 1, "too_large": 0}),
            ("dropped_total", "reason", {"ack_timeout": 0}),
            ("commands_total", "outcome", {"reply": 10, "client_offline": 5, "time_out": 0.5}),
            ("command_answers_total", "result", {"sent": 15, "dropped": 0}),
            ("coap_refused_total", "reason", {"key_length": 0}),
            ("dtls_handshakes_total", "outcome", {"finished": 1, "refused": 0}),
            ("registry_lookups_total", "result", {"found": 2, "away": 0, "late": 0}),
            ("registry_cache_lookups_total", "result", {"hit": 1.5, "miss": 0.5}),
            ("registry_reloads_total", "result", {"replaced": 0, "refused": 0}),
            ("log_lines_suppressed_total", "level", {"warn": 0}),
            ("nats_reconnects_total", "role", {"uplink": 0, "commands": 0, "hand_over": 0, "registry": 0}),
            ("nats_slow_consumer_total", "role", {"uplink": 0, "commands": 0}),
        ):
            for value, rate in rates.items():
                self.counter(bridge + name, rate, **{label: value})
        for name, rate, shares in (
            ("acknowledgement_duration", 1000, [(0.005, 0.9), (0.1, 0.0998), (2.5, 0.0002)]),
            ("queue_duration", 1000, [(0.005, 0.9), (0.1, 0.1)]),
            ("accept_wait", 2, [(0.001, 1)]),
            ("registry_request_duration", 0.5, [(0.05, 0.9), (0.5, 0.1)]),
            ("kafka_command_age", 10, [(0.05, 0.9), (0.5, 0.1)]),
        ):
            self.histogram(f"{bridge}{name}_seconds", rate, shares)


def judge(fleets, expected, rules=None, exact=()):
    """Complaints of promtool when at those minutes other alerts fire than expected; nothing when all is right.

    `expected` has for each minute a list of labels. `exact` are alerts with all their labels and texts."""
    fleets = fleets if isinstance(fleets, list) else [fleets]
    test = {
        "interval": f"{STEP}s",
        "input_series": [series for fleet in fleets for series in fleet.input()],
        "promql_expr_test": [
            {
                "expr": f'count by ({LABELS}) (ALERTS{{alertstate="firing"}})',
                "eval_time": f"{int(minute * 60)}s",
                "exp_samples": [
                    {"labels": "{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}", "value": 1}
                    for labels in alerts
                ],
            }
            for minute, alerts in expected.items()
        ],
        "alert_rule_test": list(exact),
    }
    files = {
        "test.yaml": {"rule_files": ["rules.yaml"], "evaluation_interval": f"{EVALUATION}s", "tests": [test]},
        "rules.yaml": {"groups": rules or groups()},
    }
    done = promtool(["test", "rules"], files)
    return "" if done.returncode == 0 else done.stdout + done.stderr
