"""What the tests of the report ask of a rendered page: its view, its structure, what in it could do something."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from records.campaign import load_campaign
from reports.pages.report import ReportCommands, View, build_view
from reports.verdict.decision import decide
from reports.verdict.estimates import estimates_of

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def view_of(folder: Path) -> View:
    """Build the view of one campaign's folder, without charts."""
    campaign = load_campaign(folder)
    return build_view(campaign, decide(campaign, 12), estimates_of(campaign), ReportCommands(), None)


def shape(tokens: list[Token]) -> list[str]:
    """Return what a Markdown parser makes of a page, without its words."""
    found = []
    for token in tokens:
        found.append(token.type)
        found += [child.type for child in token.children or [] if child.type not in ("text", "text_special")]
    return found


def marks_up(page: str) -> list[str]:
    """Return the elements of Markdown that could do something: links, images, HTML and headings."""
    inline = [child for token in PARSER.parse(page) for child in token.children or []]
    return [
        f"{token.type} {token.attrs.get('href') or token.attrs.get('src') or token.content}"
        for token in [*inline, *PARSER.parse(page)]
        if token.type in ("link_open", "image", "html_block", "html_inline") and "code>" not in token.content
    ]


class Page(HTMLParser):
    """Collects elements, attributes and whether every element is closed in its turn."""

    VOID = frozenset({"meta", "img", "link", "br", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.open: list[str] = []
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.misnested: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element and what it carries."""
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note an end that does not match the last start."""
        if not self.open or self.open.pop() != tag:
            self.misnested.append(tag)
