"""The documentation's site: it builds without a warning, is complete, and loads nothing from elsewhere; no link is broken."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

from infra.config import StackConfig
from infra.outputs import StackOutputs
from launcher.cli import odcloud
from launcher.jobfile import models
from tools.docs import pipeline_config
from tools.docs.__main__ import outdated
from trainer.config import experiment, reader
from trainer.config.section import Note

ROOT = Path(__file__).resolve().parents[2]
LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}
ELSEWHERE = re.compile(r"^(?:https?:)?//")


class Page(HTMLParser):
    """Anchors of a page, and what it loads from elsewhere."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" and value:
                self.anchors.add(value)
            if (tag, name) in LOADED and ELSEWHERE.match(value or ""):
                self.loaded.append(f"<{tag}> {value}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "Documentation built" in built.stderr  # told to be quiet, MkDocs counts no warnings, and nothing is strict
    return folder


def test_generated_files_that_are_committed_are_up_to_date() -> None:
    assert not outdated(), "run `make docs`"


def test_every_page_is_complete_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    assert not {str(path): page.loaded for path in pages if (page := Page(path)).loaded}
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"(?:url\(|@import\s)[\"']?(?:https?:)?//", styles)
    assert "https://" in (site / "external-links.txt").read_text(encoding="utf-8")


def commands(group: click.Group, name: str = "odcloud") -> Iterator[str]:
    yield name
    for child, command in group.commands.items():
        yield from commands(command, f"{name} {child}") if isinstance(command, click.Group) else [f"{name} {child}"]


def test_the_reference_has_every_command_key_output_and_field(site: Path) -> None:
    anchors = Page(site / "command-line.html").anchors
    assert {name.replace(" ", "-") for name in commands(odcloud)} <= anchors
    # Those of other parsers than click's, too, with their options.
    assert {"odcloud-local-chaos-fail", "odcloud-data-convert", "odcloud-ml-engine-jobs-submit-training"} <= anchors
    text = (site / "command-line.html").read_text(encoding="utf-8")
    assert all(f"<code>{option}</code>" in text for option in ("--max-cost USD", "--skip-difficult", "--early_stopping N"))

    text = (site / "stack.html").read_text(encoding="utf-8")
    keys = {info.alias or name for name, info in StackConfig.model_fields.items()} - {"stack", "project", "region"}
    assert all(f"<code>odcloud:{key}</code>" in text for key in keys) and "<code>gcp:region</code>" in text
    assert all(f"<code>{output}</code>" in text for output in StackOutputs.model_fields)

    text = (site / "job-file.html").read_text(encoding="utf-8")
    fields = {field for model in models.schema()["$defs"].values() for field in model["properties"]}
    assert all(f"<code>{field}</code>" in text for field in fields)


def test_the_reference_says_what_becomes_of_a_field() -> None:
    page = pipeline_config.page()
    ssd = page.partition("## model.faster_rcnn")[0]
    assert re.search(r"^\| `feature_extractor.type` \| mapped; .* approximated: .* supported: .*ssd..?resnet50..?v1", ssd, re.M)
    found = dict(re.findall(r"^\| `(.+?)` \| (.+) \|$", page, re.M))
    assert found["num_classes"] == "mapped"
    assert found["image_resizer.identity_resizer"] == "**refused**"
    assert found["use_bfloat16"].startswith("`false` is mapped, anything else approximated: ")
    assert found["add_regularization_loss"].startswith("`true` is mapped, anything else refused: ")
    assert found["batch_queue_capacity"] == "no effect"
    assert found["loss.hard_example_miner"].startswith("approximated")


def explained(path: Path) -> Iterator[Note]:
    """What `odcloud config explain` says of each field of a file."""
    pipeline = reader.parse(path.read_text(encoding="utf-8").replace("PATH_TO_BE_CONFIGURED", "data"), path.name)
    experiment.build(pipeline)
    yield from (*pipeline.root.notes(), *pipeline.problems.approximations)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.config")), ids=lambda path: path.name)
def test_the_reference_agrees_with_what_explain_says_of_a_file(path: Path) -> None:
    rows = pipeline_config.fields()
    notes = list(explained(path))
    assert len(notes) > 40

    def said(name: str) -> str:
        """The row of a field, or of the nearest message above it that has one; "mapped" where its fields have rows."""
        if any(row.startswith(f"{name}.") for row in rows):
            return "mapped"
        while name not in rows and "." in name:
            name = name.rpartition(".")[0]
        return rows[name]

    assert not [(note.name, note.verdict) for note in notes if note.verdict not in said(re.sub(r"\[\d+\]", "", note.name))]


def test_decisions_are_short_and_in_their_index() -> None:
    pages = sorted((ROOT / "docs/decisions").glob("0*.md"))
    linked = re.findall(r"^(\d+)\. \[(.+)\]\((0.+\.md)\)$", (ROOT / "docs/decisions/index.md").read_text(), re.M)
    assert linked == [
        (str(n), page.read_text().splitlines()[0][len(f"# {n}. ") :], page.name) for n, page in enumerate(pages, 1)
    ]
    for page in pages:
        text = page.read_text()
        assert re.findall(r"^## (.+)$", text, re.M) == ["Context", "Decision", "Consequences"] and text.count("\n") < 40


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_pages_outside_the_site_lead_somewhere(site: Path, name: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]+)(?:#([^)\s]+))?\)", (ROOT / name).read_text(encoding="utf-8")):
        if not ELSEWHERE.match(target):
            assert (ROOT / target).exists(), target
            assert not anchor or anchor in Page(site / Path(target).with_suffix(".html").name).anchors, f"{target}#{anchor}"
