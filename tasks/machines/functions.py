"""Functions of bash that commands of ours begin with; where people read, their names stand for them."""

from __future__ import annotations

import re

NOW = "now() { read -r now _ </proc/uptime; now=$((10#${now/./})); }"
"""Puts hundredths of a second into `now`. Not SECONDS, not date(1): those go by the wall clock, which may be set while
we wait."""
PROCESSES = r"""
threads() {  # whether PID $1, a zombie, has other threads that still live, and hold its sockets
  set -- /proc/$1/task/*; [ $# -gt 1 ]
}
probe() {
  [ "$3" = "$(cat /proc/sys/kernel/random/boot_id)" ] || { echo gone; return; }
  line=$(cat "/proc/$1/stat" 2>/dev/null) || { echo gone; return; }
  rest=${line##*) }; set -- "$1" "$2" "$3" "$4" $rest
  [ "${24}" = "$2" ] || { echo foreign; return; }
  [ "$5" = Z ] && { threads "$1" && echo alive || echo zombie; return; }
  tr '\0' ' ' < "/proc/$1/cmdline" | grep -qF -- "$4" && echo alive || echo foreign
}
members() {  # live PIDs of the group or session that PID $1 leads
  for s in /proc/[0-9]*/stat; do
    { read -r line <"$s"; } 2>/dev/null || continue  # no fork: there may be hundreds
    pid=${line%% *}; rest=${line##*) }; set -- "$1" $rest
    [ "$4" = "$1" ] || [ "$5" = "$1" ] || continue
    [ "$2" = Z ] && ! threads "$pid" && continue
    echo "$pid"
  done
}
marked() {  # live PIDs that carry the mark of folder $1
  grep -lzxF -- "EXO_PHASE1_RUN=$1" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3
}
orphans() {  # live PIDs of the group that PID $1 led and that run from the folder $2
  for pid in $(members "$1"); do
    tr '\0' ' ' < "/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$2/" && echo "$pid"
  done
}
"""
"""`probe PID TICKS BOOT EXECUTABLE` prints "alive" where the process that a note names still runs as noted, "zombie"
where it has ended unreaped, "foreign" where the PID is somebody else's by now, "gone" otherwise."""


def folded(command: str) -> str:
    """Return a command with one line for each of these: a campaign asks five hundred times, and each has 2 kB."""
    for functions in (NOW, PROCESSES):
        names = ", ".join(re.findall(r"^(\w+)\(\) \{", functions, re.MULTILINE))
        command = command.replace(functions, f"# {names}: tasks/machines/functions.py")
    return command
