"""One command over SSH: bash, its three streams pumped by hand, its end told truly.

asyncssh's own redirection loses output that is still in flight when the process exits; these pumps do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import traceback
from typing import Any

import asyncssh

SHELL = "/bin/bash"
CHUNK = 65536
BROKEN = 255
"""Exit code of a session that could not be run, as ssh has it."""


async def serve_session(process: Any, environment: dict[str, str], home: str) -> None:
    """Run a session; what goes wrong in it is logged and ends it alone, where asyncssh would drop the whole link."""
    try:
        await run_session(process, environment, home)
    except Exception:
        traceback.print_exc()
        with contextlib.suppress(asyncssh.Error, OSError):
            process.exit(BROKEN)


async def run_session(process: Any, environment: dict[str, str], home: str) -> None:
    """Run what the client asked for and send back its output, then its exit code or signal.

    As with sshd, the session lasts until the output streams are closed by everyone who holds them, so a background
    process that was not redirected keeps it open. A client that goes away closes the streams and kills nothing.
    """
    argv = [SHELL, "-c", process.command] if process.command is not None else [SHELL, "-l"]
    child = await asyncio.create_subprocess_exec(
        *argv,
        cwd=home,
        env=environment | _asked(process.env),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    feeder = asyncio.create_task(_feed(process, child))
    await asyncio.gather(_drain(child.stdout, process.stdout), _drain(child.stderr, process.stderr))
    code = await child.wait()
    feeder.cancel()
    try:
        if code < 0:
            process.exit_with_signal(signal.Signals(-code).name[3:], False, "", "en")
        else:
            process.exit(code)
    except (asyncssh.Error, OSError):
        pass  # nobody is there any more


def _asked(wanted: Any) -> dict[str, str]:
    """Return the environment that the client sent, LANG and LC_* alone, as Debian's sshd accepts."""
    pairs = {os.fsdecode(k): os.fsdecode(v) for k, v in dict(wanted).items()}
    return {key: value for key, value in pairs.items() if key == "LANG" or key.startswith("LC_")}


async def _drain(source: Any, target: Any) -> None:
    """Pass everything on; once the client is gone, stop reading, so that the command feels a closed pipe."""
    while data := await source.read(CHUNK):
        try:
            target.write(data)
            await target.drain()
        except (asyncssh.Error, OSError):
            source._transport.close()
            return


async def _feed(process: Any, child: Any) -> None:
    """Pass on what the client types, its end of input and its signals."""
    while True:
        try:
            data = await process.stdin.read(CHUNK)
            if not data:
                break
            child.stdin.write(data)
            await child.stdin.drain()
        except asyncssh.SignalReceived as received:
            _signal_group(child.pid, str(received.signal))
        except asyncssh.BreakReceived:
            _signal_group(child.pid, "INT")
        except (asyncssh.Error, OSError):
            break
    child.stdin.close()


def _signal_group(pid: int, name: str) -> None:
    with contextlib.suppress(ProcessLookupError, AttributeError):
        os.killpg(pid, getattr(signal, f"SIG{name}"))
