"""Which processes of a node are ours, whether or not a note of them is left, and their end; nobody else is touched.

Ours is a process of this user that bears our mark in its environment (children inherit it), whose executable lies in
our folder, or which is an interpreter or a builder at work on something there; and who is in the group of one of them
that leads its group. A PID alone says nothing: every signal goes to a PID that still has the start time that was seen.
"""

from __future__ import annotations

import re

import msgspec

from records.facts import Ended
from tasks.errors import StepError
from tasks.machines.daemon import MARK, TERM_GRACE_S
from tasks.machines.functions import NOW
from tasks.machines.node import Node
from tasks.machines.paths import ROOT
from tasks.machines.ports import LISTENING, listening, table_and_more

KILL_GRACE_S = 5
_AT_WORK = re.compile(r"(python|pypy)[0-9.]*|uv|uvx|pip[0-9.]*|git|cargo|rustc|npm|node|env|setsid|nohup")
"""Programs that run or build what an argument names."""

# Two forks, however many processes there are; records end in NUL, because a command line may hold anything else.
_SCAN = """
cd /proc && root="$HOME/@ROOT@"; printf '%s\\0' "$root"
find [0-9]* -maxdepth 1 -name exe -user "$(id -u)" -printf '%h exe %l\\0' 2>/dev/null
grep -azHs '' [0-9]*/stat [0-9]*/cmdline
grep -azls "^@MARK@=$(sed 's/[][\\.*^$]/\\\\&/g' <<<"$root")/" [0-9]*/environ | tr '\\n' '\\0'
echo "@END@"
"""
_END_OF_SCAN = "looked at all"
_END = r"""
alive() {
  { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
  set -- "$2" ${line##*) }; [ "${21}" = "$1" ] && [ "$2" != Z ]
}
left() { for one in "$@"; do alive "${one%:*}" "${one#*:}" && printf '%s ' "${one%:*}"; done; }
for signal in TERM KILL; do
  for pid in $(left "$@"); do kill -$signal "$pid" 2>/dev/null; done
  now; end=$((now + @TERM@ * 100)); [ $signal = KILL ] && end=$((now + @KILL@ * 100))
  while [ -n "$(left "$@")" ] && now && [ $now -lt $end ]; do sleep 0.1; done
done
left "$@"
"""


class Process(msgspec.Struct, frozen=True):
    """One process as it was seen."""

    pid: int
    start_ticks: int
    group: int
    argv: list[str]

    @property
    def words(self) -> str:
        """Return its command line, cut."""
        text = " ".join(self.argv)
        return text if len(text) <= 200 else text[:197] + "..."


def survey(node: Node) -> list[Process]:
    """Return every process of ours that runs on the node.

    The scan prints the command lines of everybody's, which may hold secrets: the journal does not keep them. Raises
    StepError where it did not come to its end: nobody may be told that nothing of ours runs by half a list.
    """
    ran = node.run(scan_command(), check=False, private=True)
    if not ran.stdout.rstrip().endswith(_END_OF_SCAN):
        raise StepError(
            f"the list of its processes ended early, with exit code {ran.exit_code}: {ran.stderr.strip()[-200:]}",
            "a look at every process",
            f"ls /proc on {node.spec.host}; then type it again",
            who=node.key,
        )
    return read_scan(ran.stdout)


def scan_command() -> str:
    """Return the command that prints what `read_scan` finds ours in."""
    return _SCAN.replace("@ROOT@", ROOT).replace("@MARK@", MARK).replace("@END@", _END_OF_SCAN)


def read_scan(text: str) -> list[Process]:
    """Find ours in what the scan printed."""
    root, _, rest = text.partition("\0")
    executables: dict[int, str] = {}
    stats: dict[int, list[str]] = {}
    argv: dict[int, list[str]] = {}
    marked: set[int] = set()
    for record in rest.split("\0"):
        if found := re.fullmatch(r"(?s)(\d+) exe (.*)", record):
            executables[int(found[1])] = found[2]
        elif found := re.fullmatch(r"(?s)(\d+)/stat:\d+ \(.*\) (\S.*?)\s*", record):
            stats[int(found[1])] = found[2].split()
        elif found := re.fullmatch(r"(?s)(\d+)/cmdline:(.*)", record):
            argv.setdefault(int(found[1]), []).append(found[2])
        elif found := re.fullmatch(r"(\d+)/environ", record):
            marked.add(int(found[1]))
    own = executables.keys() & {pid for pid, fields in stats.items() if fields[0] != "Z"}
    ours = {pid for pid in own if pid in marked or _in_our_folder(root, executables[pid], argv.get(pid, []))}
    leaders = {pid for pid in ours if stats[pid][2] == str(pid)}
    ours |= {pid for pid in own if int(stats[pid][2]) in leaders}
    return [Process(pid, int(stats[pid][19]), int(stats[pid][2]), argv.get(pid, [])) for pid in sorted(ours)]


def _in_our_folder(root: str, executable: str, argv: list[str]) -> bool:
    inside = f"{root}/"
    if executable.startswith(inside) or (argv and argv[0].startswith(inside)):
        return True
    program = argv[0].rpartition("/")[2] if argv else ""
    return _AT_WORK.fullmatch(program) is not None and any(inside in argument for argument in argv[1:])


def end(node: Node, processes: list[Process]) -> list[Ended]:
    """End `processes`: TERM, wait, KILL. Raises StepError where one survives that."""
    if not processes:
        return []
    named = " ".join(f"{process.pid}:{process.start_ticks}" for process in processes)
    budget_s = TERM_GRACE_S + KILL_GRACE_S + 20
    left = node.run(end_command(named), check=False, timeout_s=budget_s).stdout.split()
    if left:
        raise StepError(
            f"processes {', '.join(left)} of ours survive SIGKILL",
            "a node without our processes",
            f"look at them on {node.spec.host}: ps -fp {','.join(left)}; one that waits for a disk or a driver ends"
            " only with that, or with a reboot",
            who=node.key,
        )
    return [Ended(process.pid, process.words) for process in processes]


def end_command(named: str) -> str:
    """Return the command that ends the processes named as `PID:START ...` and prints which survive."""
    script = _END.replace("@TERM@", str(TERM_GRACE_S)).replace("@KILL@", str(KILL_GRACE_S))
    return f"set -- {named}\n{NOW}\n{script}"


def listening_ports(node: Node, processes: list[Process]) -> set[int]:
    """Return the TCP ports on which `processes` listen."""
    if not processes:
        return set()
    pids = " ".join(str(process.pid) for process in processes)
    links = f"for p in {pids}; do readlink /proc/$p/fd/* 2>/dev/null; done"
    table, files = table_and_more(node, f"{LISTENING}; echo ====; {links}")
    ours = set(re.findall(r"socket:\[(\d+)\]", files))
    return {listener.port for listener in listening(table) if listener.inode in ours}
