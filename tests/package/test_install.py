"""The Debian package installed by dpkg, on a copy of this machine that is thrown away."""

import os
import pathlib
import tempfile

from release import ARCHITECTURES, BUILT, file, run

# What is written goes to memory; the machine below stays as it is.
SCRIPT = """
set -e
mount -t tmpfs none "$1"
cd "$1"
mkdir upper work root
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" root
cp "$2" root/bridge.deb
inside() { echo "== $*"; chroot root "$@" 2>&1; }
inside dpkg --no-triggers --install /bridge.deb
inside stat --format '%U:%G %a %n' /etc/jetlinks-bridge /etc/jetlinks-bridge/bridge.toml
inside setpriv --reuid=jetlinks-bridge --regid=jetlinks-bridge --clear-groups \
  jetlinks-bridge check --config /etc/jetlinks-bridge/bridge.toml
echo '# mine' >> root/etc/jetlinks-bridge/bridge.toml
inside dpkg --no-triggers --install /bridge.deb
inside tail -n 1 /etc/jetlinks-bridge/bridge.toml
inside dpkg --no-triggers --remove jetlinks-bridge
inside ls /etc/jetlinks-bridge
inside dpkg --no-triggers --purge jetlinks-bridge
inside test ! -e /etc/jetlinks-bridge
inside test ! -e /usr/bin/jetlinks-bridge
"""


def dpkg_installs_upgrades_and_removes_the_package():
    # Only root may lay one file system over another; a package of another architecture asks for its own libraries.
    (native,) = [one for one in ARCHITECTURES if not (BUILT / one / "sysroot").is_dir()]
    if os.getuid() != 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        said = run("unshare", "--mount", "bash", "-c", SCRIPT, "-", pathlib.Path(folder), file(native, ".deb"))
    said = dict(part.split("\n", 1) for part in said.split("== ")[1:])
    modes = next(value for command, value in said.items() if command.startswith("stat "))
    assert modes.splitlines() == [
        "root:jetlinks-bridge 750 /etc/jetlinks-bridge", "root:jetlinks-bridge 640 /etc/jetlinks-bridge/bridge.toml",
    ], modes
    # The user of the service reads it, and what was changed in it stays.
    assert 'queue = "nats"' in next(value for command, value in said.items() if command.startswith("setpriv "))
    assert said["tail -n 1 /etc/jetlinks-bridge/bridge.toml"] == "# mine\n"
    assert said["ls /etc/jetlinks-bridge"] == "bridge.toml\n"
