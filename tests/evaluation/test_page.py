"""The pages: nothing escapes its text, nothing is fetched, and the figures decide what is said."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from ctscribe.evaluation import page as p
from ctscribe.evaluation import page_view as v
from ctscribe.evaluation.clinical import Estimate
from ctscribe.pages import TEMPLATES
from tests.evaluation import fake_pages as fake
from tests.evaluation.fake_pages import mark

HOSTILE = (
    "<script>alert('x')</script><img src=x onerror=alert(1)>\"' onmouseover=\"x\" </style>{{7*7}}&"
)
VOID = {"meta", "img", "input", "br", "col", "path", "circle", "rect"}
NEVER_TEXT = {"png_base64", "status", "metric", "language"}


class Page(HTMLParser):
    """Elements, their attributes and the text of a page; fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[tuple[tuple[str, ...], str]] = []
        self.open: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop()[0] == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.words.append((tuple(c for _, c in self.open), data))

    def text(self, language: str = "zh") -> str:
        """What a reader of one language sees, white space folded."""
        other = {"zh": "en", "en": "zh"}[language]
        seen = (
            data
            for classes, data in self.words
            if not any(other in c.split() for c in classes) and ":root" not in data
        )
        return " ".join("".join(seen).split())


def spoil(value: object, ending: str, name: str = "") -> object:
    """The same page with `ending` after every string that is text for people."""
    if isinstance(value, str):
        return value if name in NEVER_TEXT else value + ending
    if isinstance(value, tuple):
        return tuple(spoil(item, ending) for item in value)
    if isinstance(value, fake.Finding) or not dataclasses.is_dataclass(value):
        return value
    changes = {
        f.name: spoil(getattr(value, f.name), ending, f.name) for f in dataclasses.fields(value)
    }
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]


@pytest.mark.parametrize("page", [fake.demo(), fake.report()], ids=["demo", "report"])
def test_hostile_text_stays_text(page: p.DemoPage | p.ReportPage) -> None:
    render = p.render_demo if isinstance(page, p.DemoPage) else p.render_report
    clean, spoiled = (Page(render(spoil(page, ending))) for ending in ("zz", HOSTILE))
    assert spoiled.tags == clean.tags, "hostile text made elements"
    assert "script" not in spoiled.tags
    assert not [a for a in spoiled.attributes if a[1].startswith("on")]
    assert {a[1] for a in spoiled.attributes} == {a[1] for a in clean.attributes}
    assert "<script>alert('x')</script>" in spoiled.text()
    assert "{{7*7}}" in spoiled.text()


@pytest.mark.parametrize("html", [p.render_demo(fake.demo()), p.render_report(fake.report())])
def test_one_file_that_fetches_and_runs_nothing(html: str) -> None:
    page = Page(html)
    links = [value for _, name, value in page.attributes if name in ("src", "href", "srcset")]
    assert links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert not re.search(r"url\(|@import|javascript:|https?://", html)
    assert "default-src 'none'" in html
    targets = {value for _, name, value in page.attributes if name == "id"}
    assert {link[1:] for link in links if link.startswith("#")} <= targets


def test_templates_never_switch_escaping_off() -> None:
    templates = sorted(TEMPLATES.glob("*.j2"))
    assert len(templates) >= 5
    for template in templates:
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe|Markup|autoescape", text), template.name


def test_everything_the_page_says_is_in_both_languages() -> None:
    html = p.render_demo(fake.demo()) + p.render_report(fake.report())
    assert html.count('class="zh" lang') == html.count('class="en" lang') > 200
    assert not re.search(r'<span class="(zh|en)" lang="[^"]+"></span>', html)
    # Chinese words in the English page are report text and the switch itself, nothing else.
    english = Page(p.render_report(fake.report(generated="", marks=(), claims=()))).text("en")
    assert re.findall(r"[\u4e00-\u9fff]+", english) == ["中文"]


@pytest.mark.parametrize(
    ("model", "swapped", "blank", "voxels", "answer"),
    [
        (0.84, 0.09, 0.01, 0.12, "yes"),
        (0.84, 0.40, 0.01, 0.12, "partly"),  # above chance, but short of the margin
        (0.84, 0.09, 0.01, 0.82, "partly"),  # a report copied by raw voxels is as good
        (0.51, 0.50, 0.49, 0.10, "no"),
        (0.10, 0.70, 0.00, 0.10, "no"),
        (math.nan, 0.09, 0.01, 0.12, "unknown"),
    ],
)
def test_verdict_follows_the_figures(
    model: float, swapped: float, blank: float, voxels: float, answer: str
) -> None:
    row = fake.row("strict_f1", model, 0.9, swapped, blank, 0.0, voxels, 0.99)
    assert v.verdict(row, 0.5).answer == answer
    words = {"yes": "Yes.", "partly": "In part.", "no": "No.", "unknown": "Not measured."}
    html = p.render_demo(fake.demo(scores=(row,)))
    assert words[answer] in Page(html).text("en")
    assert sum(word in Page(html).text("en") for word in words.values()) == 1


def test_strict_f1_leads_and_targets_are_judged_by_direction() -> None:
    with pytest.raises(ValueError, match="strict_f1"):
        fake.demo(scores=(fake.row("finding_f1", *[0.9] * 7), fake.STRICT))
    assert v.met(fake.row("strict_f1", *[0.80] * 7, target=0.80)) is True
    assert v.met(fake.row("hallucinated_share", *[0.09] * 7, target=0.08)) is False
    assert v.met(fake.row("size_error_mm", *[2.9] * 7, target=3.0)) is True
    assert (
        v.met(p.ScoreRow("side_accuracy", {"model": Estimate(*[math.nan] * 3)}, p.Target(0.9)))
        is False
    )
    text = Page(p.render_demo(fake.demo())).text("en")
    assert "6/7 missed: Nodule F1 (12–30 mm)" in text


def test_no_character_of_a_report_is_lost_whatever_its_marks() -> None:
    odd = "前言。\n所见：A。B\n\n结论：C\n所见：D。\n建议："  # headings twice, and one without body
    for text in (fake.GENERATED, odd, "no headings at all", "结论：", " \n"):
        marks = [
            p.SpanMark(a, b, "wrong") for a in range(0, len(text), 3) for b in (a + 1, len(text))
        ]
        shown = "".join(
            b.heading + "".join(s.text for s in b.segments) for b in v.blocks(text, marks)
        )
        assert "".join(shown.split()) == "".join(text.split())
    cards = Page(p.render_demo(fake.demo(cases=(fake.case(generated=odd, marks=(), omitted=()),))))
    for piece in ("前言。", "A。B", "C", "D。", "建议："):
        assert piece in cards.text()


def test_where_marks_overlap_the_worst_shows_and_both_are_explained() -> None:
    text = "所见：双肺上叶肺气肿。"
    marks = (
        p.SpanMark(3, 10, "right"),
        p.SpanMark(3, 10, "wrong", "左肺上叶无肺气肿"),
        p.SpanMark(7, 10, "contradiction", "c"),
    )
    (block,) = v.blocks(text, marks)
    styled = [(s.text, s.status, s.ends) for s in block.segments]
    assert styled == [("双肺上叶", "wrong", ()), ("肺气肿", "wrong", (1, 2)), ("。", None, ())]
    assert [(n, m.status) for n, m in block.footnotes] == [(1, "wrong"), (2, "contradiction")]
    # A right claim is quiet unless something beside it is off.
    (block,) = v.blocks(text, (p.SpanMark(3, 10, "right", p.Text("大小", "size")),))
    assert [n for n, _ in block.footnotes] == [1]


def test_colour_is_never_the_only_cue() -> None:
    html = p.render_demo(fake.demo(cases=(fake.case(),)))
    text = Page(html).text("en")
    for cue in ("14mm✓", "约9mm⇄1", "磨玻璃结节≠2", "胸腔积液✗3", "∅ Omitted by the report"):
        assert cue in text
    assert "⇄1 wrong place: truth: right lower lobe" in text
    assert "right middle lobe consolidation" in text
    for status in ("wrong", "wrong-place", "contradiction"):
        assert re.search(rf"\.mark\.m-{status}\{{[^}}]*text-decoration-style", html)


def test_finding_table_judges_each_section_by_the_truth() -> None:
    truth = fake.RUL
    row = p.FindingRow(truth)
    other = dataclasses.replace(truth, lobe="RML", size_mm=20)
    assert v.cell_status(row, truth) == "right"
    assert v.cell_status(row, other) == "wrong-place"
    assert v.cell_status(row, None) == "omitted"
    assert v.cell_status(p.FindingRow(None), truth) == "wrong"
    assert v.cell_status(p.FindingRow(None), None) == "absent"
    wrote = dataclasses.replace(truth, size_mm=17, density="calcified")
    assert [d.en for d in v.differences(row, wrote)] == ["size +3 mm", "calcified ≠ solid"]
    assert v.differences(row, other) == ()  # elsewhere, so another nodule's size


def test_an_empty_generation_is_reported_as_empty() -> None:
    card = fake.case(generated="", marks=(), finish_reason="eos at once")
    for html in (
        p.render_demo(fake.demo(cases=(card,))),
        p.render_report(fake.report(generated="", marks=(), finish_reason="eos at once")),
    ):
        text = Page(html).text("en")
        assert text.count("The model wrote nothing (eos at once)") == 1
    assert "no finding in truth or report" not in Page(
        p.render_demo(fake.demo(cases=(card,)))
    ).text("en")


def test_warnings_that_must_not_be_missed() -> None:
    for phantom in (True, False):
        text = Page(p.render_report(fake.report(phantom_only=phantom))).text("en")
        assert "Not for clinical use Draft for a radiologist" in text
        assert ("trained on synthetic phantoms only" in text) is phantom
    reasons = (p.Text("不是胸部", "no lungs in it"),)
    refused = fake.report(generated="", marks=(), claims=(), refusal=p.Refusal(reasons))
    text = Page(p.render_report(refused)).text("en")
    assert "Refused: no report was generated" in text
    assert "no lungs in it" in text
    assert "The model wrote nothing" not in text
    assert "means nothing for a real patient" in Page(p.render_demo(fake.demo())).text("en")


def test_data_that_does_not_fit_is_refused_or_shown() -> None:
    with pytest.raises(ValueError, match="demo_0001: mark 0:999"):
        fake.case(marks=(p.SpanMark(0, 999, "right"),))
    with pytest.raises(ValueError, match="not a PNG"):
        p.SliceImage("R0lGODlhAQABAAAAACw=", "gif")
    with pytest.raises(ValueError, match="base64"):
        p.SliceImage('"><script>', "x")
    with pytest.raises(ValueError, match="refused, yet"):
        fake.report(refusal=p.Refusal(("x",)))
    assert p.SliceImage(fake.png(40, 30), "x").size_px == (40, 30)
    off = dataclasses.replace(fake.demo().cleaning, kept=960)
    text = Page(p.render_demo(fake.demo(cleaning=off))).text("en")
    assert "do not add up: off by 2" in text
    leaky = p.SplitCheck((), (p.LeakCheck("patients", 3), p.LeakCheck("normal", 9, harmless=True)))
    assert leaky.leaks == 3
    assert "✗ leaks" in Page(p.render_demo(fake.demo(split=leaky))).text("en")


def test_gate_that_was_overridden_says_so() -> None:
    gate = p.Gate((p.GateFigure("AUROC", math.nan, 0.8, 0.5),), studies=9, ignored=True)
    assert not gate.passed
    assert "not passed, overridden by flag" in Page(p.render_demo(fake.demo(gate=gate))).text("en")


def test_loss_chart_stays_in_its_box() -> None:
    curves = tuple(
        p.LossCurve(
            f"c{i}",
            list(range(500)),
            [math.inf, *(9 - k / 99 - i / 999 for k in range(498)), math.nan],
        )
        for i in range(4)
    )
    chart = v.loss_chart(p.LossPlot("x", curves, "step", log=True))
    assert chart is not None
    numbers = [float(n) for c in chart.lines for n in re.findall(r"-?[\d.]+", c.path + c.raw)]
    assert all(0 <= n <= 1000 for n in numbers)
    labels = sorted(c.label_y for c in chart.lines)
    assert min(b - a for a, b in pairwise(labels)) >= 9 - 1e-6
    assert labels[0] >= -10
    assert labels[-1] <= 100
    assert v.loss_chart(p.LossPlot("x", (p.LossCurve("c", [1], [math.nan]),), "step")) is None
    assert v.nice_ticks(900, 5) == [0, 200, 400, 600, 800]


def test_figures_in_print() -> None:
    assert [v.clock(s) for s in (4.04, 42, 185, 600, 3720)] == [
        "4.0 s",
        "42 s",
        "3 min 05 s",
        "10 min",
        "1 h 02 min",
    ]
    assert v.number(math.nan) == v.number(None) == "–"
    assert (v.percent(1.7), v.percent(-1), v.percent(3, 0, 12)) == ("100.00%", "0.00%", "25.00%")


def test_write_page(tmp_path: Path) -> None:
    path = p.write_page(fake.report(marks=(mark("右肺", "stated"),)), tmp_path / "a" / "r.html")
    raw = path.read_bytes()
    assert b"\r" not in raw
    assert "右肺" in raw.decode("utf-8")
