"""The script's pure functions: schedule, prompts, token accounting, stamps; and that it is one file for Python 3.9."""

from __future__ import annotations

import ast
import itertools
import socket
import sys
from pathlib import Path

import pytest

from scripts import benchmark_exo_vs_ollama as script


def test_schedule_of_two_arms_is_abba_with_a_seeded_first_arm() -> None:
    """Rounds go forward and backward in turn; over many seeds each arm begins about half of the time."""
    order = [arm for arm, _ in script.schedule(["exo", "srv1"], 4, 1)]
    first, second = order[:2]
    assert order == [first, second, second, first] * 2
    firsts = [script.schedule(["exo", "srv1"], 1, seed)[0][0] for seed in range(400)]
    assert 150 < firsts.count("exo") < 250


@pytest.mark.parametrize("arms", [1, 2, 3, 5])
@pytest.mark.parametrize("runs", [1, 2, 5])
def test_schedule_has_each_run_of_each_arm_once_in_order(arms: int, runs: int) -> None:
    """Every (arm, run) stands once, an arm's runs in ascending order, and the input's order does not matter."""
    names = [f"arm{number}" for number in range(arms)]
    order = script.schedule(names, runs, 7)
    assert sorted(order) == sorted((arm, run) for arm in names for run in range(1, runs + 1))
    assert [run for _, run in order] == sorted(run for _, run in order)
    assert order == script.schedule(names[::-1], runs, 7)


def test_linear_drift_cancels_after_an_even_number_of_rounds() -> None:
    """Each arm's mean place in the schedule is the same, so a linear drift favours nobody."""
    order = [arm for arm, _ in script.schedule(["a", "b", "c"], 6, 3)]
    assert len({sum(place for place, arm in enumerate(order) if arm == name) for name in "abc"}) == 1


def test_schedule_and_prompts_do_not_change_between_versions() -> None:
    """Both are fixed by hashes: an interrupted campaign can be resumed by another Python."""
    assert script.schedule(["exo", "rog", "srv1"], 2, 20260101) == [
        ("srv1", 1), ("exo", 1), ("rog", 1), ("rog", 2), ("exo", 2), ("srv1", 2),
    ]  # fmt: skip
    assert script.prompt(1, 1, 0).split()[:2] == ["-", "fjord"]


def test_prompts_differ_from_the_first_words_and_are_of_one_length() -> None:
    """No two prompts of a long campaign share more than a few words, none of a run even the first.

    All have the same words, each after a space: so the same number of tokens in any tokenizer that splits at spaces.
    """
    prompts = {(run, request): script.prompt(5, run, request) for run in range(1, 21) for request in range(8)}
    words = {place: text.split(" ") for place, text in prompts.items()}
    assert len({tuple(sorted(one)) for one in words.values()}) == 1
    assert all(one[0] == "-" for one in words.values())
    shared = [sum(1 for _ in itertools.takewhile(lambda both: both[0] == both[1], zip(one, two, strict=True)))
              for one, two in itertools.combinations(words.values(), 2)]  # fmt: skip
    assert max(shared) <= 6
    for run in range(1, 21):
        assert len({words[run, request][1] for request in range(8)}) == 8


def test_prompt_file_replaces_the_task_and_keeps_the_unique_opening() -> None:
    """Lines are used in turn behind the opening."""
    texts = [script.prompt(5, 1, request, ("Say one.", "Say two.")) for request in range(4)]
    assert {text.rsplit(". ", 1)[1] for text in texts} == {"Say one.", "Say two."}
    assert len({text.split()[1] for text in texts}) == 4


@pytest.mark.parametrize(
    ("tokens", "with_text", "events", "to_first", "expected"),
    [
        (10, 10, 10, 1, 1),
        (11, 10, 10, 1, 1),
        (9, 10, 10, 1, 1),
        (4, 2, 4, 3, 3),
        (128, 32, 33, 1, 4),
        (130, 33, 33, 1, 4),
        (24, 1, 1, 1, 24),
        (None, 3, 3, 1, None),
        (5, 0, 5, 0, None),
    ],
)
def test_tokens_of_the_first_frame(
    tokens: int | None, with_text: int, events: int, to_first: int, expected: int | None
) -> None:
    """1 where frames match tokens, the events so far where those match, else the rounded mean."""
    assert script._first_frame_tokens(tokens, with_text, events, to_first) == expected


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("m", "m", True),
        ("m:latest", "m", True),
        ("m", "m:latest", True),
        ("m:3b", "m", False),
        ("SMOL1:135M", "smol1:135m", True),
    ],
)
def test_model_names_are_compared_as_ollama_does(one: str, other: str, same: bool) -> None:
    """Ollama implies a tag and ignores case; nothing else is forgiven."""
    assert script.same_model(one, other) is same


def test_kernel_stamp_is_taken_only_where_it_fits() -> None:
    """It must lie between the stamp before and the call's return; else, or after a clock step, the return counts."""

    def stamped(seconds: int) -> list[tuple[int, int, bytes]]:
        return [(socket.SOL_SOCKET, script.SO_TIMESTAMPNS, script.TIMESPEC.pack(1000 + seconds, 500_000_000))]

    arrivals: list[script.Arrival] = [
        (12.0, stamped(11), b"a"),
        (13.0, stamped(13), b"later than its return"),
        (14.0, stamped(11), b"before the one before"),
        (15.0, [], b"not stamped"),
        (16.0, stamped(15), b"b"),
        (17.0, stamped(16), b""),
    ]
    assert [stamp for stamp, _ in script._settle(arrivals, 10.0, 1000.0)] == [11.5, 13.0, 14.0, 15.0, 15.5]
    assert [stamp for stamp, _ in script._settle(arrivals, 10.0, None)] == [12.0, 13.0, 14.0, 15.0, 16.0]


def test_script_is_one_file_of_python_39_with_the_standard_library_alone() -> None:
    """It parses as Python 3.9 and imports nothing that does not come with Python."""
    tree = ast.parse(Path(script.__file__).read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= set(sys.stdlib_module_names)


def test_an_informational_answer_comes_before_the_answer() -> None:
    """`100 Continue` and its like are no answers (RFC 9110, 15.2): the one after them is read, its framing too."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    reply = script.read_http([(1.0, early), (2.0, final)])
    assert (reply.status, reply.body, reply.whole, reply.headers_s) == (200, b"{}", True, 2.0)
    assert script._announced_size(early + final) == len(early + final)
    assert script._announced_size(early) is None


def test_a_compressed_answer_is_refused_by_name() -> None:
    """Frames inside a compressed stream have no times of their own: it must not pass for an empty answer."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08"
    error = script.read_answer([(1.0, raw)], 0.5)["error"]
    assert error == "the answer came compressed (Content-Encoding: gzip): its frames cannot be timed"


def test_prompts_of_another_campaign_or_try_are_others() -> None:
    """Ollama remembers every earlier prompt of a loaded model: campaign, step and try are part of each."""
    base = script.Settings(1, 3, 1, 8, 5, 9.0, "c-12", (), False)
    variants = [base, base._replace(campaign="c-11"), base._replace(attempt=2)]
    assert len({script.prompt_of(settings, 1, 0) for settings in variants}) == len(variants)
    assert len({tuple(sorted(script.prompt_of(settings, 1, 0).split())) for settings in variants}) == 1


def test_the_first_token_is_late_by_what_its_own_piece_was_held_up() -> None:
    """What held up later pieces does not count, and where the system tells nothing, nothing is claimed."""
    taken = script.Exchange("", 5.0, 0.0, [(5.1, b"head"), (5.3, b"first"), (5.4, b"last")], None, [0.0, 0.002, 0.009])
    assert script.held_up_s(taken, 0.3) == 0.002
    assert script.held_up_s(taken, None) is None
    assert script.held_up_s(taken._replace(held_up=()), 0.3) is None
