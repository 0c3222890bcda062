"""dev/bootstrap.sh on machines that lack things: it says what, and changes nothing.

Each test has a copy of the project, a PATH with just the programs it names, and a user who is not root.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BASICS = ["bash", "cat", "chmod", "dirname", "env", "grep", "id", "mktemp", "rm", "sed", "sha256sum", "tee"]


@pytest.fixture
def machine():
    """A folder that every user can enter, with the project's files and an empty bin/."""
    # Not tmp_path: pytest's folders are closed to other users.
    with tempfile.TemporaryDirectory(prefix="iam-watcher-bootstrap-") as name:
        folder = Path(name)
        project = folder / "project"
        (project / "dev").mkdir(parents=True)
        (folder / "bin").mkdir()
        (folder / "calls").touch()
        for file in ("constraints.txt", "pyproject.toml", "dev/bootstrap.sh"):
            shutil.copy2(ROOT / file, project / file)
        for program in BASICS:
            (folder / "bin" / program).symlink_to(shutil.which(program))
        # The tests' own Python may stand where other users can't read; the script asks only whether
        # it is new enough, has venv, and has the headers that compiling needs.
        _program(folder, "python3", 'if [ "$1" = --version ]; then echo "Python 3.11.7"; fi')
        _program(folder, "mariadbd", "exit 0")
        _program(folder, "mariadb-install-db", "exit 0")
        _program(folder, "mariadb", "exit 0")
        _program(folder, "redis-server", "exit 0")
        for path in [folder, *folder.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0))
        (folder / "calls").chmod(0o666)
        yield folder


def _program(folder, name, script):
    """Put a program into the machine's PATH; it notes that it was called."""
    path = folder / "bin" / name
    path.write_text(f'#!/bin/bash\necho "{name} $*" >>"{folder}/calls"\n{script}\n')
    path.chmod(0o755)


def _bootstrap(folder, *arguments, leaves=True):
    """Run it as a user who is not root; it `leaves` every file as it was."""
    nobody = (
        [shutil.which("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
        if os.geteuid() == 0
        else []
    )
    before = sorted(folder.rglob("*"))
    done = subprocess.run(
        [*nobody, shutil.which("bash"), str(folder / "project" / "dev" / "bootstrap.sh"), *arguments],
        env={"PATH": str(folder / "bin"), "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (sorted(folder.rglob("*")) == before) == leaves, "files came or went"
    return done


def _calls(folder, *names):
    """Return the calls of these programs."""
    return [line for line in (folder / "calls").read_text().splitlines() if line.split()[0] in names]


def test_without_root_it_names_the_packages_and_changes_nothing(machine):
    _program(machine, "apt-get", "exit 0")
    done = _bootstrap(machine)
    assert done.returncode == 1
    assert "gcc libc6-dev pkg-config default-libmysqlclient-dev" in done.stderr
    assert "no apt or no root" in done.stderr
    assert "Nothing was changed." in done.stderr
    assert done.stderr.count("bootstrap:") == len(done.stderr.splitlines())
    assert _calls(machine, "apt-get") == []


def test_without_apt_it_says_the_same(machine):
    _program(machine, "sudo", 'exec "$@"')
    done = _bootstrap(machine)
    assert done.returncode == 1
    assert "no apt or no root" in done.stderr
    assert _calls(machine, "sudo", "apt-get") == []


def test_only_the_bench_wants_its_peers(machine):
    assert "percona-toolkit" not in _bootstrap(machine).stderr
    assert "percona-toolkit" in _bootstrap(machine, "bench").stderr


def test_only_the_tests_want_a_browser(machine):
    assert "chromium" not in _bootstrap(machine).stderr
    assert "chromium" in _bootstrap(machine, "browser").stderr


def test_with_sudo_that_asks_for_a_password_nobody_can_type(machine):
    _program(machine, "apt-get", "exit 0")
    _program(machine, "sudo", "exit 1")
    done = _bootstrap(machine)
    assert done.returncode == 1
    assert "no apt or no root" in done.stderr
    assert _calls(machine, "sudo") == ["sudo -n true"]


def test_with_sudo_it_installs_without_removing_anything_and_stops_if_apt_fails(machine):
    _program(machine, "apt-get", 'echo "E: Unable to locate package gcc"; exit 100')
    _program(machine, "true", "exit 0")
    _program(machine, "sudo", '[ "$1" = -n ] && shift; exec "$@"')
    done = _bootstrap(machine)
    assert done.returncode == 1
    assert "E: Unable to locate package gcc" in done.stderr
    assert "apt could not install: gcc libc6-dev" in done.stderr
    _update, install = _calls(machine, "apt-get")
    assert "--no-remove" in install
    assert install.endswith("pkg-config default-libmysqlclient-dev")


@pytest.fixture
def without_redis(machine):
    """The machine without redis-server, with sudo, and with a policy-rc.d that is not the real one."""
    policy = machine / "sbin" / "policy-rc.d"
    policy.parent.mkdir()
    policy.parent.chmod(0o777)
    script = machine / "project" / "dev" / "bootstrap.sh"
    script.write_text(script.read_text().replace("/usr/sbin/", f"{policy.parent}/"))
    (machine / "bin" / "redis-server").unlink()
    _program(machine, "true", "exit 0")
    _program(machine, "sudo", '[ "$1" = -n ] && shift; exec "$@"')
    _program(
        machine, "apt-get", f'[ -e {policy} ] && while read line; do echo "$line"; done <{policy}; exit 100'
    )
    return policy


def test_redis_is_installed_but_not_started(machine, without_redis):
    done = _bootstrap(machine)
    # What apt-get found as the policy: 101 is "not allowed".
    assert "exit 101" in done.stderr
    install = _calls(machine, "apt-get")[-1]
    assert " install " in install
    assert "redis-server" in install
    assert not without_redis.exists()


def test_somebody_elses_policy_stays(machine, without_redis):
    without_redis.write_text("#!/bin/sh\n# theirs\nexit 104\n")
    without_redis.chmod(0o755)
    done = _bootstrap(machine)
    assert "# theirs" in done.stderr
    assert without_redis.read_text() == "#!/bin/sh\n# theirs\nexit 104\n"


def test_a_policy_that_a_killed_run_left_is_taken_away(machine, without_redis):
    without_redis.write_text("#!/bin/sh\n# made by dev/bootstrap.sh\nexit 101\n")
    without_redis.chmod(0o777)
    _bootstrap(machine, leaves=False)
    assert not without_redis.exists()


def test_a_python_that_is_too_old(machine):
    _program(machine, "python3", '[ "$1" = --version ] && echo "Python 3.9.2"; exit 1')
    done = _bootstrap(machine)
    assert done.returncode == 1
    assert "python3 is Python 3.9.2; Python 3.11 or newer is needed" in done.stderr


def test_no_python_at_all(machine):
    (machine / "bin" / "python3").unlink()
    done = _bootstrap(machine)
    assert done.returncode == 1
    assert "there is no python3 here" in done.stderr


def test_a_second_run_installs_nothing():
    stamp = ROOT / ".venv" / ".installed"
    before = (stamp.read_text(), stamp.stat().st_mtime_ns)
    done = subprocess.run([ROOT / "dev" / "bootstrap.sh"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert (stamp.read_text(), stamp.stat().st_mtime_ns) == before
