"""What a release consists of, made once from the binaries in BUILT."""

import concurrent.futures
import functools
import os
import pathlib
import re
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = pathlib.Path(os.environ["TOOLS"])
BUILT = pathlib.Path(os.environ["BUILT"]).resolve()
ARCHITECTURES = os.environ["ARCHITECTURES"].split()
VERSION = re.search(r'^version = "(.*)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
TIME = 1700000000
# Kept for the life of this process.
_FOLDER = tempfile.TemporaryDirectory(prefix="jetlinks-bridge-package-")


def run(*command, code=0, **more):
    """Standard output of a program that ends with that code."""
    more = {"timeout": 120, "text": True, **more}
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False, **more)
    assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def _make(name):
    folder = pathlib.Path(_FOLDER.name) / name
    # How well it packs is not the question here, and it takes longest.
    more = {"SOURCE_DATE_EPOCH": str(TIME), "REVISION": "test", "DEB_COMPRESSION": "gzip", "DEB_LEVEL": "1", "GZIP_LEVEL": "1"}
    run(ROOT / ".ci/package/all", BUILT, folder, *ARCHITECTURES, env={**os.environ, **more}, timeout=600)
    return folder


_MAKERS = concurrent.futures.ThreadPoolExecutor(max_workers=2)
_RUNS = {name: _MAKERS.submit(_make, name) for name in ("first", "second")}


def made(name="first"):
    """The folder of a release; the second is made of the same binaries at the same time."""
    return _RUNS[name].result()


def file(architecture, ending):
    """The one file of that architecture with that ending."""
    (found,) = made().glob(f"jetlinks-bridge*{architecture}{ending}")
    return found


@functools.cache
def unpacked(architecture, ending):
    """The folder that a package or a tarball becomes."""
    packed = file(architecture, ending)
    folder = pathlib.Path(_FOLDER.name) / f"{architecture}{ending}"
    folder.mkdir()
    if ending == ".deb":
        run("dpkg-deb", "--extract", packed, folder)
        run("dpkg-deb", "--control", packed, folder / "DEBIAN")
        return folder
    run("tar", "--extract", "--gzip", "--file", packed, "--directory", folder)
    (inner,) = folder.iterdir()
    return inner


def program(architecture, binary):
    """The command that runs a program of that architecture here."""
    sysroot = BUILT / architecture / "sysroot"
    if not sysroot.is_dir():
        return [str(binary)]
    return [f"qemu-{architecture.replace('arm64', 'aarch64')}-static", "-L", str(sysroot), str(binary)]
