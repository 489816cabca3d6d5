"""The default strategy moves sessions without piling them up; rollout.py says what is assumed."""

import copy

from helm import find, template, values
from rollout import rollout

# Pods, and devices on all of them together.
FLEETS = [(2, 20_000), (3, 45_000), (6, 200_000), (12, 400_000)]


def _with(surge):
    changed = copy.deepcopy(values())
    changed["strategy"]["rollingUpdate"]["maxSurge"] = surge
    return changed


def a_rollout_never_has_fewer_pods_than_replicas():
    spec = find(template(), "Deployment")["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "100%"}}
    assert spec["replicas"] == 2
    assert "replicas" not in find(template("--set", "replicas=null"), "Deployment")["spec"]
    strategy = find(template("--set", "strategy.rollingUpdate.maxSurge=2"), "Deployment")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 2}
    assert find(template("--set", "strategy.type=Recreate"), "Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def no_pod_holds_more_than_1_3_times_the_mean_while_pods_become_ready_within_ten_seconds_of_each_other():
    for pods, devices in FLEETS:
        for start in (3, 60):
            done = rollout(values(), pods, devices, start=start, spread=10)
            assert done.peak < 1.3, f"{pods} pods, ready after {start} s: {done}"
            assert done.most / done.least < 1.2, f"{pods} pods, ready after {start} s: {done}"
            assert done.reconnects < 1.1, f"{pods} pods, ready after {start} s: {done}"


def one_pod_at_a_time_would_pile_sessions_up():
    done = rollout(_with(1), 6, 200_000)
    assert done.peak > 1.4, done
    # Where each new pod takes a minute, as on a node that has to fetch the image.
    done = rollout(_with(1), 6, 200_000, start=60)
    assert done.peak > 2 and done.most / done.least > 2, done


def every_device_is_somewhere_at_the_end():
    for pods, devices in FLEETS:
        for surge in (1, "25%", "50%", "100%"):
            done = rollout(_with(surge), pods, devices)
            assert done.least <= 1 <= done.most and done.peak >= 1 and done.reconnects >= 1, (pods, surge, done)
