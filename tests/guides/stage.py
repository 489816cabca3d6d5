"""The bridge, NATS and the text of a guide, for tests that do what the guide says."""

import contextlib
import ctypes
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BRIDGE = os.environ["BRIDGE"]
TOOLS = pathlib.Path(os.environ["TOOLS"])
PATIENCE_SECONDS = 60
SECURE_ID, SECURE_KEY = "test", "testtesttesttest"


# So that no process outlives a test that was killed: PR_SET_PDEATHSIG of prctl(2).
LIBC = ctypes.CDLL(None)


def _end_with_the_test():
    LIBC.prctl(1, signal.SIGKILL)


def eventually(what, condition):
    """The first truthy value of the condition; a failure after PATIENCE_SECONDS."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {PATIENCE_SECONDS} s: {what}"
        time.sleep(0.05)


def guide(name):
    """Text of a document."""
    return (ROOT / "docs" / name).read_text()


def section(text, heading):
    """Text below a heading of the second level, up to the next one."""
    return re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


def blocks(text, language):
    """Code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def rows(text):
    """Rows of the tables of a text without their headings, as lists of cells."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    heads = {at - 1 for at, row in enumerate(cells) if set("".join(row)) <= set("-: ")}
    return [row for at, row in enumerate(cells) if at not in heads and at - 1 not in heads]


def code(cell):
    """The code in a cell; None where there is none."""
    found = re.fullmatch(r"`(.*)`", cell)
    return found and found[1]


class Process(contextlib.AbstractContextManager):
    """A process that ends with the test; lines of its stdout can be waited for."""

    def __init__(self, command, **options):
        self.log = tempfile.NamedTemporaryFile("w+")
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, bufsize=1,
            preexec_fn=_end_with_the_test, **options,
        )
        self.lines = []
        self.arrived = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.arrived.put(line.rstrip("\n"))

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def errors(self):
        # Opened anew, for the position of self.log is also that at which the process writes.
        return pathlib.Path(self.log.name).read_text()

    def port(self, pattern):
        """A port that the process names in its log."""

        def named():
            assert self.process.poll() is None, self.errors()
            return re.search(pattern, self.errors())

        return int(eventually(f"a port in the log: {pattern}", named)[1])

    def find(self, what, wanted):
        """The first line from the beginning that is wanted, as what `wanted` makes of it."""

        def look():
            with contextlib.suppress(queue.Empty):
                while True:
                    self.lines.append(self.arrived.get_nowait())
            found = next((made for made in map(wanted, self.lines) if made), None)
            assert found or self.process.poll() is None, f"ended without {what}: {self.lines} {self.errors()}"
            return found

        try:
            return eventually(what, look)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.lines[-20:]}\n{self.errors()[-4000:]}") from None


class Bridge(Process):
    """A bridge on free ports, on config/dev.toml and with these settings; with a certificate and its key over DTLS, too."""

    def __init__(self, *settings, config=ROOT / "config/dev.toml", dtls=None):
        listeners = ["mqtt", "coap", "admin"] + ["dtls"] * bool(dtls)
        listen = [f"{name}.listen=127.0.0.1:0" for name in listeners]
        if dtls:
            listen += [f"dtls.certificate_file={dtls[0]}", f"dtls.private_key_file={dtls[1]}"]
        given = [part for setting in [*listen, *settings] for part in ("--set", setting)]
        super().__init__([BRIDGE, "run", "--config", config, *given], cwd=ROOT)
        try:
            self.ports = {name: self.port(rf"listening listener=\"?{name}\"? address=127\.0\.0\.1:(\d+)") for name in listeners}
            eventually("a bridge that is ready", self._is_ready)
        except BaseException:
            self.__exit__()
            raise

    def _is_ready(self):
        assert self.process.poll() is None, self.errors()
        with contextlib.suppress(OSError):
            return self.ask("/readyz").status == 200

    def ask(self, path, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports['admin']}{path}", method=method)
        return urllib.request.urlopen(request, timeout=PATIENCE_SECONDS)

    def here(self, text):
        """A text of a guide with the ports of this bridge."""
        for guided, name in [("1883", "mqtt"), ("5683", "coap"), ("5684", "dtls")]:
            text = re.sub(rf"\b{guided}\b", str(self.ports.get(name, guided)), text)
        return text

    def envelope(self, what, wanted):
        """The first envelope that is wanted."""

        def read(line):
            envelope = json.loads(line)
            return envelope if wanted(envelope) else None

        return self.find(what, read)

    def command(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")


def shell(script, **variables):
    """Runs a script of a guide as bash does; its stdout."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=PATIENCE_SECONDS,
        env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def program(text, suffix):
    """A file with this text, in a folder that goes with the test."""
    folder = tempfile.TemporaryDirectory()
    path = pathlib.Path(folder.name) / f"device{suffix}"
    path.write_text(text)
    # Node looks for packages beside the program.
    path.with_name("node_modules").symlink_to(TOOLS / "node/node_modules")
    return folder, path


PYTHON = sys.executable
NODE = shutil.which("node")
