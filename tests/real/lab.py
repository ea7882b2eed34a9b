"""Three machines on one: each a set of namespaces with its own address, host name, home and OpenSSH server.

As over Tailscale no multicast goes between them, and a link can be cut, which nobody at its ends is told.
Needs root, iproute2 and openssh-server. The first process of a machine is a shell that reads what to do from a pipe of
ours: when this process ends, for whatever reason, the pipe ends, with it that shell, and with it everything on the
machine, network included. A limit of time ends it too. Nothing outside the namespaces is changed but one folder.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests import PROJECT

LIMIT_S = 3000
UP_S = 20.0
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOOLS = ("ip", "unshare", "nsenter", "ssh-keygen", "/usr/sbin/sshd")

SSHD = """\
Port {port}
HostKey {folder}/host_key
PidFile none
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
AuthorizedKeysFile {folder}/home/.ssh/authorized_keys
SetEnv PATH={folder}/bin:{path} TMPDIR={folder}/tmp LANG=C.UTF-8 {more}
Subsystem sftp internal-sftp
MaxStartups 50:30:100
"""


def missing() -> str:
    """Return what a lab lacks here, "" where it can be brought up."""
    absent = [tool for tool in TOOLS if not shutil.which(tool, path=SYSTEM_PATH)]
    if os.geteuid() != 0:
        absent.append("root")
    return ", ".join(absent)


@dataclass(frozen=True)
class Machine:
    """One machine: its name here, its host name, its IPv4 address, and the port of its SSH server (0: it has none)."""

    key: str
    hostname: str
    address: str
    ssh_port: int = 22


HUB = Machine("hub", "hub", "100.100.0.1", 0)
SRV1 = Machine("srv1", "ndnlinuxsrv1", "100.77.248.9")
SRV2 = Machine("srv2", "ndnlinuxsrv2", "100.64.0.2")
ROG = Machine("rog", "rog-flow-z13", "100.93.122.109", 2222)
NODES = (SRV1, SRV2, ROG)
"""As in the shipped hosts.yaml."""


class Lab:
    """The hub and the nodes, up between `with` and its end."""

    def __init__(self, root: Path, **variables: str) -> None:
        self.root = root
        self._variables = variables
        """Set in every login beside what a login has."""
        self._shells: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Lab:
        try:
            self._lay_out()
            for machine in (HUB, *NODES):
                self._boot(machine)
            for machine in NODES:
                self._wait_for_ssh(machine)
        except BaseException:
            self._down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._down()

    def folder(self, machine: Machine) -> Path:
        """Return where everything of a machine lies: home, bin (first on its PATH), tmp and its servers' logs."""
        return self.root / machine.key

    def start(self, machine: Machine, argv: list[str], log: str, **variables: str) -> None:
        """Start a server on a machine; it ends with the machine, its words are in `log` of the machine's folder."""
        named = [f"{name}={value}" for name, value in variables.items()]
        line = shlex.join(["env", *named, *argv])
        self._tell(machine, f"{line} </dev/null >>{shlex.quote(str(self.folder(machine) / log))} 2>&1 &")

    def run(
        self, machine: Machine, argv: list[str], *, cwd: Path, timeout_s: float, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on a machine as its user would, and wait for its end; stdout and stderr are kept apart."""
        folder = self.folder(machine)
        environment = {
            "HOME": str(folder / "home"),
            "USER": "root",
            "LOGNAME": "root",
            "LANG": "C.UTF-8",
            "PATH": f"{folder}/bin:{SYSTEM_PATH}",
            "TMPDIR": str(folder / "tmp"),
        }
        return subprocess.run(
            ["nsenter", "-t", str(self._first(machine)), "-m", "-u", "-i", "-n", "-p", f"--wd={cwd}", *argv],
            env=environment | self._variables | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def cut(self, machine: Machine) -> None:
        """Let nothing through to or from a machine any more; its interface stays up."""
        self._pass(machine, "disabled")

    def mend(self, machine: Machine) -> None:
        """Let everything through again."""
        self._pass(machine, "forwarding")

    def processes(self, machine: Machine) -> list[str]:
        """Return the command lines of everything that runs on a machine."""
        shown = self.run(machine, ["ps", "-eo", "args="], cwd=Path("/"), timeout_s=20)
        return shown.stdout.splitlines()

    def _pass(self, machine: Machine, state: str) -> None:
        number = {"disabled": 0, "forwarding": 3}[state]
        _ip(self._first(HUB), f"link set v{machine.key} type bridge_slave state {number}")

    def _lay_out(self) -> None:
        operator = self.root / "operator"
        _make_key(operator)
        names = "".join(f"{m.address} {m.hostname}\n" for m in (HUB, *NODES))
        (self.root / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        more = " ".join(f'"{name}={value}"' for name, value in self._variables.items())
        trusted = ""
        for machine in NODES:
            folder = self.folder(machine)
            for name in ("home/.ssh", "home/.config/pip", "bin", "tmp"):
                (folder / name).mkdir(parents=True)
            _make_key(folder / "host_key")
            shutil.copy(operator.with_suffix(".pub"), folder / "home/.ssh/authorized_keys")
            (folder / "passwd").write_text(
                f"root:x:0:0:root:{folder}/home:/bin/bash\nsshd:x:105:65534::/run/sshd:/usr/sbin/nologin\n"
            )
            (folder / "loadavg").write_text("0.00 0.00 0.00 0/0 0\n")
            config = SSHD.format(port=machine.ssh_port, folder=folder, path=SYSTEM_PATH, more=more)
            (folder / "sshd_config").write_text(config)
            name = machine.hostname if machine.ssh_port == 22 else f"[{machine.hostname}]:{machine.ssh_port}"
            trusted += f"{name} {(folder / 'host_key.pub').read_text()}"
        self.folder(HUB).mkdir()
        at_home = self.folder(SRV1) / "home/.ssh"
        (at_home / "known_hosts").write_text(trusted)
        shutil.copy(operator, at_home / "id_ed25519")

    def _boot(self, machine: Machine) -> None:
        namespaces = ["--net", "--uts", "--pid", "--mount", "--ipc", "--mount-proc", "--fork", "--kill-child"]
        log = (self.folder(machine) / "boot.log").open("w")
        with log:
            self._shells[machine.key] = subprocess.Popen(
                ["timeout", "--kill-after=5", str(LIMIT_S), "unshare", *namespaces, "/bin/bash", "-s"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                cwd="/",
                env={"PATH": SYSTEM_PATH, "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        inner = self._first(machine)
        if machine is HUB:
            _ip(inner, "link add br0 type bridge", f"addr add {HUB.address}/10 dev br0", "link set br0 up")
        else:
            bridge, port = self._first(HUB), f"v{machine.key}"
            _ip(bridge, f"link add {port} type veth peer name eth0 netns {inner}")
            _ip(bridge, f"link set {port} master br0 up", f"link set {port} type bridge_slave mcast_flood off")
            _ip(inner, f"addr add {machine.address}/10 dev eth0", "link set eth0 up")
        _ip(inner, "link set lo up")
        folder = shlex.quote(str(self.folder(machine)))
        self._tell(machine, f"hostname {machine.hostname}")
        self._tell(machine, f"mount --bind {shlex.quote(str(self.root / 'hosts'))} /etc/hosts")
        if machine.ssh_port:
            # Its own home folder, for the SSH server and for every program that asks who it is.
            self._tell(machine, f"mount --bind {folder}/passwd /etc/passwd")
            self._tell(machine, "mount -t tmpfs tmpfs /run && mkdir /run/sshd")
            self._tell(machine, f"mount --bind {folder}/loadavg /proc/loadavg")
            argv = [sys.executable, "-m", "tests.real.loadavg", str(self.folder(machine) / "loadavg")]
            self.start(machine, argv, "loadavg.log", PYTHONPATH=str(PROJECT), PYTHONDONTWRITEBYTECODE="1")
            self._tell(machine, f"/usr/sbin/sshd -D -E {folder}/sshd.log -f {folder}/sshd_config </dev/null &")

    def _first(self, machine: Machine) -> int:
        """Return the PID, as seen from here, of a machine's first process: the child of `unshare`, of `timeout`."""
        pid, deadline = self._shells[machine.key].pid, time.monotonic() + UP_S
        while time.monotonic() < deadline:
            found = pid
            for _ in ("unshare", "bash"):
                children = Path(f"/proc/{found}/task/{found}/children").read_text().split()
                found = int(children[0]) if children else 0
                if not found:
                    break
            if found and Path(f"/proc/{found}/comm").read_text() == "bash\n":
                return found
            time.sleep(0.02)
        raise RuntimeError(f"{machine.key} did not boot: {(self.folder(machine) / 'boot.log').read_text()}")

    def _tell(self, machine: Machine, line: str) -> None:
        pipe = self._shells[machine.key].stdin
        assert pipe is not None
        pipe.write(line + "\n")
        pipe.flush()

    def _wait_for_ssh(self, machine: Machine) -> None:
        greeting = f"exec 3<>/dev/tcp/{machine.address}/{machine.ssh_port} && head -c 4 <&3"
        deadline = time.monotonic() + UP_S
        while self.run(SRV1, ["bash", "-c", greeting], cwd=Path("/"), timeout_s=10).stdout != "SSH-":
            if time.monotonic() > deadline:
                logs = [self.folder(machine) / name for name in ("boot.log", "sshd.log")]
                said = "".join(log.read_text() for log in logs if log.exists())
                raise RuntimeError(f"no SSH server answers on {machine.key}: {said}")
            time.sleep(0.1)

    def _down(self) -> None:
        for shell in self._shells.values():
            assert shell.stdin is not None
            shell.stdin.close()
        for shell in self._shells.values():
            try:
                shell.wait(5)
            except subprocess.TimeoutExpired:
                shell.terminate()  # `timeout` hands it on, kills `unshare` 5 s later, and with it the machine
                shell.wait(20)


def _make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def _ip(inside: int, *commands: str) -> None:
    for command in commands:
        subprocess.run(["nsenter", "-t", str(inside), "-n", "ip", *command.split()], check=True)


if __name__ == "__main__":
    # By hand: `python -m tests.real.lab FOLDER` keeps a lab up until Enter is pressed.
    with Lab(Path(sys.argv[1]).resolve()) as lab:
        input("up; Enter takes it down")
