"""MkDocs' hooks: the reference pages are made here while the site is built, so that they cannot be out of date.

Committed are only those generated files that are read without the site, too: see `tools/docs/__main__.py`.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from tools.docs import command_line, models, pipeline_config

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {
    "command-line.md": command_line.page,
    "stack.md": models.stack_page,
    "job-file.md": models.job_page,
    "pipeline-config.md": pipeline_config.page,
    "changelog.md": lambda: _of_root("CHANGELOG.md"),
    "contributing.md": lambda: _of_root("CONTRIBUTING.md"),
}
LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")

log = logging.getLogger("mkdocs.plugins.odcloud")
external: dict[str, set[str]] = defaultdict(set)  # pages by address


def on_files(files: Files, config: Any) -> Files:
    for path, make in GENERATED.items():
        files.append(File.generated(config, path, content=make()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files of the repository that are no pages become their names: the site may stand anywhere.

    A link that is called after its file is called after the page's title.
    """

    folder = (ROOT / "docs" / page.file.src_uri).parent

    def replaced(found: re.Match[str]) -> str:
        path = (folder / found["target"]).resolve()
        if found["text"] == path.name and path.suffix == ".md" and path.is_file():
            title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
            return f"[{title}]({found['target']}{found['anchor'] or ''})"
        if "://" in found["target"] or path.is_relative_to(ROOT / "docs"):
            return found[0]
        if not path.exists():
            raise PluginError(f"{page.file.src_uri}: {found['target']} does not exist")
        return found["text"] if "`" in found["text"] else f"`{found['text']}`"

    return LINK.sub(replaced, markdown)


def on_page_content(html: str, page: Any, **_: Any) -> None:
    """Notes where the page's links out of the site lead; fails where something would be loaded from there."""

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            for name, value in attributes:
                if value and value.startswith(("http://", "https://", "//")):
                    if (tag, name) != ("a", "href"):
                        raise PluginError(f"{page.file.src_uri}: <{tag}> loads {value}; the site must work without a network")
                    external[value].add(page.file.src_uri)

    Links().feed(html)


def on_post_build(config: Any) -> None:
    """Lists external links beside the site: nothing here asks the network whether they still lead anywhere."""
    lines = [f"{address}\t{', '.join(sorted(pages))}\n" for address, pages in sorted(external.items())]
    (Path(config.site_dir) / "external-links.txt").write_text("".join(lines), encoding="utf-8")
    log.info("%d external links are listed in %s/external-links.txt", len(external), config.site_dir)


def _of_root(name: str) -> str:
    """A page of the repository's root; its links to docs/ become links between pages."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return LINK.sub(
        lambda found: (
            f"[{found['text']}]({found['target'].removeprefix('docs/')}{found['anchor'] or ''})"
            if found["target"].startswith("docs/")
            else found[0]
            if "://" in found["target"]
            else f"[{found['text']}](../{found['target']})"
        ),
        text,
    )
