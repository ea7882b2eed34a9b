"""Carry one connection at a time from a node to a peer: `peer_link.py PORT HOST:PORT [URL ...]`.

EXO 1.0.71 dials every --bootstrap-peers address again every five seconds, connected or not, and each new connection
starts an election during which its API stands still. It is given this program's address instead (on the loopback) and
so gets one connection: while that lives nothing listens here, and the next dials are refused at once and start nothing.
When it has ended, another is taken, as soon as every URL (both ends' APIs) answers.

Stands alone on the standard library, because it is copied to the nodes. Prints one line a change of state.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
import urllib.request
from contextlib import suppress

DEAD_AFTER_S = 10
"""A peer that acknowledges nothing for this long is gone (TCP_USER_TIMEOUT); EXO's own pings give up after 5 s."""
POLL_S = 1.0


def main() -> None:
    """Carry connections until ended by a signal."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("port", type=int, help="where to listen, on the loopback")
    parser.add_argument("peer", help="HOST:PORT to connect to")
    parser.add_argument("urls", nargs="*", help="what must answer before anything is carried")
    parser.add_argument("--again-after", type=float, default=0.0, help="seconds to wait before another is taken")
    options = parser.parse_args()
    host, _, peer_port = options.peer.rpartition(":")
    while True:
        wait_until_all_answer(options.urls)
        carry_one(options.port, (host, int(peer_port)))
        time.sleep(options.again_after)


def wait_until_all_answer(urls: list[str]) -> None:
    """Return once every one of `urls` is answered with 200 in one round."""
    say(f"waits for {', '.join(urls) or 'nothing'}")
    while not all(answers(url) for url in urls):
        time.sleep(POLL_S)


def answers(url: str) -> bool:
    """Tell whether `url` is answered with 200, asked past every proxy."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def carry_one(port: int, peer: tuple[str, int]) -> None:
    """Take one connection on `port`, carry it to `peer` until either side ends it; nothing listens meanwhile."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        say(f"listens on {port}")
        here, _ = listener.accept()
    with here:
        try:
            there = socket.create_connection(peer, 5)
        except OSError as error:
            say(f"no connection to the peer: {error}")
            return
        with there:
            there.settimeout(None)
            for end in (here, there):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_AFTER_S * 1000)
            say("carries")
            ended: list[str] = []
            back = threading.Thread(target=pump, args=(there, here, "the peer", ended))
            back.start()
            pump(here, there, "EXO here", ended)
            back.join()
    say(f"the connection has ended: {ended[0]}")


def pump(source: socket.socket, sink: socket.socket, who: str, ended: list[str]) -> None:
    """Hand on what comes until either side ends; then end both, so that the other direction ends too.

    How it ended is added to `ended`: which side's EXO has given the other up is seen nowhere else.
    """
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        ended.append(f"{who} closed it")
    except OSError as error:
        ended.append(f"{error.strerror or error}, handing on from {who}")
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def say(text: str) -> None:
    """Print one line with the time, at once."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
    sys.exit(0)
