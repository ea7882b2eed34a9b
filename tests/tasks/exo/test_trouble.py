"""What a log or a reply says against the pair that was asked for; what it says of other models blocks nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.record import Problem
from tasks.exo import gen0, gen1, trouble
from tasks.machines.wire import Reply
from tests.support.recorded import recorded

MODEL = "llama-3.2-3b"
OTHERS = recorded("exo-0.0.x", "log_other_model_401.txt")
READ_ONLY = (
    "Error processing tensor for shard Shard(model_id='llama-3.2-3b', start_layer=9, end_layer=17, n_layers=28):"
    " underlying buffer is not writable\n"
    "Traceback (most recent call last):\nTypeError: underlying buffer is not writable\n"
)
EMPTY = """Task exception was never retrieved
future: <Task finished name='Task-2' coro=<Node.forward_tensor() done> exception=IndexError('list index out of range')>
Traceback (most recent call last):
  File "exo/orchestration/node.py", line 468, in get_current_shard
    return shards[index]
           ~~~~~~^^^^^^^
IndexError: list index out of range
"""


def said(log: str, model: str = MODEL) -> Problem | None:
    """Return what srv2's log says against `model`."""
    error = trouble.in_logs({"srv2": log}, gen0, model)
    return error.problem if error else None


def test_a_line_about_another_models_repository_blocks_nothing() -> None:
    """A dashboard tab has EXO ask for every model: 21 refusals of a foreign repository say nothing of this pair."""
    assert said(OTHERS) is None
    assert said(f"{OTHERS}loaded weights in 4596.39 ms, 0.04 GB loaded at 0.01 GB/s\n") is None


def test_a_line_about_this_pairs_repository_ends_the_wait() -> None:
    """The very same lines about the pair's repository are told at once, among those of others."""
    ours = OTHERS.replace("someone/other-70b", "unsloth/Llama-3.2-3B-Instruct")
    problem = said(OTHERS + ours + OTHERS)
    assert problem is not None
    assert problem.what == "srv2"
    assert "unsloth/Llama-3.2-3B-Instruct" in problem.found
    assert "401" in problem.found
    assert "HF_ENDPOINT" in problem.do


@pytest.mark.parametrize(
    ("cause", "needed", "do"),
    [
        ("OSError: [Errno 28] No space left on device", "room on the disk", "EXO_HOME in exo.nodes.srv2"),
        ("PermissionError: [Errno 13] Permission denied: '/home/exo/.cache/exo'", "may write to", "EXO_HOME"),
        (
            "AssertionError: Failed to download config.json from http://hub/x: 403",
            "wants a token",
            "token on every node",
        ),
        (
            "aiohttp.client_exceptions.ClientConnectorCertificateError: Cannot connect to host hub.example:443 ssl:True"
            " [SSLCertVerificationError: (1, '[SSL: CERTIFICATE_VERIFY_FAILED]')]",
            "certificate srv2 trusts",
            "SSL_CERT_FILE",
        ),
        ("aiohttp.client_exceptions.ServerDisconnectedError: Server disconnected", "every node reaches", "HF_ENDPOINT"),
        ("asyncio.exceptions.TimeoutError", "every node reaches", "HF_ENDPOINT"),
        ("Exception: Downloaded file x has hash 1 but remote hash is 2", "every node reaches", "HF_ENDPOINT"),
    ],
)
def test_each_way_in_which_a_download_fails_has_its_remedy(cause: str, needed: str, do: str) -> None:
    """A full disk and a folder of somebody else's are no fault of the hub; a token and a certificate are told too."""
    head = OTHERS.replace("someone/other-70b", "unsloth/Llama-3.2-3B-Instruct").rpartition("AssertionError")[0]
    problem = said(f"{head}{cause}\n")
    assert problem is not None
    assert (cause.partition(": ")[2] or "TimeoutError") in problem.found
    assert needed in problem.needed
    assert do in problem.do


@pytest.mark.parametrize(("log", "line"), [(READ_ONLY, "start_layer=9, end_layer=17"), (EMPTY, "IndexError: list")])
def test_a_ring_that_stands_still_has_one_line_in_one_log(log: str, line: str) -> None:
    """Both silent ends of a ring are quoted with the node whose log has them, between progress bars and colours."""
    problem = said(f"\x1b[93mram used: 0.05 GB, layers.8: 29%|\r  100%|\n{OTHERS}{log}")
    assert problem is not None
    assert line in problem.found


def test_a_failure_of_another_models_shard_is_left_out() -> None:
    """Somebody else's chat with another model may fail as it likes."""
    assert said(READ_ONLY, "llama-3.1-8b") is None


def test_an_unknown_failure_of_this_pair_is_quoted() -> None:
    """What no table knows still ends the wait, in its own words."""
    problem = said(READ_ONLY.replace("underlying buffer is not writable", "the moon is full"))
    assert problem is not None
    assert "the moon is full" in problem.found


def test_a_failure_of_mlx_is_known_too() -> None:
    """EXO 1.x's logs are read with the table of its own engine."""
    error = trouble.in_logs({"rog": "OSError: libcublasLt.so.13: cannot open shared object file"}, gen1, "any")
    assert error is not None
    assert "[cpu]" in error.problem.do


# The replies of EXO 0.0.15 at the first prompt, word for word (emulated AMD GPU, DEBUG=0): no log has these lines.
PREFIX = "Error processing prompt (see logs with DEBUG>=2): "
REPLIES = {
    "src:13:30: error: expected value token\n  %v10 = select i1 %v9, half -inf, half 0.0": "half-precision mask",
    '<AioRpcError of RPC that terminated with:\n\tstatus = StatusCode.UNKNOWN\n\tdetails = "Unexpected <class'
    " 'tinygrad.device.CompileError'>: src:13:30: error: expected value token": "half-precision mask",
    "No module named 'tinygrad.runtime.autogen.am'": "lacks its AMD part",
    "Cannot find a usable interface for AMD:0:\n\nKFDIface: Traceback (most recent call last):\nIndexError: list index"
    " out of range": "no AMD GPU that it can open",
    "module 'tinygrad.runtime.autogen.comgr' has no attribute 'amd_comgr_create_action_info'": "libamd_comgr",
    "CompileError: AMD with LLVM backend requires LLVM >= 18": "LLVM 18",
    "<urlopen error [Errno -2] Name or service not known>": "download Linux headers",
    "AMD=1 is deprecated, use DEV=AMD instead": "DEV=",
    "/opt/nowhere/lib/libhsa-runtime64.so: cannot open shared object file": "ROCM_PATH is set",
    "list index out of range": "layers by memory",
}


@pytest.mark.parametrize("words", REPLIES)
def test_the_cause_of_a_500_is_quoted_from_the_reply(words: str) -> None:
    """Each answer that EXO gave on an AMD GPU has its own cause and remedy, and is quoted."""
    reply = Reply(500, json.dumps({"detail": PREFIX + words}))
    error = trouble.in_reply(reply, "rog")
    assert error is not None
    assert words.split()[0] in error.problem.found
    assert REPLIES[words] in error.problem.needed
    assert error.problem.do


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        ("Failed to fetch file list: 401", "wants a token"),
        ("Cannot connect to host hub.example:443 ssl:default [Name or service not known]", "every node reaches"),
        ("401 Client Error. (Request ID: 1)\n\nCannot access gated repo for url http://hub/x", "wants a token"),
        ("[Errno 28] No space left on device", "room on the disk"),
        ("[Errno 13] Permission denied: '/home/a/.cache/exo/downloads'", "may write to"),
    ],
)
def test_a_reply_about_the_hub_has_the_hubs_remedies(words: str, needed: str) -> None:
    """EXO asks for its list of files 30 times without a word in a log; the reply alone tells what came of it."""
    error = trouble.in_reply(Reply(500, json.dumps({"detail": PREFIX + words})), "srv2")
    assert error is not None
    assert needed in error.problem.needed


@pytest.mark.parametrize(
    "line",
    [
        "requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: http://hub/someone/other-70b/resolve/main",
        "huggingface_hub.errors.HfHubHTTPError: 404 Client Error: Not Found for url: http://hub/api/models/someone/other",
        "Error downloading shard: Failed to fetch file list: 401",
    ],
)
def test_what_other_programs_of_the_hub_say_blocks_nothing(line: str) -> None:
    """A tokenizer of another model that cannot be fetched is no download of tinygrad's."""
    assert said(f'Traceback (most recent call last):\n  File "x.py", line 1, in f\n{line}\n') is None


def test_a_failure_of_this_pair_is_known_by_its_own_line() -> None:
    """What would fit any program counts where EXO says that it concerns this pair's shard."""
    problem = said(READ_ONLY.replace("underlying buffer is not writable", "[Errno 12] Cannot allocate memory"))
    assert problem is not None
    assert "free -h" in problem.do


def test_other_replies_are_left_to_the_generation() -> None:
    """A reply without a known failure, a good one, and none at all, have nothing to add."""
    assert trouble.in_reply(Reply(500, '{"detail": "who knows"}'), "rog") is None
    assert trouble.in_reply(Reply(200, "half -inf"), "rog") is None
    assert trouble.in_reply(Reply(0, "refused"), "rog") is None


@given(st.text())
def test_no_log_breaks_the_reader(log: str) -> None:
    """Whatever a log holds, reading it raises nothing."""
    said(log)
