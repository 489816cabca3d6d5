"""The Debian package and the tarball."""

import os
import re
import shutil
import subprocess
import tarfile

from release import ARCHITECTURES, BUILT, TIME, VERSION, file, made, program, run, unpacked

# Whoever runs the tarball has to have these; the first two are OpenSSL 3.
LIBRARIES = {"libssl.so.3", "libcrypto.so.3", "libz.so.1", "libgcc_s.so.1", "libm.so.6", "libc.so.6"}


def lintian_finds_nothing_in_the_package():
    for architecture in ARCHITECTURES:
        words = ["--allow-root"] if os.getuid() == 0 else []
        said = run("lintian", *words, "--no-cfg", "--fail-on", "error,warning", file(architecture, ".deb"), timeout=300)
        assert not said, said


def the_package_depends_on_the_packages_of_the_libraries_it_loads():
    for architecture in ARCHITECTURES:
        field = run("dpkg-deb", "--field", file(architecture, ".deb"), "Depends")
        # Zlib is part of a program that was compiled for another architecture than that of the machine.
        zlib = [] if (BUILT / architecture / "sysroot").is_dir() else ["zlib1g"]
        for package in ("libc6", "libgcc-s1", "libssl3", *zlib):
            assert re.search(rf"(^|, ){package}( \(>= [\w.:~+-]+\))?(,|$)", field.strip()), field
        assert run("dpkg-deb", "--field", file(architecture, ".deb"), "Architecture").strip() == architecture


def the_configuration_is_kept_when_the_package_changes():
    control = unpacked(ARCHITECTURES[0], ".deb") / "DEBIAN"
    assert (control / "conffiles").read_text() == "/etc/jetlinks-bridge/bridge.toml\n"
    for script in ("postinst", "prerm", "postrm"):
        run("sh", "-n", control / script)


def what_may_hold_secrets_is_closed_to_others():
    root = unpacked(ARCHITECTURES[0], ".deb")
    assert (root / "etc/jetlinks-bridge").stat().st_mode & 0o777 == 0o750
    assert (root / "etc/jetlinks-bridge/bridge.toml").stat().st_mode & 0o777 == 0o640


def every_file_of_the_tarball_has_its_sum():
    for architecture in ARCHITECTURES:
        folder = unpacked(architecture, ".tar.gz")
        run("sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS", cwd=folder)
        summed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
        there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {"SHA256SUMS"}
        assert summed == there, summed ^ there
        expected = {"LICENSE", "README.md", "jetlinks-bridge", "sbom.cdx.json", "config/production.toml", "man/jetlinks-bridge.1",
                    "systemd/jetlinks-bridge.service", "completions/_jetlinks-bridge"}
        assert expected <= there, expected - there
    run("sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS", cwd=made())


def the_binary_loads_the_documented_libraries_alone():
    for architecture in ARCHITECTURES:
        said = run("readelf", "--dynamic", "--wide", unpacked(architecture, ".tar.gz") / "jetlinks-bridge")
        needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", said))
        # The loader is one of them where the program asks it for the address of a thread's own variables.
        assert {name for name in needed if not name.startswith("ld-linux")} <= LIBRARIES, needed
        if not (BUILT / architecture / "sysroot").is_dir():
            assert "not found" not in run("ldd", unpacked(architecture, ".tar.gz") / "jetlinks-bridge")


def every_manual_page_is_rendered_without_a_warning():
    pages = sorted((unpacked(ARCHITECTURES[0], ".tar.gz") / "man").iterdir())
    assert len(pages) > 10, pages
    for page in pages:
        command = ["man", "--warnings", "--encoding=UTF-8", "--local-file", page]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "MANWIDTH": "100", "LC_ALL": "C.UTF-8"}
        )
        assert done.returncode == 0 and not done.stderr, f"{page.name}: {done.stderr}"
        assert "SYNOPSIS" in done.stdout, page.name


def each_shell_reads_its_completions():
    folder = unpacked(ARCHITECTURES[0], ".tar.gz") / "completions"
    assert len(list(folder.iterdir())) == 3
    for shell, name in [("bash", "jetlinks-bridge.bash"), ("zsh", "_jetlinks-bridge"), ("fish", "jetlinks-bridge.fish")]:
        assert (folder / name).stat().st_size > 1000, name
        if shutil.which(shell):
            run(shell, "-n", folder / name)


def the_same_binary_becomes_the_same_files_to_the_byte():
    first, second = made(), made("second")
    names = {str(path.relative_to(first)) for path in first.rglob("*") if path.is_file()}
    assert names == {str(path.relative_to(second)) for path in second.rglob("*") if path.is_file()}
    differ = [name for name in sorted(names) if (first / name).read_bytes() != (second / name).read_bytes()]
    assert not differ, differ


def every_time_in_the_tarball_is_that_of_the_release():
    for architecture in ARCHITECTURES:
        with tarfile.open(file(architecture, ".tar.gz")) as archive:
            entries = archive.getmembers()
        assert {entry.mtime for entry in entries} == {TIME} and {(entry.uid, entry.gid) for entry in entries} == {(0, 0)}
        assert {entry.name.split("/")[0] for entry in entries} == {f"jetlinks-bridge-{VERSION}-linux-{architecture}"}


def what_the_tarball_unpacks_runs():
    for architecture in ARCHITECTURES:
        binary = program(architecture, unpacked(architecture, ".tar.gz") / "jetlinks-bridge")
        assert run(*binary, "--version") == f"jetlinks-bridge {VERSION}\n"
        run(*binary, "check", "--config", unpacked(architecture, ".tar.gz") / "config/nats.toml")
