"""A rollout of a Deployment by arithmetic: how many sessions the fullest pod holds on the way.

What is assumed: each old pod holds the same number of sessions; a pod is no endpoint any more from the moment it is told to
end, waits `preStopSeconds`, and then closes `config.drain.rate` sessions a second; a device connects again at once, to any
pod that is an endpoint, each as likely as the others (kube-proxy, an NLB, round robin). New pods become ready one after the
other, `spread` seconds from the first to the last of those that were begun together. The controller of Deployments keeps
to maxSurge and maxUnavailable, and does not wait for old pods to end.
"""

import dataclasses
import math


@dataclasses.dataclass
class Rollout:
    """What a rollout came to."""

    # Sessions of the fullest pod at any time, and of the fullest and the emptiest at the end, over the mean.
    peak: float
    most: float
    least: float
    # Connections of each device in the mean.
    reconnects: float
    seconds: int


@dataclasses.dataclass
class _Pod:
    is_new: bool
    ready_at: int
    sessions: float = 0.0
    drains_at: int | None = None

    def is_endpoint(self, now):
        return self.drains_at is None and self.ready_at <= now


def of(pods, share):
    """A number of pods, or per cent of them: of maxSurge it is rounded up."""
    return math.ceil(pods * int(share[:-1]) / 100) if isinstance(share, str) else share


def rollout(values, pods, devices, start=3, spread=5):
    """The rollout of a release with those values and that many pods and devices."""
    strategy = values["strategy"]["rollingUpdate"]
    surge, rate = of(pods, strategy["maxSurge"]), values["config"]["drain"]["rate"]
    assert strategy["maxUnavailable"] == 0
    mean = devices / pods
    every = [_Pod(False, -1000, mean) for _ in range(pods)]
    now, peak, moved, begun = 0, mean, 0.0, 0
    while True:
        serving = [pod for pod in every if pod.drains_at is None]
        room = min(pods + surge - len(serving), pods - begun)
        for place in range(room):
            every.append(_Pod(True, now + start + round(spread * place / max(1, room - 1))))
        begun += room
        serving = [pod for pod in every if pod.drains_at is None]
        available = [pod for pod in serving if pod.ready_at + values["minReadySeconds"] <= now]
        old = [pod for pod in serving if not pod.is_new]
        for pod in old[: max(0, len(available) - pods)]:
            pod.drains_at = now + values["preStopSeconds"]
        endpoints = [pod for pod in every if pod.is_endpoint(now)]
        closed = 0.0
        for pod in every:
            if pod.drains_at is not None and pod.drains_at <= now:
                leaving = min(rate, pod.sessions)
                pod.sessions -= leaving
                closed += leaving
        for pod in endpoints:
            pod.sessions += closed / len(endpoints)
        moved += closed
        peak = max(peak, *(pod.sessions for pod in every))
        now += 1
        if begun == pods and all(pod.is_new or pod.sessions == 0 for pod in every):
            end = [pod.sessions / mean for pod in every if pod.is_new]
            return Rollout(peak / mean, max(end), min(end), moved / devices, now)
