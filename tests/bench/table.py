"""Rows of figures, each beside its baseline, and the table that they make."""
import json
import statistics
from dataclasses import dataclass, field
from xml.sax.saxutils import quoteattr

MET, NOISE, MISSED, INFO, NOT_MEASURED, FAILED = (
    "met", "missed, within noise", "MISSED", "for information", "not measured", "FAILED")


@dataclass
class Target:
    """`at_least` or at most `limit`; `margin` is the share of it that is taken for noise."""
    limit: float
    at_least: bool = True
    margin: float = 0.0

    def text(self):
        return f"{'>=' if self.at_least else '<='} {self.limit:g}"

    def verdict(self, value):
        def holds(limit):
            return value >= limit if self.at_least else value <= limit
        if holds(self.limit):
            return MET
        return NOISE if holds(self.limit * (1 + (-self.margin if self.at_least else self.margin))) \
            else MISSED


@dataclass
class Row:
    """What was measured. With a baseline the value is the ratio of the medians, without one the
    candidate's median."""
    name: str
    unit: str
    target: Target | None = None
    baseline_name: str = ""
    baseline: list = field(default_factory=list)
    candidate: list = field(default_factory=list)
    note: str = ""
    reason: str = ""  # why it was not measured
    failed: bool = False  # because something is broken, not because of the machine
    invert: bool = False  # of times: the baseline's is divided by the candidate's

    def value(self):
        if self.reason or not self.candidate:
            return None
        value = statistics.median(self.candidate)
        if not self.baseline:
            return value
        baseline = statistics.median(self.baseline)
        return baseline / value if self.invert else value / baseline

    def verdict(self):
        if self.value() is None:
            return FAILED if self.failed else NOT_MEASURED
        return self.target.verdict(self.value()) if self.target else INFO

    def result(self):
        """The value with its sign: a ratio is so many times the baseline."""
        value = self.value()
        if value is None:
            return "-"
        return f"{value:.2f} x" if self.baseline else f"{value:.4g} {self.unit}"

    def last_column(self):
        return f"{self.verdict()}: {self.reason}" if self.reason else self.verdict()

    def is_bad(self):
        return self.verdict() in (MISSED, FAILED)

    def as_json(self):
        return {"name": self.name, "unit": self.unit, "value": self.value(),
                "target": self.target.text() if self.target else None,
                "noise_margin": self.target.margin if self.target else None,
                "verdict": self.verdict(), "reason": self.reason or None, "note": self.note,
                "baseline": {"name": self.baseline_name, "rounds": self.baseline},
                "candidate": {"rounds": self.candidate}}


def spread(values, unit):
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.4g} {unit}"
    return f"{statistics.median(values):.4g} {unit} ({min(values):.4g} to {max(values):.4g})"


HEADINGS = ("what", "measured", "beside", "result", "target", "")


def cells(row):
    beside = f"{row.baseline_name}: {spread(row.baseline, row.unit)}" if row.baseline else "-"
    name = f"{row.name} [{row.note}]" if row.note else row.name
    return (name, spread(row.candidate, row.unit), beside, row.result(),
            row.target.text() if row.target else "-", row.last_column())


def aligned(lines):
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
                     for line in lines)


def ruled(lines):
    def line_of(cells_of_line):
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells_of_line) + " |"
    return "\n".join(map(line_of, [lines[0], ("---",) * len(lines[0]), *lines[1:]]))


@dataclass
class Extra:
    """A table beside that of the rows. `data` is what it shows, for programs."""
    title: str
    headings: tuple
    lines: list
    data: object

    def as_text(self):
        return aligned([self.headings, *self.lines])

    def as_markdown(self):
        return f"{self.title}\n\n{ruled([self.headings, *self.lines])}\n"


def as_text(rows):
    return aligned([HEADINGS] + [cells(row) for row in rows])


def as_markdown(rows, extras, conditions):
    rows_table = ruled([HEADINGS] + [cells(row) for row in rows])
    return "\n".join([f"{conditions}\n\n{rows_table}\n"] + [e.as_markdown() for e in extras])


def as_junit(rows):
    def case(row):
        inner = ""
        if row.verdict() == NOT_MEASURED:
            inner = f"<skipped message={quoteattr(row.reason)}/>"
        elif row.is_bad():
            why = row.reason or f"{row.result()}, target {row.target.text()}"
            inner = f"<failure message={quoteattr(why)}/>"
        return f"<testcase classname='bench' name={quoteattr(row.name)}>{inner}</testcase>"
    return "<testsuite name='bench'>" + "".join(map(case, rows)) + "</testsuite>\n"


def write(rows, extras, conditions, folder):
    (folder / "bench.json").write_text(json.dumps(
        {"conditions": conditions, "rows": [row.as_json() for row in rows],
         "tables": [{"title": extra.title, "data": extra.data} for extra in extras]},
        indent=1) + "\n")
    (folder / "bench.md").write_text(as_markdown(rows, extras, conditions))
    (folder / "bench.xml").write_text(as_junit(rows))
