"""Hooks of MkDocs that give the book the layout of the repository, so that one relative link serves both.

docs/wire.md stays docs/wire.md, README.md is the first page, and a file outside docs/ that a page links to is part of the book.
"""

import logging
import pathlib
import re

from mkdocs.structure.files import File, Files

log = logging.getLogger("mkdocs.hooks.book")
ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "charts/jetlinks-bridge/README.md"]
STYLE = "book.css"
DECISIONS = "docs/decisions"
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")


def _heading_id(text, separator):
    """The anchor of a heading as the repository's pages have it: spaces become hyphens one by one."""
    return re.sub(r"\s", separator, re.sub(r"[^\w\s-]", "", text.strip().lower()))


def _linked(pages):
    """Files outside docs/ that these pages link to, by their path in the repository."""
    for page in pages:
        path = ROOT / page
        for target in LINK.findall(path.read_text()):
            file = (path.parent / target).resolve()
            if file.is_file() and file.is_relative_to(ROOT) and not file.is_relative_to(ROOT / "docs"):
                yield file.relative_to(ROOT).as_posix()


def on_config(config):
    config.mdx_configs.setdefault("toc", {})["slugify"] = _heading_id
    return config


def on_files(files, config):
    # The theme's own files have no place in the repository.
    own = [f"docs/{file.src_uri}" for file in files if file.src_dir == config.docs_dir]
    theme = [file for file in files if file.src_dir != config.docs_dir]
    pages = [uri for uri in own if uri.endswith(".md")] + PAGES
    paths = {uri: ROOT / uri for uri in [*own, *PAGES, *_linked(pages)]}
    index = (ROOT / DECISIONS / "README.md").read_text()
    for path in sorted((ROOT / DECISIONS).glob("0*.md")):
        if f"]({path.name})" not in index:
            log.warning("%s/README.md has no link to %s", DECISIONS, path.name)
    paths[STYLE] = pathlib.Path(__file__).with_name(STYLE)
    return Files([*theme, *(File.generated(config, uri, abs_src_path=str(path)) for uri, path in paths.items())])


def on_page_content(html, **_):
    # In a cell of a table the repository's pages need a backslash before |, in code as well, where Markdown leaves the backslash.
    return re.sub(r"<td.*?</td>", lambda cell: cell[0].replace("\\|", "|"), html, flags=re.DOTALL)
