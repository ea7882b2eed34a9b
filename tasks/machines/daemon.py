"""Start, find and stop a background process on a node, by identity and not by PID alone.

A process is ours when its PID, its start time (field 22 of /proc/PID/stat, in clock ticks since boot), the boot it
belongs to and the executable on its command line are those that were noted at its start. A PID that the kernel has
given to somebody else since fails that test and is never signalled. The process leads its own session and group
(`setsid`), so one signal to the group reaches its children too, and it survives the SSH connection.

Children outlive a leader that was killed: EXO 1.x's runners hold the model's memory. They are ours where they carry the
mark that everything started in the folder inherits in its environment, or lie in the group of the noted leader and run
from its venv. So they are found with the leader gone, and with the note gone.

Format of the note: `run/daemon.json`, `{"pid", "start_ticks", "boot_id", "executable", "command", "parts"}`.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import msgspec

from records.facts import StopMethod
from tasks.decode import decode
from tasks.errors import StepError
from tasks.machines.environment import exported
from tasks.machines.functions import NOW, PROCESSES
from tasks.machines.node import Node

LOG_CAP_BYTES = 200_000
"""Of a log's end that is fetched from a node; a traceback takes 3 kB."""
WITHOUT_PROXIES = "unset $(compgen -e | grep -i '_proxy$')"
"""Bash that forgets the login's proxies, set for needs of its own: http_proxy, HTTPS_PROXY, all_proxy, grpc_proxy, ...
gRPC would send what goes between the nodes to such a proxy."""
TERM_GRACE_S = 12
"""EXO takes 0.6 to 2.7 s to end after SIGTERM; slower machines get more before SIGKILL."""
ORPHAN_GRACE_S = 2
"""Children without their leader have nobody to wait for."""
MARK = "EXO_PHASE1_RUN"
"""Environment variable whose value is the folder that a process was started in."""


class Launch(msgspec.Struct, frozen=True):
    """How to start EXO on a node as a daemon."""

    argv: list[str]
    environment: dict[str, str]
    files: dict[str, str]
    """Absolute path -> content, written before the start (the discovery file)."""
    ports: tuple[int, ...]
    """TCP ports that it will listen on; all must be free before and after."""
    unwanted: tuple[str, ...] = ()
    """What the owner should know about this start: "the API answers anyone who can reach port 52416"."""

    @property
    def parts(self) -> dict[str, str]:
        """What decides how the process runs, each as a digest: a running one is compared with a wanted one."""
        wanted: dict[str, str] = {"program": self.argv[0]}
        flag = "argument"
        for word in self.argv[1:]:
            if word.startswith("-"):
                flag = f"flag {word.partition('=')[0]}"
            wanted[flag] = f"{wanted.get(flag, '')} {word}"
        wanted |= {f"variable {name}": value for name, value in self.environment.items()}
        wanted |= {Path(path).name: content for path, content in self.files.items()}
        return {name: digest(part) for name, part in wanted.items()}


class Daemon(msgspec.Struct, frozen=True):
    """One process of ours, for good."""

    pid: int
    start_ticks: int
    boot_id: str
    executable: str
    command: str
    parts: dict[str, str] = {}
    """What it was started with, as digests by name (`flag --node-id`, `variable AMD`); from `noted` alone."""


class Pulse(msgspec.Struct, frozen=True):
    """What a process and its children have done so far."""

    alive: bool
    cpu_s: float = 0.0
    waited_s: float = 0.0
    """For a processor that others had, over all live threads."""
    disk_bytes: int = 0
    """Read and written on a disk."""
    log_bytes: int = 0


class Member(msgspec.Struct, frozen=True):
    """One process that carries a folder's mark."""

    pid: int
    memory_bytes: int
    command: str


class Ending(msgspec.Struct, frozen=True):
    """How a stop went."""

    how: StopMethod
    seconds: float

    @property
    def was_running(self) -> bool:
        """Whether there was a process to end."""
        return self.how != "not running"


_DONE = ("cpu", "waited", "disk")


def note_path(folder: str) -> str:
    """Return where the note of the process in `folder` lies."""
    return f"{folder}/daemon.json"


def log_path(folder: str) -> str:
    """Return where its output goes."""
    return f"{folder}/exo.log"


def digest(text: str) -> str:
    """Return the SHA-256 of `text`."""
    return hashlib.sha256(text.encode()).hexdigest()


def start(node: Node, folder: str, launch: Launch, parts: Mapping[str, str] | None = None) -> Daemon:
    """Start `launch` below `folder` (absolute, on the node) and return its identity, noted there too.

    `parts` is what else the process is made of, beside `launch.parts`. The login's proxies are kept from it.
    Raises StepError where it cannot be started at all; whether it serves is the caller's question.
    """
    for path, content in launch.files.items():
        node.put(content.encode(), path)
    every = launch.parts | dict(parts or {})
    told = exported(node, launch.environment | {MARK: folder})
    ran = node.run(start_script(folder, launch, every, told), timeout_s=30)
    fields = ran.stdout.split()
    if len(fields) != 3 or not fields[0].isdigit():
        raise node.failed(ran)
    return Daemon(int(fields[0]), int(fields[1]), fields[2], launch.argv[0], shlex.join(launch.argv))


def find(node: Node, folder: str) -> Daemon | None:
    """Return the process that `start` noted in `folder`, where that very process still runs; None otherwise."""
    return read_found(node.run(find_command(shlex.quote(folder)), check=False).stdout)


def find_command(folder: str) -> str:
    """Return the command that prints the note in `folder` (quoted for a shell) and what the kernel says of its PID.

    Without the note's parts: a digest of every package, ten kilobytes, and a campaign asks a hundred times.
    The command line is printed of the noted process alone: that of another, which has its PID by now, may hold secrets.
    """
    return rf"""note={folder}/daemon.json; sed 's/,"parts":{{.*/}}/' "$note" 2>/dev/null || exit 0
boot=$(cat /proc/sys/kernel/random/boot_id); printf '====\n%s\n' "$boot"
pid=$(sed -n 's/^{{"pid": \([0-9]*\),.*/\1/p' "$note" | head -n 1); [ -n "$pid" ] || exit 0
threads=("/proc/$pid/task/"*); echo "${{#threads[@]}}"
{{ read -r line <"/proc/$pid/stat"; }} 2>/dev/null || exit 0
printf '%s\n' "$line"; set -- ${{line##*) }}
grep -qF "\"start_ticks\": ${{20}}, \"boot_id\": \"$boot\"" "$note" && tr '\0' ' ' <"/proc/$pid/cmdline" """


def read_found(printed: str) -> Daemon | None:
    """Read what `find_command` printed: the noted process where it still runs as noted, else None; see `state`."""
    note, _, kernel = printed.partition("\n====\n")
    try:
        process = decode(note, Daemon)
    except msgspec.DecodeError:
        return None
    boot_id, threads, stat, command = (*kernel.split("\n", 3), "", "", "", "")[:4]
    fields = stat.rpartition(") ")[2].split()
    if boot_id != process.boot_id or len(fields) < 20 or fields[19] != str(process.start_ticks):
        return None
    if fields[0] == "Z":  # ended, unless another thread still lives and holds its sockets
        return process if int(threads) > 1 else None
    return process if process.executable in command else None


def noted(node: Node, folder: str) -> Daemon | None:
    """Return the process that `start` noted in `folder`, alive or not, with its parts; None without a readable note."""
    ran = node.run(f"cat {shlex.quote(note_path(folder))} 2>/dev/null", check=False)
    try:
        return decode(ran.stdout, Daemon)
    except msgspec.DecodeError:
        return None


def state(node: Node, process: Daemon) -> str:
    """Return `alive`, `zombie`, `foreign` (the PID was given to another process) or `gone`."""
    return node.run(state_command(process)).stdout.strip()


def state_command(process: Daemon) -> str:
    """Return the command that prints what became of a process."""
    return f"{PROCESSES}\nprobe {_identity(process)}"


def stop(node: Node, folder: str) -> Ending:
    """End what was started in `folder` with its whole group: TERM, wait, KILL; then forget the note.

    Signals nobody who is not ours: see the top. Raises StepError where something survives SIGKILL.
    """
    process = noted(node, folder)
    ran = node.run(stop_script(folder, process), timeout_s=TERM_GRACE_S + 20, check=False)
    if ran.stdout.strip() == "none":
        return Ending("not running", 0.0)
    signal, milliseconds, *left = ran.stdout.split() or ["?", "0", "?"]
    if left:
        raise StepError(
            f"processes {' '.join(left)} of EXO's group {process.pid if process else 0} survive SIGKILL",
            "a node without our processes",
            f"look at them on {node.spec.host}: ps -fp {','.join(left)}",
            who=node.key,
        )
    return Ending("KILL" if signal == "KILL" else "TERM", int(milliseconds) / 1000)


def stop_script(folder: str, process: Daemon | None) -> str:
    """Return the command that ends what is ours with its group and prints how, in how many ms, and what is left."""
    note, mark = shlex.quote(note_path(folder)), shlex.quote(folder)
    state = group = ask = ""  # without a note only the mark tells
    if process:
        pid, venv = process.pid, shlex.quote(posixpath.dirname(posixpath.dirname(process.executable)))
        state = f"$(probe {_identity(process)})"
        group = f"case $state in alive) members {pid};; gone|zombie) orphans {pid} {venv};; esac"
        ask = f'[ "$state" = alive ] && {{ grace={TERM_GRACE_S}; kill -TERM -- -{pid}; }}'
    return f"""{PROCESSES}
{NOW}
state={state}; grace={ORPHAN_GRACE_S}
ours() {{
  marked {mark}
  {group}
}}
all() {{ ours | sort -un; }}
gone_within() {{
  now; local end=$((now + $1 * 100))
  while left=$(all); [ -n "$left" ] && now && [ $now -lt $end ]; do sleep 0.1; done
}}
left=$(all); how=TERM; now; begin=$now
[ -n "$left" ] || {{ rm -f {note}; echo none; exit 0; }}
{ask}
kill -TERM $left 2>/dev/null
gone_within $grace
if [ -n "$left" ]; then
  how=KILL; kill -KILL $left 2>/dev/null
  gone_within 5
fi
now; echo "$how $(((now - begin) * 10))" $left
[ -z "$left" ] && rm -f {note}"""


def family(node: Node, folder: str) -> list[Member]:
    """Return the live processes that carry the mark of `folder`, the leader and what it has started."""
    return read_family(node.run(family_command(folder), check=False).stdout)


def family_command(folder: str) -> str:
    """Return the command that prints them, a line each."""
    return f"""{PROCESSES}
size=$(getconf PAGESIZE)
for pid in $(marked {shlex.quote(folder)}); do
  {{ read -r _ pages _ </proc/$pid/statm; }} 2>/dev/null || continue
  echo "member $pid $((pages * size)) $(tr '\\0\\n' '  ' </proc/$pid/cmdline)"
done
"""


def read_family(printed: str) -> list[Member]:
    """Read what `family_command` printed, whatever else stands between."""
    rows = re.findall(r"^member (\d+) (\d+) (.*)$", printed, re.MULTILINE)
    return [Member(int(pid), int(size), command) for pid, size, command in rows]


def log_size(node: Node, folder: str) -> int:
    """Return how many bytes the process's log has so far, 0 where there is none."""
    count = node.run(size_of_log(folder), check=False).stdout.strip()
    return int(count) if count.isdigit() else 0


def size_of_log(folder: str) -> str:
    """Return the command that prints how many bytes the log has."""
    return f"stat -c %s {shlex.quote(log_path(folder))} 2>/dev/null"


def log_since(node: Node, folder: str, size: int) -> str:
    """Return the end of what the process's log has gained beyond its first `size` bytes."""
    command = f"tail -c +{size + 1} {shlex.quote(log_path(folder))} 2>/dev/null | tail -c {LOG_CAP_BYTES}"
    return node.run(command, check=False).stdout


def log_tail(node: Node, folder: str, lines: int = 200) -> str:
    """Return the last `lines` of the process's log, "" where there is none."""
    return node.run(tail_command(folder, lines), check=False).stdout


def tail_command(folder: str, lines: int) -> str:
    """Return the command that prints the last `lines` of the log."""
    return f"tail -n {lines} {shlex.quote(log_path(folder))} 2>/dev/null"


def pulse(node: Node, folder: str, process: Daemon, since: int) -> tuple[Pulse, str]:
    """Return what the group of `process` has done so far, and the end of its log beyond the first `since` bytes."""
    ran = node.run(pulse_command(folder, process, since), check=False)
    head, _, text = ran.stdout.partition("====\n")
    state_now, ticks, size, *lines = head.splitlines() or ["gone", "100", "0"]
    done = {name: sum(int(n) for line in lines for n in line.split()[1:] if line.startswith(name)) for name in _DONE}
    waited_s = done["waited"] / 1e9
    return Pulse(state_now == "alive", done["cpu"] / int(ticks), waited_s, done["disk"], int(size)), text


def pulse_command(folder: str, process: Daemon, since: int) -> str:
    """Return the command that prints what a process has done so far, and its log beyond `since` bytes."""
    log = shlex.quote(log_path(folder))
    return rf"""{PROCESSES}
probe {_identity(process)}; getconf CLK_TCK; stat -c %s {log} 2>/dev/null || echo 0
for pid in $(members {process.pid}); do
  {{ read -r line <"/proc/$pid/stat"; }} 2>/dev/null || continue
  set -- ${{line##*) }}; echo "cpu ${{12}} ${{13}} ${{14}} ${{15}}"  # its own time, and that of children it waited for
  sed -n 's/^\(read\|write\)_bytes: /disk /p' "/proc/$pid/io" 2>/dev/null
  cat /proc/$pid/task/*/schedstat 2>/dev/null | sed 's/^[0-9]* \([0-9]*\) .*/waited \1/'
done
echo ====; tail -c +{since + 1} {log} 2>/dev/null | tail -c {LOG_CAP_BYTES}"""


def _identity(process: Daemon) -> str:
    return shlex.join([str(process.pid), str(process.start_ticks), process.boot_id, process.executable])


def start_script(folder: str, launch: Launch, parts: Mapping[str, str], told: str) -> str:
    """Return the command that starts `launch`, notes its identity and prints `pid start_ticks boot_id`.

    `told` is shell text that exports its environment.

    All three streams are redirected (else the SSH channel hangs until the process ends), and the wait for `exec`
    makes sure that the command line is EXO's and no longer the shell's when the identity is read back. The note is
    written by the same script: no crash of ours can leave a process that nobody remembers.
    """
    log, note = shlex.quote(log_path(folder)), shlex.quote(note_path(folder))
    named = {"executable": launch.argv[0], "command": shlex.join(launch.argv), "parts": parts}
    tail = shlex.quote(msgspec.json.encode(named).decode()[1:-1])
    return f"""mkdir -p {shlex.quote(folder)} && cd {shlex.quote(folder)} || exit 1
[ -f {log} ] && mv -f {log} {log}.previous
{WITHOUT_PROXIES}
{told}setsid nohup {shlex.join(launch.argv)} >{log} 2>&1 </dev/null &
pid=$!
for i in $(seq 100); do
  exe=$(readlink "/proc/$pid/exe") || break
  case "${{exe##*/}}" in bash|setsid|nohup|env|coreutils|busybox) sleep 0.02;; *) break;; esac
done
line=$(cat "/proc/$pid/stat" 2>/dev/null); set -- ${{line##*) }}
[ "${{1:-Z}}" != Z ] || {{ tail -n 5 {log} >&2; exit 1; }}
boot=$(cat /proc/sys/kernel/random/boot_id)
printf '{{"pid": %s, "start_ticks": %s, "boot_id": "%s", %s}}\\n' "$pid" "${{20}}" "$boot" {tail} >{note}
echo "$pid ${{20}} $boot\""""
