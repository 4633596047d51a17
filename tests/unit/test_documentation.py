"""The documents name what exists, explain each word once, and date and reason each decision."""

import re
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from pipeline.cli.main import main
from pipeline.settings.environment import Environment
from tests.support.pages import blocks

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
FOLDERS = ("pipeline", "harness", "dags", "plugins", "demo", "benchmarks", "docker", "requirements", "tests", "docs")
PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./*-]*\w/?\*?")
PARTS = ["Context.", "Decision.", "Consequence."]
MOST_WORDS = 40

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def named_paths(text: str) -> list[str]:
    """Paths of the project in `text`. A pattern such as `requirements/*.txt` names no single file and is left out."""
    return sorted({path for path in PATH.findall(text) if "*" not in path})


def sections(text: str, level: int) -> dict[str, str]:
    """The text below each heading of this level, up to the next heading of this level."""
    parts = re.split(rf"^{'#' * level} (.+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def verbs(text: str) -> set[str]:
    """The commands of `perennial` in `text`; a line of README has several."""
    named = set(re.findall(r"(?:^|`)perennial (\w+)", text, re.MULTILINE))
    return named | set(
        re.findall(r" · (\w+)", "".join(line for line in text.splitlines() if line.startswith("perennial")))
    )


def glossary() -> list[tuple[str, str]]:
    """(word, meaning) in the order of the page."""
    rows = [line.split("|") for line in (DOCS / "glossary.md").read_text().splitlines() if line.startswith("| ")]
    return [(row[1].strip(), row[2].strip()) for row in rows[1:]]


def topics() -> dict[str, dict[str, str]]:
    """The decisions: their headings and texts, by topic."""
    return {topic: sections(text, 3) for topic, text in sections((DOCS / "decisions.md").read_text(), 2).items()}


@every_document
def test_every_path_that_a_document_names_exists(document):
    """Each path that a document names exists."""
    assert [path for path in named_paths(document.read_text()) if not (ROOT / path).exists()] == []


@every_document
def test_every_module_that_a_document_names_without_its_folder_exists(document):
    """Each module that a document names without its folder exists, or is one that the page has the reader write."""
    there = {path.name for folder in ("pipeline", "dags", "plugins") for path in (ROOT / folder).rglob("*.py")}
    there |= {name for block in blocks(document) if block.language == "python" for name in block.names}
    assert [name for name in re.findall(r"`(\w+\.py)`", document.read_text()) if name not in there] == []


@every_document
def test_every_link_to_a_file_of_the_project_leads_to_one(document):
    """Each link or image of a document leads to a file."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)|(?:src|srcset)=\"([^\"]+)\"", document.read_text())
    targets = [link or image for link, image in links if not (link or image).startswith("http")]
    assert [target for target in targets if not (document.parent / target).exists()] == []


@every_document
def test_every_link_to_a_heading_leads_to_one(document):
    """Each link to a heading leads to one in the same document."""
    text = document.read_text()
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= anchors


def test_the_search_for_paths_finds_a_path_that_does_not_exist():
    """The search for paths also finds those that do not exist."""
    assert named_paths("See `pipeline/nowhere.py`, docs/params.md.") == ["docs/params.md", "pipeline/nowhere.py"]


def test_the_readme_names_every_command_and_no_other(capsys):
    """`stage` is what dvc.yaml calls."""
    with pytest.raises(SystemExit):
        main(["--help"])
    there = set(re.findall(r"^    (\w+)", capsys.readouterr().out, re.MULTILINE))
    assert verbs((ROOT / "README.md").read_text()) == there - {"stage"}


def test_every_command_of_the_readme_is_run_by_the_pages():
    """tests/story/test_pages.py runs the commands of the pages; each one that README shows is among them."""
    run = {
        verb for page in DOCUMENTS for block in blocks(page) if block.language == "sh" for verb in verbs(block.content)
    }
    assert verbs((ROOT / "README.md").read_text()) - {"stage"} <= run


class Recorder(dict):
    """An empty environment that remembers which variables are read."""

    def __init__(self):
        self.names = set()

    def get(self, name, default=None):
        self.names.add(name)
        return default


def test_every_variable_of_the_environment_is_documented():
    """docs/params.md lists each variable that the environment reads."""
    recorder = Recorder()
    Environment.read(recorder)
    documented = (DOCS / "params.md").read_text().partition("## The environment")[2]
    assert "PERENNIAL_MODE" in recorder.names
    assert [name for name in sorted(recorder.names) if f"`{name}`" not in documented] == []


@every_document
def test_every_make_target_that_a_document_names_exists(document):
    """Each make target that a document names exists."""
    there = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^|· )make ([a-z-]+)", document.read_text(), re.MULTILINE)) <= there


def test_the_architecture_has_a_row_for_every_folder_of_the_product():
    """docs/architecture.md has a row for each folder of pipeline/."""
    rows = "".join(re.findall(r"^\| \d+ \|[^|]+\|", (DOCS / "architecture.md").read_text(), re.MULTILINE))
    folders = {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
    assert {path.split("/")[1] for path in named_paths(rows) if re.fullmatch(r"pipeline/\w+/", path)} == folders


def test_the_floors_of_the_architecture_are_those_that_import_linter_checks():
    """The floors of docs/architecture.md are the layers that import-linter checks."""
    rows = re.findall(r"^\| (\d+) \|([^|]+)\|", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    floors: dict[int, set[str]] = {}
    for floor, cell in rows:
        modules = (path.removesuffix(".py").strip("/").replace("/", ".") for path in re.findall("`([^`]+)`", cell))
        floors.setdefault(int(floor), set()).update(modules)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [set(layer.split(" | ")) for layer in next(c for c in contracts if c["type"] == "layers")["layers"]]
    checked = [layer - {"pipeline.__main__"} for layer in layers]
    not_checked = {"dags", "plugins"}  # Airflow loads them by path; no module imports them.
    assert [floors[f] - not_checked for f in sorted(floors, reverse=True)] == [layer for layer in checked if layer]


def test_the_glossary_has_at_most_forty_words_in_alphabetical_order():
    """The glossary has at most forty words, in alphabetical order."""
    words = [word for word, _ in glossary()]
    assert 0 < len(words) <= MOST_WORDS
    assert words == sorted(set(words))


def test_the_glossary_explains_each_word_in_one_sentence():
    """The glossary explains each word in one sentence."""
    assert [word for word, meaning in glossary() if not re.fullmatch(r"[^.]+(\.\w[^.]*)*\.", meaning)] == []


def test_every_decision_has_a_date_and_a_title():
    """Each decision has a date and a title."""
    for entries in topics().values():
        for heading in entries:
            day, _, title = heading.partition(" ")
            assert date.fromisoformat(day) <= datetime.now(UTC).date(), heading
            assert title, heading


def test_every_decision_has_a_context_a_decision_and_a_consequence():
    """Each decision has a context, a decision and a consequence."""
    for entries in topics().values():
        for heading, text in entries.items():
            assert re.findall(r"^\*\*(\w+\.)\*\* ?\S?", text, re.MULTILINE) == PARTS, heading


def test_the_newest_decision_of_a_topic_comes_first():
    """The decisions of a topic begin with the newest."""
    for topic, entries in topics().items():
        days = [heading.partition(" ")[0] for heading in entries]
        assert days, topic
        assert days == sorted(days, reverse=True), topic
