"""The papers say what the code is: pictures, files, names, links, targets, and recipes that are really followed."""

from __future__ import annotations

import ast
import builtins
import copy
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from invoke.parser import Parser

import fabfile
import records
from scripts.draw_architecture import PICTURES, pictures
from tests import PROJECT
from tests.support.fab import fab as typed

PAPERS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/architecture.md", "docs/methodology.md"]
PAPERS += ["docs/operating.md"]
PAPERS += sorted(path.relative_to(PROJECT).as_posix() for path in (PROJECT / "docs/decisions").glob("*.md"))
FILE = re.compile(r"`((?:[\w.*-]+/)+[\w.*-]*|[\w-]+\.(?:py|md|toml|yaml))`")
"""A path in backticks: with a slash, or a name that ends as files do."""
NAME = re.compile(r"`([A-Za-z_]\w*)`")
PLACES_ELSEWHERE = ("logs/", "docs/exo-phase1-results", ".exo-phase1", ".rehearsal", ".venv", "archive/", "~")
"""Beginnings of paths that a run makes, on this machine or on a node."""


def text_of(paper: str) -> str:
    """Return a paper of the project."""
    return (PROJECT / paper).read_text(encoding="utf-8")


def defined_in(path: Path) -> set[str]:
    """Return what a module defines: functions, classes, constants, and the fields and methods of its classes."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def section(paper: str, title: str) -> str:
    """Return what stands under a heading, up to the next one."""
    found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)", text_of(paper), re.MULTILINE | re.DOTALL)
    assert found, f"{paper} has no section '{title}'"
    return found[1]


def recipe(title: str) -> tuple[str, str]:
    """Return the code of a recipe in CONTRIBUTING.md: the file that its first line names, and its text."""
    found = re.search(r"```python\n# (\S+)\n(.*?)```", section("CONTRIBUTING.md", title), re.DOTALL)
    assert found, f"the recipe '{title}' has no code with a file's name on its first line"
    return found[1], found[2]


def insert(path: Path, after: str, line: str) -> None:
    """Put a line after the one line of a file that begins with `after`."""
    lines = path.read_text(encoding="utf-8").split("\n")
    places = [number for number, text in enumerate(lines) if text.startswith(after)]
    assert len(places) == 1, f"{path.name} has {len(places)} lines that begin with '{after}'"
    lines.insert(places[0] + 1, line)
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a copy of the program's tree that a recipe may change."""
    for folder in ("records", "tasks", "reports", "scripts", "rehearsal", "templates", "tests/support"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "tests/__init__.py", tmp_path / "tests")
    return tmp_path


def run(tree: Path, code: str) -> str:
    """Run Python code in a tree and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


CAMPAIGN = (
    "from pathlib import Path\nfrom tests.support.full_campaign import write_campaign\nwrite_campaign(Path('logs/p'))\n"
)


def test_the_pictures_are_drawn_from_the_imports_of_today() -> None:
    """docs/architecture/ holds what the script draws now; `make architecture` renews it."""
    drawn, on_disk = pictures(), {path.name: path.read_text(encoding="utf-8") for path in PICTURES.iterdir()}
    assert sorted(name for name in drawn | on_disk if drawn.get(name) != on_disk.get(name)) == []


@pytest.mark.parametrize("paper", PAPERS)
def test_every_file_that_a_paper_names_is_there(paper: str) -> None:
    """A path in backticks exists in the project or beside the paper, and so does the target of every link."""
    text, here = text_of(paper), (PROJECT / paper).parent
    named = {name for name in FILE.findall(text) if not name.startswith(PLACES_ELSEWHERE)}
    linked = {target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target}
    gone = [name for name in named if not list(PROJECT.glob(name.rstrip("/"))) and not (here / name).exists()]
    assert sorted(gone) + sorted(target for target in linked if target and not (here / target).exists()) == []


def test_every_name_on_the_way_of_the_number_is_in_its_file() -> None:
    """Each row of the walk in docs/architecture.md names functions, types and fields that its file defines."""
    rows = re.findall(
        r"^\| \d+ \| `(\S+)` (.*)$", section("docs/architecture.md", "The way of one number"), re.MULTILINE
    )
    assert len(rows) >= 10
    for file, words in rows:
        known = defined_in(PROJECT / file) | set(dir(builtins))
        assert [name for name in NAME.findall(words) if name not in known] == [], file


def test_the_number_really_goes_that_way(tmp_path: Path) -> None:
    """One request's rate is in each type of the walk in turn, and one slower request changes the box at its end."""
    from records.campaign import load_campaign
    from reports.pages.results import box
    from reports.stats.arms import arm_estimates
    from reports.stats.runs import run_values
    from reports.text.format import ratio
    from reports.verdict.decision import decide
    from tests.support.full_campaign import write_campaign

    def shown(slower: bool) -> str:
        samples = [
            msgspec.structs.replace(sample, total_s=1.2 * (sample.total_s or 0))
            if slower and (sample.arm, sample.run, sample.request) == ("exo", 1, 1)
            else sample
            for sample in campaign.samples[12]
        ]
        value = run_values(sample for sample in samples if (sample.arm, sample.run) == ("exo", 1))[0]
        exo, *_ = arm_estimates(samples)
        decision = decide(msgspec.structs.replace(campaign, samples={12: samples}))
        words = dict(box(decision, "").lines)
        assert value in exo.runs
        for comparison in decision.comparisons:
            assert words[f"Speed-up over Ollama {comparison.baseline}"].startswith(ratio(comparison.ratio))
        return f"{value.rate_tokens_per_s:.3f} {words}"

    write_campaign(tmp_path)
    campaign = load_campaign(tmp_path)
    assert shown(slower=False) != shown(slower=True)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_name_that_a_paper_places_in_a_file_is_there(paper: str) -> None:
    """Where a paper says "`name` in `file.py`", the file defines the name."""
    placed = re.findall(r"`([A-Za-z_]\w*)` (?:in|from) `([\w/-]+\.py)`", text_of(paper))
    assert [f"{name} in {file}" for name, file in placed if name not in defined_in(PROJECT / file)] == []


def test_the_recipes_have_five_lines_that_name_what_they_mean() -> None:
    """Each recipe of CONTRIBUTING.md is five lines, and names at least two things in their files or folders."""
    for title in ("A validity check", "A chart", "A trap", "A generation of EXO"):
        lines = re.findall(r"^\d\. (.*)$", section("CONTRIBUTING.md", title), re.MULTILINE)
        assert len(lines) == 5, title
        assert len(FILE.findall("\n".join(lines))) >= 2, title


def test_a_check_added_by_its_recipe_stands_in_the_report(tree: Path) -> None:
    """The recipe's code, registered as its third line says, is a row of a rendered report."""
    file, code = recipe("A validity check")
    (tree / file).write_text(code, encoding="utf-8")
    module, function = Path(file).stem, re.findall(r"^def (\w+)", code, re.MULTILINE)[-1]
    catalogue = tree / "reports/checks/catalogue.py"
    insert(catalogue, "from reports.checks.check ", f"from reports.checks.{module} import {function}")
    insert(catalogue, "CHECKS:", f"    {function},")
    name = re.findall(r'Check\(\s*"([^"]+)"', code)[0]
    page = run(
        tree,
        f"{CAMPAIGN}from reports.render import render_markdown\nfrom tests.support.rendered import view_of\n"
        "print(render_markdown(view_of(Path('logs/p')), []))",
    )
    assert re.search(rf"^\| {re.escape(name)} \| pass \| \d+ requests", page, re.MULTILINE)


def test_a_chart_added_by_its_recipe_stands_in_the_report(tree: Path) -> None:
    """The recipe's code, put into the catalogue and the template, is an image of a rendered report, words included."""
    file, code = recipe("A chart")
    (tree / file).write_text(code, encoding="utf-8")
    chart, name = re.findall(r"^class (\w+)", code, re.MULTILINE)[0], re.findall(r'name: .* = "(.*)"', code)[0]
    catalogue = tree / "reports/charts/catalogue.py"
    insert(catalogue, "from reports.charts.latency ", f"from reports.charts.{Path(file).stem} import {chart}")
    insert(catalogue, "    charts: ", f"        {chart}.of(samples),")
    text = catalogue.read_text(encoding="utf-8")
    catalogue.write_text(re.sub(r"(?m)^CHARTS: .* = \(", rf"\g<0>{chart}, ", text), encoding="utf-8")
    embedding = f'{{% with name = "{name}" %}}{{% include "_chart.md.j2" %}}{{% endwith %}}'
    insert(tree / "templates/exo-phase1-results.md.j2", '{% with name = "speedup" %}', embedding)
    written = "from reports.render import write_report\nwrite_report(Path('logs'), Path('docs'), profile='p')"
    run(tree, CAMPAIGN + written)
    page = (tree / "docs/exo-phase1-results.md").read_text(encoding="utf-8")
    assert f"charts/{name}.svg" in page
    assert re.search(r"\d+ answers of \d+ to \d+ tokens", page)
    assert (tree / f"docs/charts/{name}.png").stat().st_size > 0


def test_a_trap_added_by_its_recipe_is_laid_and_in_the_gallery(tree: Path) -> None:
    """The recipe's entry makes a rehearsal's hosts file that has it, and a row of docs/traps.md."""
    file, code = recipe("A trap")
    insert(tree / file, "TRAPS:", code.rstrip("\n"))
    name = re.findall(r'"([\w-]+)": Trap\(', code)[0]
    assert f"| `{name}` | three processes run" in run(tree, "from rehearsal.traps import page\nprint(page())")
    run(tree, f"from pathlib import Path\nfrom rehearsal.cluster import lay_out\nlay_out(Path('r'), trap='{name}')")
    hosts = (tree / "r/hosts.yaml").read_text(encoding="utf-8")
    assert f'"{name}"' in hosts
    assert re.search(r'"flags": \[\s*"--chatgpt-api-port"', hosts)


def test_every_check_has_a_row_in_the_methodology() -> None:
    """docs/methodology.md names every check of the catalogue, so that a report's reader can look it up."""
    from reports.checks.catalogue import check_all
    from tests.support.campaigns import make_campaign

    rows = re.findall(r"^\| ([^|]+?) (?:° )?\|", section("docs/methodology.md", "Validity checks"), re.MULTILINE)
    assert [check.name for check in check_all(make_campaign()) if check.name not in rows] == []


def test_a_generation_added_by_its_recipe_drives_its_release(tree: Path) -> None:
    """A module with the names of the protocol and one line in the catalogue: its release is driven by it."""
    shutil.copy(tree / "tasks/exo/gen1.py", tree / "tasks/exo/gen2.py")
    catalogue = tree / "tasks/exo/catalogue.py"
    insert(catalogue, "from tasks.exo import ", "from tasks.exo import gen2")
    insert(catalogue, "ALL:", '    r"2\\..*": gen2,')
    code = "from tasks.exo.catalogue import generation_of\nprint(generation_of('2.0.1').__name__)"
    assert run(tree, code) == "tasks.exo.gen2\n"


def test_the_changelog_has_the_version_and_what_comes_next() -> None:
    """The newest release in CHANGELOG.md is records.VERSION, with a date, under an [Unreleased] section."""
    headings = re.findall(r"^## (.*)$", text_of("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(records.VERSION)}\] - \d{{4}}-\d\d-\d\d", headings[1])


@pytest.mark.parametrize("paper", ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/methodology.md"])
def test_every_make_target_that_a_paper_names_is_there(paper: str) -> None:
    """`make WORD` in backticks or as a command is a target of the Makefile."""
    targets = set(" ".join(re.findall(r"^([a-z -]+):", text_of("Makefile"), re.MULTILINE)).split())
    told = re.findall(r"(?:`|^    )make ([a-z]+)", text_of(paper), re.MULTILINE)
    assert [target for target in told if target not in targets] == []


def fab_commands(paper: str) -> list[list[str]]:
    """Return every `fab` call that a paper shows, as words: indented lines and code in backticks."""
    text = re.sub(r"```.*?```", "", text_of(paper), flags=re.DOTALL)
    lines = re.findall(r"^    (?:\S+=\S+ )*(?:\.venv/bin/)?(fab .*)", text, re.MULTILINE)
    lines += re.findall(r"`(?:\S+=\S+ )*(?:\.venv/bin/)?(fab [^`]*)`", text)
    plain = [re.sub(r"[\[\]]", "", line) for line in lines]
    return [shlex.split(line, comments=True)[1:] for line in plain]


@pytest.mark.parametrize("paper", ["README.md", "CONTRIBUTING.md", *sorted(p for p in PAPERS if p.startswith("docs/"))])
def test_every_fab_call_in_a_paper_is_one(paper: str) -> None:
    """Each call that a paper shows is parsed by the very parser of `fab`: its tasks and options are there."""
    if paper.startswith("docs/decisions/"):
        pytest.skip("a decision may name what it did away with")
    for words in fab_commands(paper):
        if not words or words[0].startswith("-") or words == ["compare"] or "..." in words:
            continue  # options of Fabric itself, a task that is only named, and a sketch
        Parser(contexts=copy.deepcopy(fabfile.ns).to_contexts()).parse_argv(words)  # it uses up each task's help


def test_what_the_papers_call_harmless_runs_on_any_machine(tmp_path: Path) -> None:
    """The calls of docs/operating.md that ask no node end well beside the shipped hosts file."""
    hosts = tmp_path / "hosts.yaml"
    shutil.copy(PROJECT / "hosts.yaml", hosts)
    shown = [" ".join(words) for words in fab_commands("docs/operating.md")]
    for words, said in (
        (["plan"], "15  stop-cluster"),
        (["history"], "nothing has been measured yet"),
        (["--print-completion-script", "bash"], "complete"),
    ):
        assert any(line.startswith(" ".join(words)) for line in shown)
        done = typed(*words, hosts=hosts)
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout
