"""The documentation: its commands are those of the program, and its site is read without a network."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cyclopts import App

from cxr.results.report import captions
from flows.commands.app import app
from tests.conftest import ROOT
from tests.support.browser import CHROMIUM, Page, browser

PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "deployments" / "README.md",
        *(ROOT / "docs").glob("*.md"),
    ]
)
PROGRAMS = ("cxr", "make", "prefect", "python", "uv", "pipx")
FLAGS_OF_OTHERS = {
    "--host",  # of the Dask scheduler and of deployments.stack
    "--learning-rate",  # of version 0.1, said to be gone
    "--nthreads",  # of a Dask worker
    "--tag",  # of deployments.release
}
PHONE = 390  # CSS pixels: the width of most phones


def commands_of(text: str) -> list[str]:
    """Return the commands in the code blocks of a page; one that goes on is one line.

    Variables that are set before a command, and the folder of the environment, are left out.
    """
    blocks = re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").replace(" && ", "\n")
    programs = "|".join(PROGRAMS)
    start = r"^(?:[A-Z_0-9]+=\S* +)*(?:\.venv/bin/)?"
    return re.findall(rf"{start}((?:{programs}) .*)$", lines, re.M)


COMMANDS = [
    pytest.param(words, id=f"{page.name}: {' '.join(words)[:70]}")
    for page in PAGES
    for line in commands_of(page.read_text(encoding="utf-8"))
    if (words := shlex.split(line, comments=True))
]


def test_commands_are_found_on_the_pages():
    """What is parsed below is not nothing: every program that the pages name is among it."""
    programs = {parameter.values[0][0] for parameter in COMMANDS}
    assert programs == set(PROGRAMS)
    assert len(COMMANDS) > 50


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_on_a_page_is_one_of_its_program(words):
    """Flags and values of `cxr` are accepted, targets of make, deployments and modules are there."""
    program, *rest = words
    if program == "cxr":
        app.parse_args(rest, exit_on_error=False, print_error=False)
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text()
        targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
        assert {word for word in rest if "=" not in word} <= targets
    elif program == "prefect" and rest[:2] == ["deployment", "run"]:
        known = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
        assert rest[2].partition("/")[2] in {deployment["name"] for deployment in known}
    elif program == "python" and rest[0] == "-m":
        assert importlib.util.find_spec(rest[1]), rest[1]


def flags_of(program: App) -> set[str]:
    """Return the flags of a program's commands, and of the commands below them."""
    flags: set[str] = set()
    for name in program:
        command = program[name]
        if name.startswith("-"):
            flags.add(name)
            continue
        flags |= flags_of(command)
        if command.default_command:
            flags.update(*(argument.names for argument in command.assemble_argument_collection()))
    return flags


def test_every_flag_in_the_text_is_one_of_the_program():
    """What stands in a line of text as `cxr COMMAND --flag` or `--flag` exists, as in the blocks."""
    known = flags_of(app) | FLAGS_OF_OTHERS
    commands = {*app, "COMMAND"}
    unknown = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for words in re.findall(r"`((?:cxr |--)[^`]+)`", text):
            command = re.match(r"cxr (\S+)", words)
            if command and command[1] not in commands:
                unknown.append(f"{page.name}: {words}")
            flags = set(re.findall(r"(?<!\S)--[a-z][a-z.-]*", words))
            unknown += [f"{page.name}: {flag}" for flag in flags - known]
    assert unknown == []


def test_every_picture_of_the_report_is_explained():
    """Whoever meets a picture in a report finds its name on the page, and its example beside it."""
    page = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    sections = (*captions.DATA_CAPTIONS.values(), *captions.RUN_CAPTIONS.values())
    pictures = {name for section in sections for name in section}
    assert [name for name in sorted(pictures) if f"`{name}.png`" not in page] == []


def test_the_examples_of_pictures_are_small_and_all_shown():
    """A phone loads the page: no example has more than 40 kB, and none lies there unused."""
    page = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    examples = sorted((ROOT / "docs" / "report").glob("*.png"))
    assert len(examples) >= 20
    for example in examples:
        assert example.stat().st_size <= 40_000, example.name
        assert f"(report/{example.name})" in page


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_fetches_nothing_from_elsewhere(site):
    """Scripts, styles, fonts and pictures are files of the site; only a link that is clicked leaves it."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(
            r'<(?:script|img|link|iframe|source)\b[^>]*(?:src|href)="?([^" >]+)', text
        )
        assert not [address for address in fetched if "//" in address], page
    for style in site.rglob("*.css"):
        assert not re.findall(r"(?:@import|url\()[\"' ]*https?:", style.read_text()), style


def overflow(page: Page) -> list[str]:
    """Return what is wider than the page it stands on, and does not scroll in a box of its own."""
    found = page.run(
        """(() => {
            const width = document.documentElement.clientWidth;
            const scrolls = e => e.closest('.md-typeset__scrollwrap, pre, .md-nav, .md-header');
            return [...document.querySelectorAll('.md-content *')]
                .filter(e => e.getBoundingClientRect().right > width + 1 && !scrolls(e))
                .map(e => e.tagName + ': ' + e.innerText.slice(0, 80));
        })()"""
    )
    return list(found)


def set_width(page: Page, width: int) -> None:
    """Give the page the width of a device, in CSS pixels."""
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=900,
        deviceScaleFactor=1,
        mobile=width < 600,
    )


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_every_page_is_read_on_a_screen_and_on_a_phone(site, tmp_path):
    """Opened as files: no page is wider than the screen, no picture is missing."""
    pages = [path for path in sorted(site.glob("*.html")) if path.name != "404.html"]
    assert len(pages) >= 10
    with browser(tmp_path / "profile") as page:
        for width in (1400, PHONE):
            set_width(page, width)
            for path in pages:
                page.open(path.as_uri(), "cxr-pipeline")
                broken = page.run(
                    "[...document.images].filter(e => !e.naturalWidth).map(e => e.src)"
                )
                assert broken == [], path.name
                assert overflow(page) == [], f"{path.name} at {width}"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_search_works_in_files(site, tmp_path):
    """A word that stands on one page leads to it, with no server and no network."""
    with browser(tmp_path / "profile") as page:
        page.open((site / "index.html").as_uri(), "First steps")
        page.run("document.querySelector('[data-md-toggle=search]').click()")
        page.run("document.querySelector('.md-search__input').focus()")
        page.call("Input.insertText", text="storescu")
        page.wait("From an archive, and back")
