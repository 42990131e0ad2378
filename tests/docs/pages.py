"""The pages, taken apart: their examples, tables and sentences."""
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# A block in one of these languages is an example that runs, unless the line in front of it
# is "<!-- not run: REASON -->".
RUN = ("sh", "python", "c")
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?"
                   r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
MAN_PAGES = [ROOT / "docs/mountctl.1", ROOT / "docs/weightfs.8"]
MAN_BLOCK = re.compile(r"^\.Bd -literal -offset indent\n(?P<text>.*?)^\.Ed$", re.M | re.S)


@dataclass
class Example:
    page: Path
    line: int
    kind: str
    text: str
    reason: str  # why it is not run, or None

    def __str__(self):
        return f"{self.page.name}:{self.line}"


def examples(page):
    text = page.read_text()
    return [Example(page, text[:match.start("text")].count("\n") + 1, match["kind"],
                    match["text"], match["reason"])
            for match in BLOCK.finditer(text) if match["kind"] in RUN]


def man_examples(page):
    """The commands in the blocks of a man page, block by block: the lines behind a '$'."""
    text = page.read_text()
    return [Example(page, text[:match.start("text")].count("\n") + 1, "sh",
                    re.sub(r"^\$ ", "", match["text"], flags=re.M), None)
            for match in MAN_BLOCK.finditer(text) if match["text"].startswith("$ ")]


def table(page, *columns):
    """The rows of the table with these columns, as lists of cells without back quotes."""
    lines = iter((ROOT / page).read_text().splitlines())
    for line in lines:
        if cells(line) == list(columns):
            next(lines)
            break
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append(cells(line))
    assert rows, f"{page}: no table with the columns {columns}"
    return rows


def cells(line):
    found = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
    return [re.sub(r"^`([^`]*)`$", r"\1", cell).replace(r"\|", "|") for cell in found]


def sentences(page):
    """The first cells of all tables of sentences."""
    found, inside = [], False
    for line in (ROOT / page).read_text().splitlines():
        if not line.startswith("|"):
            inside = False
        elif cells(line) == ["sentence", "when"]:
            inside = True
        elif inside and not line.startswith("|---"):
            found.append(cells(line)[0])
    return found


def plain(text):
    """Variable parts become one mark, so that a page and the sources can be compared."""
    text = re.sub(r"'%[^a-z]*[a-z]+'|%[-.*\d]*(?:ll|z)?[a-z]|%", "…", text)
    return re.sub(r"…+", "…", text)


def source_text(path):
    """A source in which each string is one literal: pieces joined, formats of numbers cut."""
    text = path.read_text().replace("'\"'", "")  # no start of a string
    text = re.sub(r'"\s*PRI\w+\s*"', "", text)
    text = re.sub(r'(?<!\\)"\s*\n\s*"', "", text)
    return re.sub(r'"\s*PRI\w+', '"', text)


STRING = r'"((?:\\.|[^"\\])*)"'


def source_sentences():
    """All strings of the parsers and the daemon."""
    return [plain(text) for folder in ("parsers", "fs")
            for path in sorted((ROOT / folder).glob("*.c"))
            for text in re.findall(STRING, source_text(path))]


def refusals():
    """What parsers and the tree of names say of a file that they refuse."""
    call = re.compile(r'\b(?:diag_fail|fail_at)\([^";]*' + STRING)
    return [plain(text) for path in (*sorted((ROOT / "parsers").glob("*.c")), ROOT / "fs/tree.c")
            for text in call.findall(source_text(path)) if "memory" not in text]
