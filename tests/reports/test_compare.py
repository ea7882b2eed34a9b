"""`fab compare`: two campaigns side by side, and no difference claimed that the runs do not show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from reports.compare import NoCampaignError, campaign_folder, compare_campaigns
from tests.support import campaigns
from tests.support.full_campaign import write_campaign


def rows_of(text: str) -> dict[tuple[str, str], list[str]]:
    """Return the rows of `New over old` by step and arm."""
    table = text.split("## New over old")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:3] != "|--"]
    return {(row[0], row[1]): row for row in cells if len(row) == 8 and row[0].isdigit()}


def test_a_faster_exo_is_called_faster_and_the_rest_is_not(tmp_path: Path) -> None:
    """EXO at 1.5 and then 1.7 of the same Ollama: faster by 1.13; the Ollamas show no significant difference."""
    write_campaign(tmp_path / "old", speedup=1.5)
    write_campaign(tmp_path / "new", speedup=1.7, text=lambda text: text.replace("0.11", "0.12"))
    text = compare_campaigns(tmp_path / "old", tmp_path / "new")
    rows = rows_of(text)
    assert rows["12", "EXO"][4] == "1.13×"
    assert rows["12", "EXO"][7] == "faster"
    assert rows["12", "Ollama rog"][7] == "no significant difference"
    assert re.search(r"\| Packages on rog +\| tinygrad 0.11 \| tinygrad 0.12 \|", text)
    assert rows_of(compare_campaigns(tmp_path / "new", tmp_path / "old"))["12", "EXO"][7] == "slower"


@pytest.mark.parametrize("seed", range(5))
def test_a_difference_is_claimed_only_where_the_interval_leaves_one_out(seed: int, tmp_path: Path) -> None:
    """Three runs an arm with 10 % noise and a true +3 %: what is said follows the printed interval."""
    for name, speedup in (("old", 1.50), ("new", 1.545)):
        made = campaigns.make_campaign(speedup=speedup, cv=0.1, runs=3, seed=seed + (10 if name == "new" else 0))
        campaigns.write_campaign(tmp_path / name, made)
    row = rows_of(compare_campaigns(tmp_path / "old", tmp_path / "new"))["12", "EXO"]
    lower, upper = (float(part) for part in row[5].split(" to "))
    assert (row[7] == "no significant difference") == (lower <= 1 <= upper)


def test_one_run_a_side_bounds_nothing(tmp_path: Path) -> None:
    """There is a ratio, no interval, and no claim."""
    for name, speedup in (("old", 1.0), ("new", 2.0)):
        campaigns.write_campaign(tmp_path / name, campaigns.make_campaign(speedup=speedup, runs=1))
    row = rows_of(compare_campaigns(tmp_path / "old", tmp_path / "new"))["12", "EXO"]
    assert row[5] == "without bounds, for want of rounds"
    assert row[7] == "no significant difference"


def test_unmeasured_campaigns_have_nothing_to_compare(tmp_path: Path) -> None:
    """Both verdicts are shown, and that no arm was measured in both."""
    for name in ("old", "new"):
        write_campaign(tmp_path / name, steps=range(1, 9))
    text = compare_campaigns(tmp_path / "old", tmp_path / "new")
    assert "nothing to compare" in text
    assert text.count("NOT YET") == 2


def test_a_rehearsal_is_named(tmp_path: Path) -> None:
    """If either was rehearsed, the comparison says which."""
    write_campaign(tmp_path / "old", runs=2)
    write_campaign(tmp_path / "new", runs=2, rehearsal={"speedup": 1.6})
    assert "REHEARSAL: the new one is not about your machines" in compare_campaigns(tmp_path / "old", tmp_path / "new")


def test_folders_are_found_or_explained(tmp_path: Path) -> None:
    """A folder with exactly one campaign inside will do; none, several or no folder is said, with what to give."""
    write_campaign(tmp_path / "logs/one", steps=range(1, 2))
    assert campaign_folder(tmp_path / "logs") == tmp_path / "logs/one"
    assert campaign_folder(tmp_path / "logs/one") == tmp_path / "logs/one"
    write_campaign(tmp_path / "logs/two", steps=range(1, 2))
    with pytest.raises(NoCampaignError, match=r"2 campaigns \(one, two\); give the folder of one campaign"):
        campaign_folder(tmp_path / "logs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoCampaignError, match="holds no record"):
        campaign_folder(tmp_path / "empty")
    with pytest.raises(NoCampaignError, match="no such folder"):
        campaign_folder(tmp_path / "missing")


def test_foreign_words_stay_in_their_cells(tmp_path: Path) -> None:
    """Pipes, HTML and newlines in what the nodes said leave every table with its columns."""
    write_campaign(tmp_path / "old", runs=2)
    write_campaign(tmp_path / "new", runs=2, text=lambda text: text + "|<b>\n`[x](y)")
    tokens = MarkdownIt("commonmark").enable("table").parse(compare_campaigns(tmp_path / "old", tmp_path / "new"))
    types = [token.type for token in tokens]
    assert types.count("table_open") == 3
    assert not {"html_block", "fence"} & set(types)
    assert not [c for token in tokens for c in token.children or [] if c.type in ("html_inline", "link_open")]
