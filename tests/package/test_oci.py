"""The layouts of image and chart, read by tools that publish and install them."""

import contextlib
import functools
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading

import yaml

from release import ARCHITECTURES, BUILT, ROOT, TOOLS, VERSION, file, made, run

CHART = yaml.safe_load((ROOT / "charts/jetlinks-bridge/Chart.yaml").read_text())


def _blob(layout, digest):
    return made() / layout / "blobs" / digest.replace(":", "/")


def _image(architecture, *words):
    said = run("skopeo", "inspect", "--override-os", "linux", "--override-arch", architecture, *words, f"oci:{made() / 'image'}:{VERSION}")
    return json.loads(said)


@functools.cache
def _root(architecture):
    """The files of the image, in a folder."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=made().parent))
    folder.chmod(0o755)
    for digest in _image(architecture)["Layers"]:
        with tarfile.open(_blob("image", digest)) as layer:
            layer.extractall(folder, filter="fully_trusted")
    for emulator in _emulator(architecture):
        # It needs no library, so it runs in there.
        shutil.copy(shutil.which(emulator), folder / "usr/bin")
    return folder


def _emulator(architecture):
    foreign = (BUILT / architecture / "sysroot").is_dir()
    return [f"qemu-{architecture.replace('arm64', 'aarch64')}-static"] if foreign else []


@contextlib.contextmanager
def _inside(architecture, *words, **more):
    """A process in that root and nothing else, as the image's user; as whoever runs the tests where that is not root."""
    root, emulator = _root(architecture), _emulator(architecture)
    if os.getuid() == 0:
        inside = [f"/usr/bin/{name}" for name in emulator]
        command = ["chroot", "--userspec=65532:65532", root, *inside, "/usr/bin/jetlinks-bridge", *words]
    else:
        command = [*emulator, *(["-L", root] if emulator else []), root / "usr/bin/jetlinks-bridge", *words]
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        env={"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt", "PATH": os.environ["PATH"]}, **more,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def skopeo_reads_an_image_for_each_architecture():
    index = json.loads(run("skopeo", "inspect", "--raw", f"oci:{made() / 'image'}:{VERSION}"))
    assert [one["platform"]["architecture"] for one in index["manifests"]] == ARCHITECTURES, index
    for architecture in ARCHITECTURES:
        seen, config = _image(architecture), _image(architecture, "--config")
        assert (seen["Os"], seen["Architecture"]) == ("linux", architecture)
        assert config["config"]["User"] == "65532:65532" and config["config"]["Entrypoint"] == ["/usr/bin/jetlinks-bridge"]


def the_image_carries_what_artifact_hub_asks_for():
    for architecture in ARCHITECTURES:
        labels = _image(architecture)["Labels"]
        assert labels["org.opencontainers.image.version"] == VERSION and labels["org.opencontainers.image.revision"] == "test"
        assert labels["org.opencontainers.image.created"] == "2023-11-14T22:13:20Z"
        # Where it is published is known to whoever publishes it.
        assert {"io.artifacthub.package.readme-url", "org.opencontainers.image.source"} <= set(labels)
        for name in ("image.description", "image.title", "image.licenses"):
            assert labels[f"org.opencontainers.{name}"], name


def scanners_find_the_packages_of_the_libraries_in_the_image():
    for architecture in ARCHITECTURES:
        root = _root(architecture)
        libraries = {path.name for path in root.rglob("*.so*")}
        packages = {}
        for path in (root / "var/lib/dpkg/status.d").iterdir():
            packages[path.name] = dict(re.findall(r"^(Package|Version|Architecture): (.*)$", path.read_text(), re.MULTILINE))
        assert {"libssl.so.3", "libc.so.6"} <= libraries
        assert set(packages) - {"zlib1g"} == {"ca-certificates", "libc6", "libgcc-s1", "libssl3"}, set(packages)
        assert ("zlib1g" in packages) == ("libz.so.1" in libraries), libraries
        for name, fields in packages.items():
            assert fields["Package"] == name and fields["Version"] and fields["Architecture"] in (architecture, "all"), fields


def the_program_in_each_image_serves_a_device():
    for architecture in ARCHITECTURES:
        root = _root(architecture)
        for sample in ("dev.toml", "devices.toml"):
            (root / "etc/jetlinks-bridge" / sample).write_text((ROOT / "config" / sample).read_text())
        config = "/etc/jetlinks-bridge/dev.toml" if os.getuid() == 0 else f"{root}/etc/jetlinks-bridge/dev.toml"
        with _inside(architecture, "--version") as asked:
            assert asked.communicate(timeout=60)[0] == f"jetlinks-bridge {VERSION}\n"
        with _inside(architecture, "check", "--config", config) as asked:
            assert "# devices in the registry: " in asked.communicate(timeout=60)[0]
        words = ["--config", config, "--set", "mqtt.listen=127.0.0.1:0", "--set", "coap.listen=", "--set", "admin.listen="]
        with _inside(architecture, "run", *words, "--set", "log.format=json") as bridge:
            address = None
            for line in bridge.stderr:
                entry = json.loads(line)
                entry = entry.get("fields", entry)
                if entry.get("listener") == "mqtt":
                    address = entry["address"]
                    break
            assert address, "no listener"
            # Nobody reads the rest of the log, so it must not fill the pipe.
            threading.Thread(target=bridge.stderr.read, daemon=True).start()
            device = ["simulate", "--config", config, "--set", f"mqtt.listen={address}", "--devices", "1", "--rate", "10", "--duration", "1s"]
            with _inside(architecture, *device, "--quiet") as simulated:
                said = simulated.communicate(timeout=90)
                assert simulated.returncode == 0, said
            bridge.terminate()
            types = [json.loads(line)["type"] for line in bridge.stdout]
            assert bridge.wait(timeout=60) == 0
        assert "org.jetlinks.device.properties.report" in types, types


def the_components_are_attached_to_each_image():
    for architecture in ARCHITECTURES:
        image = f"{made() / 'image'}:{VERSION}"
        found = json.loads(run(TOOLS / "bin/oras", "discover", "--oci-layout", "--platform", f"linux/{architecture}", "--format", "json", image))
        (referrer,) = found["referrers"]
        assert referrer["artifactType"] == "application/vnd.cyclonedx+json", referrer
        (layer,) = json.loads(_blob("image", referrer["digest"]).read_text())["layers"]
        assert _blob("image", layer["digest"]).read_bytes() == file(architecture, ".cdx.json").read_bytes()


class _Registry(http.server.BaseHTTPRequestHandler):
    """Reads of a registry (OCI distribution 1.1, the part "pull"), answered out of the layout of the chart."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        layout = made() / "chart"
        kind, reference = self.path.rsplit("/", 2)[-2:]
        index = json.loads((layout / "index.json").read_text())["manifests"]
        tags = {one["annotations"]["org.opencontainers.image.ref.name"]: one for one in index}
        if kind == "tags":
            body, sort = json.dumps({"name": "charts/jetlinks-bridge", "tags": sorted(tags)}).encode(), "application/json"
        elif kind in ("manifests", "blobs"):
            digest = tags[reference]["digest"] if reference in tags else reference
            body = _blob("chart", digest).read_bytes()
            sort = json.loads(body)["mediaType"] if kind == "manifests" else "application/octet-stream"
        else:
            body, sort = b"{}", "application/json"
        self.send_response(200)
        self.send_header("Content-Type", sort)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        """Nothing: what was asked for is no news."""


def helm_pulls_and_renders_the_chart():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            place = f"oci://127.0.0.1:{server.server_port}/charts/jetlinks-bridge"
            run(TOOLS / "bin/helm", "pull", place, "--version", CHART["version"], "--plain-http", "--destination", folder)
            (pulled,) = pathlib.Path(folder).iterdir()
            assert pulled.read_bytes() == (made() / f"jetlinks-bridge-{CHART['version']}.tgz").read_bytes()
            assert "kind: Deployment" in run(TOOLS / "bin/helm", "template", "devices", pulled)
    finally:
        server.shutdown()


def the_layout_of_the_chart_has_its_metadata():
    manifest = json.loads(run("skopeo", "inspect", "--raw", f"oci:{made() / 'chart'}:{CHART['version']}"))
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.helm.config.v1+json"
    assert json.loads(_blob("chart", manifest["config"]["digest"]).read_text()) == CHART
    hub = json.loads(run("skopeo", "inspect", "--raw", f"oci:{made() / 'chart'}:artifacthub.io"))
    assert hub["config"]["mediaType"] == "application/vnd.cncf.artifacthub.config.v1+yaml"
    text = _blob("chart", hub["layers"][0]["digest"]).read_text()
    assert text == (ROOT / "charts/artifacthub-repo.yml").read_text() and "owners" in yaml.safe_load(text)
