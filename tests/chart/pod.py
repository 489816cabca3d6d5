"""A pod's files and commands without Kubernetes: what it would mount is laid into a folder."""

import base64
import os
import pathlib
import re
import subprocess
import time

from helm import ROOT

# Where the make file builds it, unless it says otherwise.
BRIDGE = pathlib.Path(os.environ.get("BRIDGE", "target/debug/jetlinks-bridge"))
BRIDGE = BRIDGE if BRIDGE.is_absolute() else ROOT / BRIDGE


class Pod:
    """The volumes of a pod in a folder; names of mounted files in texts become names in that folder."""

    def __init__(self, manifests, pod, folder, given):
        """`given` holds the Secrets that the chart does not render: name -> key -> text."""
        self.folder = pathlib.Path(folder)
        self.containers = {c["name"]: c for c in pod["spec"].get("initContainers", []) + pod["spec"]["containers"]}
        self.mounts = {}
        for container in self.containers.values():
            self.mounts |= {mount["name"]: mount["mountPath"] for mount in container.get("volumeMounts", [])}
        for volume in pod["spec"]["volumes"]:
            place = self.folder / self.mounts[volume["name"]].lstrip("/")
            place.mkdir(parents=True, exist_ok=True)
            for name, text in self._files(manifests, volume, given).items():
                (place / name).write_text(self.local(text))

    @staticmethod
    def _files(manifests, volume, given):
        if "emptyDir" in volume:
            return {}
        if "configMap" in volume:
            return Pod._named(manifests, "ConfigMap", volume["configMap"]["name"])["data"]
        source = volume["secret"]
        rendered = Pod._named(manifests, "Secret", source["secretName"])
        if rendered:
            data = {key: base64.b64decode(value).decode() for key, value in rendered["data"].items()}
        else:
            data = given[source["secretName"]]
        # As Kubernetes does: a key that is missing keeps the pod from starting.
        return {item["path"]: data[item["key"]] for item in source["items"]}

    @staticmethod
    def _named(manifests, kind, name):
        return next((m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name), None)

    def local(self, text):
        """The text with the places of the volumes in the folder."""
        for place in sorted(self.mounts.values(), key=len, reverse=True):
            text = re.sub(rf"(?<![\w/.-]){re.escape(place)}(?=/)", f"{self.folder}{place}", text)
        return text

    def command(self, container, *further):
        """What the container runs, here."""
        return [BRIDGE, *map(self.local, self.containers[container]["args"]), *further]

    def run(self, container, *further, timeout=60):
        """Runs the container to its end."""
        return subprocess.run(self.command(container, *further), capture_output=True, text=True, check=False, timeout=timeout)

    def check(self):
        """`check` of the configuration that the pod would get."""
        config = self.local(f"{self.mounts['config']}/bridge.toml")
        further = self.containers["bridge"]["args"][3:]
        command = [BRIDGE, "check", "--config", config, *further]
        # Variables from Secrets are nobody's here.
        given = {e["name"]: e["value"] for e in self.containers["bridge"].get("env", []) if "value" in e}
        environment = {**os.environ, **given}
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)


def eventually(condition, what, seconds=20):
    """What the condition returns as soon as that is true."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)
