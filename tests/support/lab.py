"""Three machines on one: each a set of namespaces with its own address, host name, home and OpenSSH server.

Needs root, iproute2 and openssh-server. They hang on the bridge of one more machine, the hub, which is their switch; as
over Tailscale, no multicast passes it. The first process of a machine is a shell that reads what to do from a pipe of
ours: when this process ends, for whatever reason, the pipe ends, with it that shell, and with it everything on the
machine, network included. A limit of time ends it too. Nothing outside the namespaces is changed but one folder.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

LIMIT_S = 14_400
UP_S = 90.0
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
SetEnv {environment}
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

    @property
    def port(self) -> str:
        """Where its cable goes into the hub's bridge."""
        return f"v{self.key}"

    @property
    def card(self) -> str:
        """The hardware address of its network card."""
        return "02:00:" + ":".join(f"{int(number):02x}" for number in self.address.split("."))

    @property
    def setting_up(self) -> tuple[str, ...]:
        """The commands of `ip` that make its network device, `eth0`, what it is."""
        return f"link set eth0 address {self.card}", f"addr add {self.address}/10 dev eth0", "link set eth0 up"


HUB = Machine("hub", "hub", "100.100.0.1", 0)
SRV1 = Machine("srv1", "ndnlinuxsrv1", "100.77.248.9")
SRV2 = Machine("srv2", "ndnlinuxsrv2", "100.64.0.2")
ROG = Machine("rog", "rog-flow-z13", "100.93.122.109", 2222)
NODES = (SRV1, SRV2, ROG)
"""As in the shipped hosts.yaml."""


class Lab:
    """The hub and the machines, up between `with` and its end.

    `user` is the machine at which a person sits: only it has a key to the others. `environment` tells what commands on
    a machine find in theirs. With `disk`, a size as mount(8) takes it, each machine has a disk of its own that can be
    full; what lies there is then seen from outside at `seen`.
    """

    def __init__(
        self,
        root: Path,
        machines: tuple[Machine, ...] = NODES,
        user: Machine = SRV1,
        environment: Callable[[Machine], Mapping[str, str]] = lambda _: {},
        disk: str = "",
    ) -> None:
        self.root = root
        self.machines = machines
        self._user = user
        self._environment = environment
        self._disk = disk
        self._shells: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Lab:
        try:
            self._lay_out()
            self._boot(HUB)
            for machine in self.machines:
                self._insert_disk(machine)
                self.boot(machine)
            for machine in self.machines:
                self.wait_for_ssh(machine)
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

    def tell(self, machine: Machine, line: str) -> None:
        """Have a machine's first process, its shell, do something; what that says is in its boot log."""
        pipe = self._shells[machine.key].stdin
        assert pipe is not None
        pipe.write(line + "\n")
        pipe.flush()

    def start(self, machine: Machine, argv: list[str], log: str, **variables: str) -> None:
        """Start a server on a machine; it ends with the machine, its words are in `log` of the machine's folder."""
        named = [f"{name}={value}" for name, value in variables.items()]
        line = shlex.join(["env", *named, *argv])
        self.tell(machine, f"{line} </dev/null >>{shlex.quote(str(self.folder(machine) / log))} 2>&1 &")

    def seen(self, path: Path) -> Path:
        """Return where a file of the machines is for this process."""
        return Path(f"/proc/{self.first(HUB)}/root{path}") if self._disk else path

    def begin(self, machine: Machine, argv: list[str], *, cwd: Path, **variables: str) -> subprocess.Popen[str]:
        """Start a program on a machine as its user would; stdout and stderr are kept apart."""
        folder = self.folder(machine)
        environment = {
            "HOME": str(folder / "home"),
            "USER": "root",
            "LOGNAME": "root",
            "LANG": "C.UTF-8",
            "PATH": f"{folder}/bin:{SYSTEM_PATH}",
            "TMPDIR": str(folder / "tmp"),
        }
        return subprocess.Popen(
            ["nsenter", "-t", str(self.first(machine)), "-m", "-u", "-i", "-n", "-p", f"--wd={cwd}", *argv],
            env=environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, machine: Machine, argv: list[str], *, cwd: Path, timeout_s: float, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on a machine as its user would, and wait for its end."""
        with self.begin(machine, argv, cwd=cwd, **variables) as running:
            try:
                out, err = running.communicate(timeout=timeout_s)
            except BaseException:
                running.kill()
                raise
        return subprocess.CompletedProcess(argv, running.returncode, out, err)

    def shell(self, machine: Machine, line: str) -> str:
        """Run a line of shell on a machine and return what it printed; its failure is one of the lab."""
        done = self.run(machine, ["bash", "-c", line], cwd=Path("/"), timeout_s=150)
        if done.returncode:
            raise RuntimeError(f"{machine.key}: {line}: exit code {done.returncode}: {done.stderr}")
        return done.stdout

    def processes(self, machine: Machine) -> list[str]:
        """Return the command lines of everything that runs on a machine."""
        shown = self.run(machine, ["ps", "-eo", "args="], cwd=Path("/"), timeout_s=20)
        return shown.stdout.splitlines()

    def boot(self, machine: Machine) -> None:
        """Switch a machine on: it has another boot id each time, and what lay on its disk."""
        self._boot(machine)
        inner = self.first(machine)
        self.plug(machine)
        _ip(inner, "link set lo up")
        folder, where = self.folder(machine), shlex.quote(str(self.folder(machine)))
        self.seen(folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        self.tell(machine, f"mount --bind {where}/boot_id /proc/sys/kernel/random/boot_id")
        # Its own home folder, for the SSH server and for every program that asks who it is.
        self.tell(machine, f"mount --bind {where}/passwd /etc/passwd")
        self.tell(machine, "mount -t tmpfs tmpfs /run && mkdir /run/sshd")
        self.tell(machine, f"mount --bind {where}/loadavg /proc/loadavg")
        self.start_sshd(machine)

    def switch_off(self, machine: Machine) -> None:
        """Cut a machine's power: nothing on it is told."""
        _ip(self.first(HUB), f"link del {machine.port}")
        os.kill(self.first(machine), signal.SIGKILL)
        self._shells.pop(machine.key).wait(20)

    def plug(self, machine: Machine) -> None:
        """Put a machine's cable into the hub's bridge."""
        hub = self.first(HUB)
        _ip(hub, f"link add {machine.port} type veth peer name eth0 netns {self.first(machine)}")
        _ip(hub, f"link set {machine.port} master br0 up", f"link set {machine.port} type bridge_slave mcast_flood off")
        _ip(self.first(machine), *machine.setting_up)

    def start_sshd(self, machine: Machine) -> None:
        """Start a machine's SSH server, where it has one."""
        if machine.ssh_port:
            folder = shlex.quote(str(self.folder(machine)))
            self.tell(machine, f"/usr/sbin/sshd -D -E {folder}/sshd.log -f {folder}/sshd_config </dev/null &")

    def _lay_out(self) -> None:
        operator = self.root / "operator"
        _make_key(operator)
        names = "".join(f"{m.address} {m.hostname}\n" for m in (HUB, *self.machines))
        (self.root / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        trusted = ""
        for machine in self.machines:
            folder = self.folder(machine)
            for name in ("home/.ssh", "home/.config/pip", "bin", "tmp"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / "passwd").write_text(
                f"root:x:0:0:root:{folder}/home:/bin/bash\nsshd:x:105:65534::/run/sshd:/usr/sbin/nologin\n"
            )
            (folder / "loadavg").write_text("0.00 0.00 0.00 0/0 0\n")
            if not machine.ssh_port:
                continue
            _make_key(folder / "host_key")
            shutil.copy(operator.with_suffix(".pub"), folder / "home/.ssh/authorized_keys")
            found = {"PATH": f"{folder}/bin:{SYSTEM_PATH}", "TMPDIR": f"{folder}/tmp", "LANG": "C.UTF-8"}
            told = " ".join(f"{name}={value}" for name, value in (found | dict(self._environment(machine))).items())
            (folder / "sshd_config").write_text(SSHD.format(port=machine.ssh_port, folder=folder, environment=told))
            name = machine.hostname if machine.ssh_port == 22 else f"[{machine.hostname}]:{machine.ssh_port}"
            trusted += f"{name} {(folder / 'host_key.pub').read_text()}"
        self.folder(HUB).mkdir()
        at_home = self.folder(self._user) / "home/.ssh"
        (at_home / "known_hosts").write_text(trusted)
        shutil.copy(operator, at_home / "id_ed25519")

    def _insert_disk(self, machine: Machine) -> None:
        """Have a machine's folder on a disk of its own, which lies in the hub so that it outlives a boot."""
        if self._disk:
            folder = shlex.quote(str(self.folder(machine)))
            mount = f"mount -t tmpfs -o size={self._disk} tmpfs"
            self.shell(HUB, f"{mount} /mnt && cp -a {folder}/. /mnt && mount --move /mnt {folder}")

    def _boot(self, machine: Machine) -> None:
        namespaces = ["--net", "--uts", "--pid", "--mount", "--ipc", "--mount-proc", "--fork", "--kill-child"]
        inside = ["nsenter", "-t", str(self.first(HUB)), "-m"] if self._disk and machine is not HUB else []
        with self._boot_log(machine).open("a") as log:
            self._shells[machine.key] = subprocess.Popen(
                ["timeout", "--kill-after=5", str(LIMIT_S), *inside, "unshare", *namespaces, "/bin/bash", "-s"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                cwd="/",
                env={"PATH": SYSTEM_PATH, "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        inner = self.first(machine)
        self.tell(machine, f"hostname {machine.hostname}")
        self.tell(machine, f"mount --bind {shlex.quote(str(self.root / 'hosts'))} /etc/hosts")
        if machine is HUB:
            _ip(inner, "link add br0 type bridge", f"addr add {HUB.address}/10 dev br0", "link set br0 up")
            _ip(inner, "link set lo up")

    def first(self, machine: Machine) -> int:
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
        raise RuntimeError(f"{machine.key} did not boot: {self._boot_log(machine).read_text()}")

    def has_visitor(self, machine: Machine) -> bool:
        """Tell whether somebody is connected to a machine's SSH server right now."""
        table = Path(f"/proc/{self.first(machine)}/net/tcp").read_text().splitlines()[1:]
        here = f":{machine.ssh_port:04X}"
        return any(local.endswith(here) and state == "01" for _, local, _, state, *_ in map(str.split, table))

    def _boot_log(self, machine: Machine) -> Path:
        return self.root / f"{machine.key}.boot.log"

    def wait_for_ssh(self, machine: Machine) -> None:
        """Wait until a machine's SSH server answers, where it has one."""
        if not machine.ssh_port:
            return
        greeting = f"exec 3<>/dev/tcp/{machine.address}/{machine.ssh_port} && head -c 4 <&3"
        deadline = time.monotonic() + UP_S
        while self.run(self._user, ["bash", "-c", greeting], cwd=Path("/"), timeout_s=10).stdout != "SSH-":
            if time.monotonic() > deadline:
                logs = [self._boot_log(machine), self.seen(self.folder(machine) / "sshd.log")]
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
    # By hand: `python -m tests.support.lab FOLDER` keeps a lab up until Enter is pressed.
    with Lab(Path(sys.argv[1]).resolve()) as lab:
        input("up; Enter takes it down")
