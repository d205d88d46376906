"""Each filter against labelled texts, hard negatives among them: precision, recall, and the rest.

`labelled_texts.json`: {"filter", "text", "clean"} for texts that are edited ("clean" equal to
"text" for one that must be left alone), {"filter", "text", "drop"} for rows that are dropped or
kept. "first" and "share" (image, patient, nothing): the row above, for filters of duplicates;
"image": there, missing, empty or folder.
"""

import codecs
import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctscribe.tables import filters
from ctscribe.tables.clean import FILTERS
from ctscribe.tables.damage import damage, mend
from ctscribe.tables.repeats import collapse, stuck
from ctscribe.tables.text import clauses, near_identical, sentences, tidy
from ctscribe.tables.unfilled import unfilled

REPORTED = json.loads(
    (Path(__file__).parents[1] / "reports" / "sentences.json").read_text(encoding="utf-8")
)
TEXTS = json.loads((Path(__file__).parent / "labelled_texts.json").read_text(encoding="utf-8"))
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MEASURED = [
    name for name in FILTERS if name not in ("deidentify", "normalise")
]  # that one has its own benchmark
# Edits that run by default: none may touch what another's hard negatives are.
EDITS: dict[str, Callable[[str], str]] = {
    "phone": filters.strip_phones,
    "advertising": filters.strip_advertising,
    "sex_age": filters.strip_sex_age,
    "encoding_damage": mend,
}


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        benchmark = importlib.import_module("filters")
    return benchmark.measure(TEXTS, tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize("name", MEASURED)
def test_precision_and_recall(name: str, scores: Any) -> None:
    score = scores[name]
    wanted = score.hits + score.misses
    assert score.rows >= 20
    assert 0.25 * score.rows <= wanted <= 0.75 * score.rows  # both kinds
    assert score.precision >= 0.97, score.wrong
    assert score.recall >= 0.97, score.wrong
    assert score.inexact <= 0.03 * score.rows, score.wrong  # right to the character


def test_every_labelled_text_is_of_a_filter_and_there_once() -> None:
    assert {row["filter"] for row in TEXTS} == set(MEASURED)
    seen = [json.dumps(row, sort_keys=True) for row in TEXTS]
    assert len(set(seen)) == len(seen) >= 400


def test_the_figures_on_file_are_of_these_texts() -> None:
    file = BENCHMARKS / "results" / "filters.json"
    said = json.loads(file.read_text(encoding="utf-8"))
    assert said["rows"] == len(TEXTS)
    assert set(said["filters"]) == set(MEASURED)


def test_no_edit_touches_a_text_of_another_filters_hard_negatives() -> None:
    own = ("encoding_damage", "characters")
    for row in TEXTS:
        if row.get("clean") == row["text"] or row.get("drop") is False:
            for name, edit in EDITS.items():
                assert edit(row["text"]) == row["text"], (name, row["text"])
            if row["filter"] not in own:
                assert damage(row["text"]) is None, row["text"]


CONTACTS: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    "a line of its own": (filters.strip_phones, lambda t: f"{t}\n联系电话：13812345678"),
    "in brackets": (filters.strip_phones, lambda t: f"{t}（张医生13812345678）。"),
    "a clause behind": (filters.strip_phones, lambda t: f"{t}，电话0571-87654321。"),
    "after a space": (filters.strip_phones, lambda t: f"{t} 咨询电话13812345678"),
    "a clause before": (filters.strip_phones, lambda t: f"电话13812345678，{t}"),
    "before, and a space": (filters.strip_phones, lambda t: f"电话13812345678 {t}"),
    "advertising below": (filters.strip_advertising, lambda t: f"{t}\n扫码关注公众号"),
    "advertising, a space": (filters.strip_advertising, lambda t: f"{t} 扫码查看电子胶片"),
    "a slogan": (filters.strip_advertising, lambda t: f"【某某医院，扫码关注公众号】{t}"),
    "advertising behind": (filters.strip_advertising, lambda t: f"{t}，微信号ct8899。"),
    "advertising before": (filters.strip_advertising, lambda t: f"扫码关注公众号，{t}"),
    "sex and age before": (filters.strip_sex_age, lambda t: f"男，65岁，{t}"),
    "sex and age behind": (filters.strip_sex_age, lambda t: f"{t} 患者女，47岁。"),
    "sex/age": (filters.strip_sex_age, lambda t: f"女/47岁 {t}"),
}


@pytest.mark.parametrize("where", CONTACTS)
def test_an_edit_takes_a_contact_and_nothing_of_the_patient(where: str) -> None:
    edit, beside = CONTACTS[where]
    seen = 0
    for row in REPORTED:
        text = tidy(row["text"]).rstrip("。.")
        # Others have a contact or an age of their own; a "?" in front would end the contact's line.
        if edit(text) == text and not text.startswith("?"):
            seen += 1
            assert edit(beside(text)).rstrip("。.") == text
    assert seen > 0.95 * len(REPORTED)


def test_bold_marks_hide_nothing() -> None:
    assert unfilled("大小约**5**mm") is None
    assert unfilled("大小约**__**mm") == "__"


def test_sound_reports_are_no_templates_and_no_repeats() -> None:
    for row in TEXTS:
        if row["filter"] in ("phone", "sex_age", "thorax_only", "generic_only", "near_duplicate"):
            assert unfilled(row["text"]) is None, row["text"]
            assert collapse(row["text"]) == row["text"]


SOUND = "右肺上叶结节，大小约×±°“”‘’（）、；：。！？ 0123456789.mmcmCTHU\nABC-/ 双侧胸腔未见积液"


@given(st.text(alphabet=SOUND, max_size=80))
def test_sound_text_is_never_mended_and_garbled_text_never_kept(text: str) -> None:
    assert mend(text) == text
    assert damage(text) is None or "???" in text
    for wrong in ("latin-1", "cp1252"):
        try:
            garbled = text.encode("utf-8").decode(wrong)
        except UnicodeDecodeError:
            continue
        # Whatever is not restored is at least recognised, unless there was nothing to garble.
        again = mend(garbled)
        assert again == text


@given(st.text(alphabet="右肺上叶结节大小约双侧胸腔未见积液，。", min_size=4, max_size=40))
def test_utf_8_read_as_gbk_is_restored_or_refused(text: str) -> None:
    garbled = text.encode("utf-8").decode("gbk", "replace")
    again = mend(garbled)
    assert again == text or damage(again)


def test_mending_stops_at_the_first_sound_text() -> None:
    text = "右肺上叶结节，±5mm"
    twice = codecs.decode(codecs.decode(text.encode(), "latin-1").encode(), "latin-1")
    assert mend(mend(twice)) == text


def test_half_a_repair_is_none() -> None:
    whole = "右肺上叶结节".encode().decode("latin-1")
    cut = "双侧胸腔".encode()[:-1].decode("latin-1")
    assert mend(f"{whole} 8mm") == "右肺上叶结节 8mm"
    assert mend(f"{whole} 8mm {cut}") == f"{whole} 8mm {cut}"
    assert damage(f"{whole} 8mm {cut}")


def test_a_stuck_text_is_left_to_be_dropped() -> None:
    text = "左肺实变。" * 6
    assert collapse(text) == text
    assert stuck(text) == "左肺实变"
    assert (
        collapse("左肺实变。左肺实变。心影增大，主动脉壁钙化。")
        == "左肺实变。心影增大，主动脉壁钙化。"
    )


def test_measurements_survive_beside_a_contact() -> None:
    text = "右肺结节，12mm，边界清，电话13812345678，约1.4cm。"
    assert filters.strip_phones(text) == "右肺结节，12mm，边界清，约1.4cm。"
    assert filters.strip_advertising("左肺结节，加微信号abc。") == "左肺结节。"


def test_a_heading_goes_with_its_body_and_stays_without() -> None:
    text = "所见：双肺清晰。\n建议：关注公众号。\n病理倾向：无。"
    assert filters.strip_advertising(text) == "所见：双肺清晰。\n病理倾向：无。"
    assert filters.strip_advertising("所见：\n双肺清晰。") == "所见：\n双肺清晰。"


def test_tidy() -> None:
    assert tidy("\ufeff右肺\u200b结节，\u3000约１４ｍｍ（１．４ｃｍ）。\r\n\n 结论：ＣＴ ") == (
        "右肺结节，约14mm（1.4cm）。\n结论：CT"
    )
    assert tidy("a_x000D_b") == "a\nb"
    assert tidy("，：（）。") == "，：（）。"  # Chinese punctuation is no damage


@given(st.text(alphabet="右肺结节。，；\n .1a:？!所见：", max_size=60))
def test_cutting_loses_nothing_and_tidy_settles(text: str) -> None:
    assert "".join(sentences(text)) == text
    assert "".join(piece for s in sentences(text) for piece in clauses(s)) == text
    assert tidy(tidy(text)) == tidy(text)


def test_sentences_keep_numbers_whole() -> None:
    assert sentences("1. Nodule of 1.4 cm. No effusion.") == [
        "1. Nodule of 1.4 cm.",
        " No effusion.",
    ]


def test_numbering() -> None:
    assert filters.number("右肺结节。\n左肺实变。") == "1.右肺结节。\n2.左肺实变。"
    assert filters.number("1、右肺结节。") == "1、右肺结节。"
    assert filters.number("所见：清晰。\n结论：正常。") == "所见：清晰。\n结论：1.正常。"
    assert filters.number("所见：清晰。\n结论：1.正常。") == "所见：清晰。\n结论：1.正常。"


def test_lines_are_kept_or_dropped_by_pattern() -> None:
    text = "所见：右肺结节。\n报告医师：张三\n结论：结节。"
    drop = filters.keep_lines(re.compile("医师"), matching=False)
    keep = filters.keep_lines(re.compile("结节"), matching=True)
    assert drop(text) == keep(text) == "所见：右肺结节。\n结论：结节。"


def test_near_identical_tells_copies_from_look_alikes() -> None:
    base = (
        "所见：右肺上叶见一枚实性结节，大小约14×11mm，边界清晰。双侧胸腔未见积液及气胸，气管通畅，"
        "纵隔淋巴结无肿大，心影不大。\n结论：右上肺占位性病变。\n建议：3个月后复查薄层CT。"
    )
    texts = [
        base,
        base.replace("边界清晰", "边界较清晰"),
        base.replace("14×11", "15×11"),
        base.replace("右肺上叶", "左肺下叶").replace("结节", "肿块"),
        base.replace("，", " ， "),
        "短",
    ]
    assert [(i, j) for i, j, _ in near_identical(texts)] == [(0, 1), (0, 4), (1, 4)]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("所见：\n_____\n双肺清晰。\n*****\n结论：正常。", None),  # lines drawn between parts
        ("右肺**5**mm结节。", None),  # bold in Markdown
        ("右肺结节，大小约**mm。", "**"),
        ("The [side] lung.", "[side]"),
        ("右肺[实性/磨玻璃]结节，大小约__mm。", "[实性/磨玻璃]"),  # the first of both
        ("左/右肺结节。", "左/右"),
        ("The left/right ventricle ratio is 1.", None),
        ("Nodule in the left/right lung.", "left/right"),
    ],
)
def test_a_placeholder_is_what_somebody_was_to_fill_in(text: str, left: str | None) -> None:
    assert unfilled(text) == left


def test_two_garbled_characters_alone_are_recognised_and_the_euro_sign_is_a_byte() -> None:
    assert damage("鑲垮ぇ") == "utf-8 read as gbk, with bytes lost"
    assert mend("涓€澶у皬") == "一大小"


def test_a_phrase_of_some_length_is_said_once_on_a_line() -> None:
    assert collapse("右肺上叶结节，右肺上叶结节，边界清。") == "右肺上叶结节，边界清。"
    for text in (
        "气管居中，无，无，双肺清晰。",
        "右肺上叶结节。\n右肺上叶结节。\n双肺清晰，心影不大。",
    ):
        assert collapse(text) == text
    for text in ("结节5mm5mm5mm5mm，边界清。", "右肺C5C5C5C5段。"):  # a figure is no slip
        assert collapse(text) == text
    thrice = "右肺上叶结节。\n" * 3 + "双肺清晰，心影不大，骨质未见异常。"
    assert collapse(thrice) == "右肺上叶结节。\n双肺清晰，心影不大，骨质未见异常。"


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("A。A。A。", None),  # three times is a slip
        ("A。A。A。A。", "A"),
        ("A。钙化斑。A。心影大。A。气管偏。A。A。", "A"),
        ("A。A。A。x。A。", None),  # two are left beside what else is said
        ("A。A。x。A。y。A。", "A"),
        ("A。双肺纹理增多模糊。A。纵隔淋巴结未见肿大。A。气管支气管通畅。A。", None),
    ],
)
def test_what_is_stuck(text: str, phrase: str | None) -> None:
    said = "左肺下叶实变"
    assert stuck(text.replace("A", said)) == (phrase and said)
