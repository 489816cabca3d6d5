"""A real API server with its etcd, and Helm and kubectl against it. No node, no controller: nothing runs in it.

What an API server does is all here: defaults, validation, admission, what clients send and what is stored. Pods are never
started, and no Deployment becomes ready.
"""

import atexit
import contextlib
import ctypes
import functools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

import yaml

from helm import CHART, HELM, RELEASE, TOOLS
from pod import eventually

KUBECTL = TOOLS / "bin/kubectl"
TOKEN = "test-token"
PR_SET_PDEATHSIG = 1

# Where every pod has to satisfy the restricted standard.
NAMESPACE_LABELS = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}


class Cluster:
    """The two servers, in a temporary folder, on free ports of loopback."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="jetlinks-bridge-cluster-"))
        self.servers = []
        self.releases = 0
        atexit.register(self.stop)
        etcd, peer, self.port = _free_ports(3)
        self._start(
            "etcd", "--data-dir", self.folder / "etcd", "--unsafe-no-fsync", "--log-level=error",
            f"--listen-client-urls=http://127.0.0.1:{etcd}", f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
        )
        key, public = self.folder / "sa.key", self.folder / "sa.pub"
        _run("openssl", "genrsa", "-out", key, "2048")
        _run("openssl", "rsa", "-in", key, "-pubout", "-out", public)
        (self.folder / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
        self._start(
            "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{etcd}", "--bind-address=127.0.0.1",
            f"--secure-port={self.port}", f"--cert-dir={self.folder}/certificates", "--endpoint-reconciler-type=none",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={key}", "--service-cluster-ip-range=10.0.0.0/24,fd00::/112",
            "--authorization-mode=RBAC", f"--token-auth-file={self.folder}/tokens.csv",
        )
        self.environment = {
            **os.environ, "HOME": str(self.folder), "KUBECONFIG": str(self._kubeconfig()),
            **{f"HELM_{name}_HOME": str(self.folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")},
        }
        eventually(self._is_ready, "the API server is ready", 60)

    def stop(self):
        """Ends the servers by their ids, the API server first, and removes the folder."""
        for server in reversed(self.servers):
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        self.servers.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kubectl(self, *arguments, given=None):
        """One call, with its exit code and what it said."""
        return self._call(KUBECTL, *arguments, given=given)

    def helm(self, *arguments):
        """One call, with its exit code and what it said."""
        return self._call(HELM, *arguments)

    def read(self, *arguments):
        """What kubectl gets there, as JSON."""
        done = self.kubectl("get", *arguments, "--output", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def apply(self, manifests, *arguments):
        """Applies manifests; a refusal fails the test."""
        done = self.try_apply(manifests, *arguments)
        assert done.returncode == 0, done.stderr
        return done

    def try_apply(self, manifests, *arguments):
        """The same, whatever comes of it; members that the server does not know are refused."""
        text = yaml.safe_dump_all(manifests)
        return self.kubectl("apply", "--validate=strict", *arguments, "--filename", "-", given=text)

    @contextlib.contextmanager
    def namespace(self):
        """The name of a namespace of its own, with restricted pods. A release there ends with it, for the next one wants its
        ports."""
        self.releases += 1
        name = f"field-{self.releases}"
        metadata = {"name": name, "labels": NAMESPACE_LABELS}
        self.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}])
        try:
            yield name
        finally:
            self.helm("uninstall", RELEASE, "--ignore-not-found", "--namespace", name)

    @functools.cached_property
    def kinds(self):
        """Every kind of object that a namespace can hold, as kubectl wants them."""
        done = self.kubectl("api-resources", "--namespaced", "--verbs=list", "--output=name")
        assert done.returncode == 0, done.stderr
        return ",".join(done.stdout.split())

    def objects(self, namespace):
        """The names of all objects in the namespace, with their kinds."""
        done = self.kubectl("get", self.kinds, "--namespace", namespace, "--output=name")
        assert done.returncode == 0, done.stderr
        return set(done.stdout.split())

    def _call(self, program, *arguments, given=None):
        command = [program, *arguments]
        return subprocess.run(
            command, input=given, env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )

    def _start(self, program, *arguments):
        with (self.folder / f"{program}.log").open("wb") as log:
            server = subprocess.Popen(
                [TOOLS / "bin" / program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=_end_with_parent,
            )
        self.servers.append(server)

    def _is_ready(self):
        for server in self.servers:
            assert server.poll() is None, f"{server.args[0]} ended: {self._logs()}"
        return self.kubectl("get", "--raw=/readyz").returncode == 0

    def _logs(self):
        return "\n".join(path.read_text()[-2000:] for path in sorted(self.folder.glob("*.log")))

    def _kubeconfig(self):
        path = self.folder / "kubeconfig"
        # The server signs its certificate itself, when it starts.
        server = {
            "server": f"https://127.0.0.1:{self.port}",
            "certificate-authority": str(self.folder / "certificates/apiserver.crt"),
        }
        path.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "test", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }))
        return path


class Release:
    """The chart in a namespace."""

    def __init__(self, cluster, namespace, *arguments):
        self.cluster, self.namespace, self.arguments = cluster, namespace, arguments
        self._helm("install", RELEASE, CHART, *arguments)

    def upgrade(self, *further):
        """Upgrades with the values of the installation and those that are given over them."""
        self._helm("upgrade", RELEASE, CHART, *self.arguments, *further)

    def rollback(self, revision):
        """Goes back to that revision."""
        self._helm("rollback", RELEASE, str(revision))

    def uninstall(self):
        """Removes it."""
        self._helm("uninstall", RELEASE)

    def manifests(self):
        """Everything that belongs to the release, the pod of `helm test` included."""
        texts = [self._helm("get", what, RELEASE) for what in ("manifest", "hooks")]
        return [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]

    def deployment(self):
        """Its Deployment, as the server has it."""
        (deployment,) = self.cluster.read("deployments", "--namespace", self.namespace)["items"]
        return deployment

    def pod(self):
        """The template of its pods, as the server has it: what is another one replaces them."""
        return self.deployment()["spec"]["template"]

    def generated(self):
        """What was generated, by key; empty without such a Secret."""
        secrets = self.cluster.read("secrets", "--namespace", self.namespace)["items"]
        return next((s["data"] for s in secrets if s["metadata"]["name"].endswith("-generated")), {})

    def _helm(self, *arguments):
        done = self.cluster.helm(*arguments, "--namespace", self.namespace)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        assert "warning" not in done.stderr.lower(), f"{arguments}: {done.stderr}"
        return done.stdout


@functools.cache
def cluster():
    """The cluster of this run; it has the definitions of the Prometheus operator, of the Gateway API and of cert-manager."""
    started = Cluster()
    for path in sorted((TOOLS / "crds").glob("*.yaml")):
        for verb in (("create", "--filename", path), ("wait", "--for=condition=Established", "--filename", path)):
            done = started.kubectl(*verb)
            assert done.returncode == 0, done.stderr
    # That of the kitchen sink: a pod whose class is unknown is refused.
    started.apply([{"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "gvisor"}, "handler": "runsc"}])
    return started


def _end_with_parent():
    """In the child: it must not outlive whoever tests with it, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(*command):
    subprocess.run(command, capture_output=True, check=True, timeout=60)


def _free_ports(count):
    """Ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
