"""The one line for a node's own firewall that lets only the cluster reach EXO's ports: EXO asks for no password.

Needs nothing that is not there: nft gets a table of its own, which one command takes away again; ufw has the rules put
before its others, of which one may let everybody in.
"""

from __future__ import annotations

from collections.abc import Sequence

QUESTION = "PATH=$PATH:/usr/sbin:/sbin; grep -s ^ENABLED=yes /etc/ufw/ufw.conf; command -v nft"
"""An ufw that is not enabled heeds no rule. Debian has sbin on root's PATH alone."""


def line(said: str, ports: Sequence[int], cluster: Sequence[str]) -> str:
    """Return what to type, by what a node said to `QUESTION`: the same on every node of `cluster`, IP addresses all."""
    wanted = ",".join(map(str, ports))
    if "ENABLED=yes" in said:
        rules = [f"deny proto tcp to any port {wanted}"]
        rules += [f"allow proto tcp from {address} to any port {wanted}" for address in cluster]
        return " && ".join(f"sudo ufw prepend {rule}" for rule in rules)
    if "/nft" in said:
        families = {"ip": [a for a in cluster if ":" not in a], "ip6": [a for a in cluster if ":" in a]}
        let_in = "".join(f"{name} saddr {{ {', '.join(of)} }} accept; " for name, of in families.items() if of)
        return (
            "sudo nft 'table inet exo_phase1 { chain input { type filter hook input priority -1;"
            f" iif lo accept; {let_in}tcp dport {{ {wanted} }} drop; }}; }}'"
            " (taken away again by: sudo nft delete table inet exo_phase1)"
        )
    return f"in Tailscale's policy, let only {', '.join(cluster)} reach tcp:{wanted} of one another"
