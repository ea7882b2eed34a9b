"""Foreign words in Markdown: whatever is said shows as text and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from reports.text.escape import block, clean, code, markdown, one_line, pieces

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = st.text(
    alphabet=st.sampled_from(list("ab1 `|*_~[]()<>!#&;:/.\\-+=${}\"'\n\t\x00\x1b\u202e\u2028")), max_size=60
)


def inline_types(text: str) -> tuple[list[str], str]:
    """Return the block tokens, and the shown text, of `text` after the word `said:`."""
    tokens = PARSER.parse(f"said: {text}")
    inline = [child for token in tokens for child in token.children or []]
    assert {child.type for child in inline} <= {"text", "code_inline", "text_special"}, text
    return [token.type for token in tokens], "".join(child.content for child in inline)


@settings(max_examples=200)
@given(HOSTILE | st.text(max_size=80))
def test_any_text_stays_text(said: str) -> None:
    """A Markdown parser sees one paragraph whose words are the cleaned text, whatever the text is."""
    types, shown = inline_types(markdown(said))
    assert types == ["paragraph_open", "inline", "paragraph_close"]
    assert shown.split() == ("said: " + "".join(part for part, _ in pieces(one_line(said)))).split()


@settings(max_examples=200)
@given(HOSTILE)
def test_any_text_stays_in_its_table_cell(said: str) -> None:
    """As text and as code, a cell holds it: the row keeps its columns, the table its rows."""
    page = f"| a | b |\n| :-- | :-- |\n| {markdown(said)} | {code(said)} |\n\nafter\n"
    types = [token.type for token in PARSER.parse(page)]
    assert types.count("td_open") == 2
    assert types.count("tr_open") == 2
    assert types.count("paragraph_open") == 1
    assert not {"html_block", "fence", "heading_open"} & set(types)


@settings(max_examples=200)
@given(st.text(alphabet=st.sampled_from(list("`~ab\n<|")), max_size=40))
def test_a_block_ends_where_we_end_it(said: str) -> None:
    """A fenced block swallows any run of backticks, and what follows is outside."""
    types = [token.type for token in PARSER.parse(f"{block(said)}\n\nafter\n")]
    assert types == ["fence", "paragraph_open", "inline", "paragraph_close"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil\x07link\x1b]8;;\x07", "link"),
        ("a\x00b\x07", "a\ufffdb\ufffd"),
        ("photo\u202egnp.exe", "photo\ufffdgnp.exe"),
        ("one\u2028two", "one\ufffdtwo"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("\u2066isolate\u2069", "\ufffdisolate\ufffd"),
    ],
)
def test_what_is_not_seen_is_taken_out(said: str, shown: str) -> None:
    """Terminal escapes vanish; control, direction and surrogate characters become a visible mark."""
    assert clean(said) == shown


def test_long_text_is_cut_and_says_so() -> None:
    """Ten thousand characters become a short line that tells how long it was."""
    line = one_line("x" * 10_000, cap=100)
    assert line == "x" * 100 + " [... cut, 10000 characters in all]"


def test_our_own_commands_stay_code() -> None:
    """A plain command in backticks is code; anything with a character that could mean more is text."""
    assert markdown("type `fab bench --runs 5` again") == "type `fab bench --runs 5` again"
    assert markdown("`<b>`") == "\\`&lt;b&gt;\\`"


def test_nothing_becomes_a_link_by_itself() -> None:
    """GitHub turns bare addresses into links; those of a foreign text stay words."""
    assert "://" not in markdown("see http://evil.example")
    assert "www." not in markdown("see www.evil.example")
