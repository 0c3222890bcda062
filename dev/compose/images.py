"""Stand-ins for the images that docker-compose.yaml and the Dockerfile name, made without a registry.

Each is made from Debian's and Python's packages, with a Dockerfile of dev/compose/images/. It takes the
environment variables, folders, users and entry points that the compose file relies on. docs/deploy.md says
what this leaves untried.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from dev.processes import ProcessError

if TYPE_CHECKING:
    from dev.compose.engine import Engine

_BASE = "iam-watcher-debian"
_SUITE = "bookworm"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SOURCES = Path("/etc/apt")
_FOLDERS = Path(__file__).with_name("images")
# What pip needs to reach its index from here; other options have paths that an image doesn't have.
_PIP_OPTIONS = ("index-url", "proxy", "timeout", "trusted-host")


def image_names(root: Path) -> dict[str, str]:
    """Return the name of each image that has a stand-in: folder of dev/compose/images -> name."""
    compose = (root / "docker-compose.yaml").read_text()
    names = re.findall(r"^    image: (\S+)$", compose, re.MULTILINE)
    (airflow,) = re.findall(r"^ARG AIRFLOW_IMAGE=(\S+)$", (root / "Dockerfile").read_text(), re.MULTILINE)
    return {**{name.partition(":")[0]: name for name in names}, "airflow": airflow}


def make_images(engine: Engine, root: Path, folder: Path) -> None:
    """Make each stand-in and tag it with the name that the files of `root` use.

    Args:
        engine: It uses this machine's network.
        root: Where docker-compose.yaml, the Dockerfile and constraints.txt are.
        folder: Gets files of the build.

    Raises:
        ProcessError: A package could not be had, or a build failed.
    """
    if engine.docker("image", "inspect", _BASE, check=False).returncode:
        engine.docker("import", str(_debian(engine, folder)), _BASE)
    for kind, name in image_names(root).items():
        context = folder / kind
        shutil.copytree(_FOLDERS / kind, context, dirs_exist_ok=True)
        if kind == "airflow":
            shutil.copy(root / "constraints.txt", context)
            _write_pip_configuration(context)
        engine.docker("build", "--network", "host", "--tag", name, str(context))


def build(engine: Engine, root: Path, folder: Path, *, service: str) -> None:
    """Build the image of a compose file with its Dockerfile, as `docker compose build` does.

    Args:
        engine: It uses this machine's network.
        root: Where the compose file is; the only one of its folder.
        folder: Gets files of the build.
        service: The one that is built.

    Raises:
        ProcessError: The build failed.
    """
    # The containers of the build use this machine's network too.
    hosts = folder / "build.yaml"
    hosts.write_text(f"services:\n  {service}:\n    build:\n      network: host\n")
    (compose,) = root.glob("*compose.yaml")
    files = ("--file", compose.name, "--file", str(hosts))
    engine.docker("compose", *files, "build", "--progress", "plain", folder=root)


def _debian(engine: Engine, folder: Path) -> Path:
    """Return an archive of a small Debian, made by mmdebstrap with this machine's mirror."""
    archive = folder / "debian.tar"
    text = "".join(
        path.read_text()
        for path in [_SOURCES / "sources.list", *sorted((_SOURCES / "sources.list.d").glob("*"))]
        if path.is_file()
    )
    mirrors = re.findall(r"^(?:URIs:|deb ).*?(https?://\S+/debian/?)(?:\s|$)", text, re.MULTILINE)
    mirror = mirrors[0] if mirrors else "http://deb.debian.org/debian"
    source = f"deb [signed-by={_KEYRING}] {mirror} {_SUITE} main"
    program = shutil.which("mmdebstrap", path=engine.env["PATH"])
    if program is None:
        raise ProcessError("mmdebstrap is not here: run dev/download_servers.sh docker")
    command = ["perl", program, "--mode=root", "--variant=apt", "--include=ca-certificates", "--format=tar"]
    # Its mounts would leave a folder /run/mount on the machine. No package here needs them.
    command.append("--skip=chroot/mount")
    done = subprocess.run(
        [*command, _SUITE, str(archive), source],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise ProcessError(f"mmdebstrap failed:\n{done.stderr}")
    return archive


def _write_pip_configuration(context: Path) -> None:
    """Write how this machine's pip reaches its index: pip.conf and certificates.crt, which may be empty."""
    listed = subprocess.run(
        ["python3", "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    found = {
        name: ast.literal_eval(value)
        for name, value in re.findall(r"^(?:global|:env:)\.([\w-]+)=(.+)$", listed, re.MULTILINE)
    }
    options = {name: found[name] for name in _PIP_OPTIONS if name in found}
    certificates = Path(found["cert"]).read_text() if "cert" in found else ""
    (context / "certificates.crt").write_text(certificates)
    if certificates:
        options["cert"] = "/etc/pip-certificates.crt"
    (context / "pip.conf").write_text(
        "[global]\n" + "".join(f"{name} = {value}\n" for name, value in options.items())
    )
