"""Start as EXO 0.0.15 does, with its words on the terminal, its exit codes and its silences."""

import itertools
import os
import signal
import socket
import sys
import time
import uuid
from pathlib import Path

from .api import Api
from .cards import ENGINES
from .chat import Chat
from .device import capabilities
from .discovery import Manual, Nobody, Udp
from .download import Downloads
from .engine.ending import noted_signals, wait_for
from .engine.gpu import Gpu
from .engine.lines import serve as serve_peers
from .engine.settings import Settings
from .engine.wire import listen, serve_aside
from .flags import NOISE, parse
from .node import Node
from .stalls import words

BANNER = "\033[93m\n  _____  _____  \n / _ \\ \\/ / _ \\ \n|  __/>  < (_) |\n \\___/_/\\_\\___/ \n    \033[0m"
ADDRESS = os.environ.get("EXO_PHASE1_NODE_ADDRESS", "0.0.0.0")
"""The real one binds 0.0.0.0; three nodes on one machine each need an address of their own."""
ALREADY_BOUND = """Task exception was never retrieved
future: <Task finished name='Task-7' coro=<ChatGPTAPI.run() done, defined at exo/api/chatgpt_api.py:626> \
exception=OSError(98, "error while attempting to bind on address ('{address}', {port}): address already in use")>
Traceback (most recent call last):
  File "exo/api/chatgpt_api.py", line 630, in run
    await site.start()
OSError: [Errno 98] error while attempting to bind on address ('{address}', {port}): address already in use
"""
CANCELLED = """Cancelling 5 outstanding tasks
Traceback (most recent call last):
  File "exo/main.py", line 374, in main
    await asyncio.Event().wait()
asyncio.exceptions.CancelledError
"""


def run() -> None:
    """Be `exo`."""
    sys.stderr.write(f"{NOISE}\n{NOISE}\n")
    flags = parse(sys.argv[1:])
    engine = flags.inference_engine or "tinygrad"
    print(f"Selected inference engine: {flags.inference_engine}\n{BANNER}\nDetected system: Linux")
    print(f"Inference engine name after selection: {engine}")
    if engine == "mlx":
        raise ModuleNotFoundError("No module named 'mlx'")
    if engine not in ENGINES:
        raise ValueError(f"Unsupported inference engine: {engine}")
    downloader = "NoopShardDownloader" if engine == "dummy" else "SingletonShardDownloader"
    print(f"Using inference engine: {ENGINES[engine]} with shard downloader: {downloader}\n[]")
    flags.node_port = flags.node_port or _free_port()
    flags.node_id = flags.node_id or str(uuid.uuid4())
    _boast(flags.chatgpt_api_port)
    discovery = _discovery(flags)
    print("has_read=True, has_write=True")
    node = Node(flags.node_id, capabilities(), discovery)
    time.sleep(node.settings.number("start_s", 0.1))
    if flags.command == "run" or flags.run_model:
        _one_shot(flags.model_name or flags.run_model, engine)
    _serve(node, flags)


def _serve(node: Node, flags) -> None:
    noted = noted_signals()
    downloads = Downloads(node)
    run_number = _count_start()
    chat = Chat(node, downloads, flags, run_number)
    api = Api(node, chat, downloads, flags)
    serve_peers(_bind_peers(flags.node_port), _peer_answers(node, downloads))
    node.start()
    try:
        serve_aside(listen(ADDRESS, flags.chatgpt_api_port), api.answer, api.broken)
    except OSError:
        print(ALREADY_BOUND.format(address=ADDRESS, port=flags.chatgpt_api_port))
    wait_for(noted)
    print(f"Received exit signal SIGTERM...\nThank you for using exo.\n{BANNER}\n{CANCELLED}\033[?12l\033[?25h", end="")
    sys.stdout.flush()
    time.sleep(node.settings.number("stop_s", 0.5))
    os._exit(1)


def _peer_answers(node: Node, downloads: Downloads):
    """Return what this node answers its peers."""
    on_gpu = "Device:" not in node.capabilities["model"]
    gpu, prompts = Gpu(Settings("gpu" if on_gpu else "no gpu")), itertools.count()

    def answer(message: dict) -> dict | None:
        asked = message["ask"]
        if asked == "health":
            return {"id": node.id}
        if asked == "topology":
            return node.collect(set(message["visited"]), message["depth"]).to_json()
        if asked == "status":
            node.note_download(message["node_id"], message["progress"])
            return {}
        if asked == "prompt":
            if next(prompts) >= node.settings.number("dies_at_prompt", float("inf")):
                os.kill(os.getpid(), signal.SIGKILL)
            gpu.enter()
            downloads.ensure(message["model"], message["weights"])
            stall = node.settings.get("stall", "")
            if stall:
                print(words(stall, message["model"], message["index"], message["nodes"]), flush=True)
            return {"stalls": bool(stall)}
        if asked == "end":
            gpu.leave()
        return None  # a token passing by

    return answer


def _discovery(flags):
    if flags.discovery_module == "manual":
        return Manual(flags.discovery_config_path, flags.node_id)
    if flags.discovery_module == "udp":
        return Udp(flags.node_id, ADDRESS, flags.node_port, flags.listen_port, flags.broadcast_port)
    return Nobody()


def _boast(port: int) -> None:
    """Say that everything is up, as the real one does before anything listens."""

    def link(path: str) -> str:
        return "\n".join(
            f" - \033]8;;http://{a}:{port}{path}\033\\http://{a}:{port}{path}\033]8;;\033\\"
            for a in ("127.0.0.1", ADDRESS)
        )

    print(f"Chat interface started:\n{link('')}\nChatGPT API endpoint served at:\n{link('/v1/chat/completions')}")


def _one_shot(model: str | None, engine: str) -> None:
    """Do `exo run`: it never serves, and exits 0 whatever came of it."""
    time.sleep(1.0)
    if not model:
        print("Error: Model name is required when using 'run' command or --run-model")
    elif engine == "dummy":
        print(f"Processing prompt: dummy_tokenized_prompt\n\nGenerated response:\n{'dummy' * 10}")
    else:
        print(f"Error: Unsupported model '{model}' for inference engine {ENGINES[engine]}")
    print(
        "\033[?12l\033[?25hTask was destroyed but it is pending!\ntask: <Task pending name='Task-6'"
        " coro=<Node.periodic_topology_collection() running at exo/orchestration/node.py:530>"
        " wait_for=<Future pending cb=[Task.task_wakeup()]>>"
    )
    sys.exit(0)


def _bind_peers(port: int) -> socket.socket:
    try:
        return listen(ADDRESS, port)
    except OSError as error:
        raise RuntimeError(
            f"Failed to bind to address {ADDRESS}:{port}; set GRPC_VERBOSITY=debug environment variable to see"
            " detailed error message."
        ) from error


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((ADDRESS, 0))
        return sock.getsockname()[1]


def _count_start() -> int:
    """Return how often this node's exo was started before: each start is a run with its own noise."""
    book = Path.home() / ".rehearsal-starts"
    count = int(book.read_text()) if book.exists() else 0
    book.write_text(str(count + 1))
    return count
