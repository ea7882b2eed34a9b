"""Views -> Markdown and HTML; writes every file of the report. The only file that loads jinja2.

Both environments escape by default: Markdown through `finalize`, HTML through autoescape. A text that a server, a
node or a model said reaches a page in no other way.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from records.campaign import REPORT_STEP, Campaign, load_campaign
from records.files import write_whole
from reports.charts.catalogue import CHARTS, charts_of
from reports.charts.figure import DrawnChart, draw_charts
from reports.export import results_json, results_of
from reports.pages.profiles import other_profiles
from reports.pages.report import ReportCommands, View, build_view
from reports.plan_text import NAMES as PLAN_FILES
from reports.plan_text import plan_text
from reports.text import escape
from reports.text.table import Code
from reports.verdict.decision import Decision, decide
from reports.verdict.estimates import estimates_of

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent.parent / "templates"
MARKDOWN_NAME = "exo-phase1-results.md"
HTML_NAME = "exo-phase1-results.html"
JSON_NAME = "exo-phase1-results.json"


class Written(msgspec.Struct, frozen=True):
    """What a rendering left: names relative to the docs folder, in the order of writing, and the decision."""

    files: list[str]
    decision: Decision
    unread: list[str]
    """Every file, or line of one, that could not be read, with the reason."""


def write_report(
    logs: Path, docs: Path, *, profile: str, html: bool = False, commands: ReportCommands | None = None
) -> Written:
    """Render `logs/<profile>` into `docs`: Markdown, charts, JSON, the plan's text files and, if asked, HTML.

    Works on whatever there is, an empty folder included. The same logs give the same bytes. Raises OSError where
    `docs` cannot be written; what was written before stays whole.
    """
    others = other_profiles(logs, profile)
    with _loaded(logs / profile) as campaign:
        decision = decide(campaign, 12)
        estimates = estimates_of(campaign, decision)
        rehearsed = any(record.rehearsal is not None for record in campaign.records.values())
        charts = draw_charts(charts_of(campaign, decision, estimates), "REHEARSAL" if rehearsed else "")
        view = build_view(campaign, decision, estimates, commands or ReportCommands(), others)
        contents = {f"charts/{chart.name}.svg": chart.svg for chart in charts}
        contents |= {f"charts/{chart.name}.png": chart.png for chart in charts}
        contents[JSON_NAME] = results_json(results_of(campaign, decision, estimates))
        verdicts = {12: decision.headline, 13: estimates.large.headline if estimates.large else "none was made"}
        for step, name in PLAN_FILES.items():
            text = plan_text(campaign, step, view.banner, verdicts[step])
            contents[name] = text.encode()
        contents[MARKDOWN_NAME] = render_markdown(view, charts).encode()
        if html:
            contents[HTML_NAME] = render_html(view, charts).encode()
        for name, data in contents.items():
            write_whole(docs / name, data)
        _drop_stale_charts(docs / "charts", {Path(name).name for name in contents if name.startswith("charts/")})
        return Written(list(contents), decision, campaign.unread)


def render_markdown(view: View, charts: list[DrawnChart]) -> str:
    """Return the report as GitHub-flavoured Markdown whose images lie in `charts/` beside it."""
    return _rendered(_markdown_environment(), MARKDOWN_NAME, view, charts)


def render_html(view: View, charts: list[DrawnChart]) -> str:
    """Return the report as one HTML file that needs nothing else, not even a network."""
    return _rendered(_html_environment(), HTML_NAME, view, charts)


def _rendered(environment: Environment, name: str, view: View, charts: list[DrawnChart]) -> str:
    return environment.get_template(f"{name}.j2").render(view=view, charts={chart.name: chart for chart in charts})


def _markdown_environment() -> Environment:
    def shown(value: object) -> str:
        return escape.code(value) if isinstance(value, Code) else escape.markdown(value)

    environment = _environment(autoescape=False, finalize=shown)
    environment.filters["code"] = escape.code
    environment.filters["block"] = escape.block
    return environment


def _html_environment() -> Environment:
    from markupsafe import Markup

    as_code = Markup("<code>{}</code>")

    def plain(value: object) -> Markup:
        return Markup("{}").format(escape.clean(str(value)))

    def shown(value: object) -> Markup:
        if isinstance(value, Markup):
            return value
        if isinstance(value, Code):
            return as_code.format(escape.clean(value))
        parts = escape.pieces(escape.clean("" if value is None else str(value)))
        return Markup("").join(as_code.format(part) if is_code else plain(part) for part, is_code in parts)

    environment = _environment(autoescape=True, finalize=shown)
    environment.filters["plain"] = plain  # for attributes and preformatted text, where no element may stand
    return environment


def _environment(**options: Any) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(  # noqa: S701 - the Markdown one escapes through finalize, the HTML one through autoescape
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
        **options,
    )


@contextlib.contextmanager
def _loaded(folder: Path) -> Iterator[Campaign]:
    """Read the campaign, and spare the collector of garbage all of it: nothing there is in a cycle.

    It would go through 100 000 samples again and again, for a fifth of the time that a report takes.
    """
    others_frozen = gc.get_freeze_count()
    gc.disable()
    try:
        campaign = _without_own_record(load_campaign(folder))
        gc.freeze()
    finally:
        gc.enable()
    try:
        yield campaign
    finally:
        if not others_frozen:  # what somebody else has frozen cannot be told apart
            gc.unfreeze()


def _without_own_record(campaign: Campaign) -> Campaign:
    """Leave out step 14's record: it is written after the report, which must be the same with it and without it."""
    records = {number: record for number, record in campaign.records.items() if number != REPORT_STEP}
    unreadable = [entry for entry in campaign.unreadable if entry.step != REPORT_STEP]
    return msgspec.structs.replace(campaign, records=records, unreadable=unreadable)


def _drop_stale_charts(folder: Path, wanted: set[str]) -> None:
    """Remove charts of ours that an earlier, fuller campaign left: they would be taken for this one's."""
    for chart in CHARTS:
        for file in (folder / f"{chart.name}.svg", folder / f"{chart.name}.png"):
            if file.name not in wanted:
                file.unlink(missing_ok=True)
