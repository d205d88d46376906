"""Cleaning a whole table: finds all the phantom's dirt, restores texts, loses no row."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctscribe.errors import ConfigError, CtscribeError, DataError, ImageError
from ctscribe.phantom.rubbish import ANSWER_BEFORE, EXTRA_ROWS, RUBBISH, add_rubbish, without_truth
from ctscribe.phantom.text import write_report
from ctscribe.reports.schema import AMOUNTS, DENSITIES, LOBES, SIDES, Finding, Language, side_of
from ctscribe.reports.sections import format_report
from ctscribe.sandbox import Limits
from ctscribe.tables import clean
from ctscribe.tables.clean import FILTERS, CleanOptions, clean_file, clean_table
from ctscribe.tables.clean_page import LISTED_CHANGES, pieces
from ctscribe.tables.csv_file import read_table as read_any
from ctscribe.tables.filters import Filter
from ctscribe.tables.manifest import load_rows, read_table
from ctscribe.tables.text import tidy

# The filter that must drop each kind of added row.
DROPS = {"missing_image": "missing_image", "duplicate": "duplicate", "one_liner": "generic_only"}


def phantom_rows(n: int, language: Language, folder: Path) -> list[dict[str, str]]:
    rng = np.random.default_rng(7)
    (folder / "images").mkdir(exist_ok=True)
    rows = []
    for i in range(n):
        findings = [
            Finding("nodule", side_of(lobe), lobe, float(rng.integers(8, 31)), DENSITIES[i % 4])
            for lobe in LOBES
            if rng.random() < 0.25
        ]
        findings += [Finding("emphysema", side_of(lb), lb) for lb in LOBES if rng.random() < 0.1]
        findings += [
            Finding("effusion", side, amount=AMOUNTS[i % 3])
            for side in SIDES
            if rng.random() < 0.15
        ]
        image = f"images/c{i}.nii.gz"
        (folder / image).write_bytes(b"x")
        answer = format_report(write_report(findings, language, rng))
        rows.append(
            dict(case_id=f"c{i}", patient_id=f"p{i}", image_path=image, question="", answer=answer)
        )
    return rows


@pytest.mark.parametrize("language", ["zh", "en"])
def test_all_of_the_phantoms_dirt_and_nothing_else(language: Language, tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    dirty = add_rubbish(phantom_rows(300, language, tmp_path), rng, language)
    frame = pd.DataFrame(without_truth(dirty))
    options = CleanOptions(drop_missing_paths=True, drop_generic_only=True)
    result = clean_table(frame, options, tmp_path)
    dropped = {
        int(row) - 2: name
        for row, name in zip(result.rejected["row"], result.rejected["filter"], strict=True)
    }
    truth = {i: DROPS[r[RUBBISH]] for i, r in enumerate(dirty) if r[RUBBISH] in EXTRA_ROWS}
    assert dropped == truth
    before = [row[ANSWER_BEFORE] for i, row in enumerate(dirty) if i not in dropped]
    assert list(result.kept["answer"]) == before
    assert result.rows_in == len(dirty)
    # Every change is accounted for, and none fell on a sound row.
    touched = {int(row) - 2 for row in result.changes["row"]}
    sound = {i for i, row in enumerate(dirty) if row[RUBBISH] == "" and i not in dropped}
    assert not touched & sound
    assert sum(count.changed for count in result.counts) == len(result.changes)
    assert sum(count.dropped for count in result.counts) == len(result.rejected)


def table(folder: Path, *rows: tuple[str, str], encoding: str = "utf-8") -> Path:
    """A CSV of (image, answer); images that do not start with "lost" exist."""
    lines = ["case_id,patient_id,image_path,question,answer"]
    for i, (image, answer) in enumerate(rows):
        if not image.startswith("lost"):
            (folder / image).write_bytes(b"x")
        lines.append(f'c{i},p{i},{image},,"{answer}"')
    file = folder / "数据.csv"
    file.write_text("\n".join(lines), encoding=encoding)
    return file


def test_files_written_beside_the_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = table(
        tmp_path,
        ("a.nii.gz", "右肺上叶结节１２ｍｍ。电话13812345678"),
        ("lost.nii.gz", "左肺结节。"),
        ("b.nii.gz", "扫码关注公众号"),
        encoding="gbk",
    )
    before = source.read_bytes()
    result = clean_file(CleanOptions(input=source, drop_missing_paths=True))
    assert source.read_bytes() == before
    assert result.output == tmp_path / "数据_clean.csv"
    assert result.output.read_bytes().startswith(b"\xef\xbb\xbf")
    assert [row.answer for row in load_rows(result.output)] == ["右肺上叶结节12mm。"]
    rejected = read_table(tmp_path / "数据_rejected.csv")
    assert list(rejected["filter"]) == ["missing_image", "empty"]
    assert list(rejected["answer"]) == ["左肺结节。", "扫码关注公众号"]  # as it was
    out = capsys.readouterr().out
    assert "3 rows, read as gbk" in out
    assert "2 rows rejected" in out


def test_a_table_that_would_fill_the_memory_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "huge.csv"
    with source.open("wb") as file:
        file.truncate(1 << 30)
    monkeypatch.setattr(clean, "LIMITS", Limits(memory_bytes=64 << 20))
    with pytest.raises(DataError, match=r"huge\.csv: reading it took more than 64 MiB") as caught:
        clean_file(CleanOptions(input=source))
    assert caught.value.code == "parse-limit"


def test_dry_run_says_the_same_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = table(tmp_path, ("a.nii.gz", "右肺上叶结节。"), ("b.nii.gz", ""))
    result = clean_file(CleanOptions(input=source, dry_run=True, drop_line_regex="[/x]"))
    assert (len(result.kept), len(result.rejected)) == (1, 1)
    assert list(tmp_path.glob("*.csv")) == [source]
    out = capsys.readouterr().out
    assert "lines with [/x]" in out
    assert "nothing written: 1 rows kept, 1 rejected" in out


def test_missing_images_are_an_error_unless_they_may_go(tmp_path: Path) -> None:
    lost = [(f"lost{i}.nii.gz", "右肺结节。") for i in range(7)]
    source = table(tmp_path, ("a.nii.gz", "右肺结节。"), *lost)
    with pytest.raises(ImageError) as caught:
        clean_file(CleanOptions(input=source))
    message = str(caught.value)
    assert "case c1" in message
    assert "7 of 8 rows" in message
    assert "lost4.nii.gz" in message
    assert "and 2 more" in message
    assert "--drop-missing-paths" in message
    assert list(tmp_path.glob("*.csv")) == [source]


def test_each_option_does_what_it_says(tmp_path: Path) -> None:
    source = table(
        tmp_path,
        ("a.nii.gz", "右肺上叶结节，边界清。\n审核医师：某\n肝囊肿。"),
        ("b.nii.gz", "未见异常。"),
        ("c.nii.gz", "肝囊肿，约2cm，边界清晰，未见强化，随诊。"),
        ("d.nii.gz", "左肺气肿，双侧胸膜增厚。"),
    )

    def cleaned(**options: object) -> dict[str, str]:
        result = clean_file(CleanOptions(input=source, dry_run=True, **options))  # type: ignore[arg-type]
        return dict(zip(result.kept["case_id"], result.kept["answer"], strict=True))

    assert set(cleaned()) == {"c0", "c1", "c2", "c3"}
    assert set(cleaned(drop_generic_only=True)) == {"c0", "c2", "c3"}
    assert set(cleaned(min_answer_chars=12)) == {"c0", "c2", "c3"}
    assert set(cleaned(require_keywords="结节|气肿")) == {"c0", "c3"}
    assert cleaned(thorax_only=True)["c0"] == "右肺上叶结节，边界清。\n审核医师：某"
    assert "c2" not in cleaned(thorax_only=True)
    assert cleaned(drop_line_regex="医师")["c0"] == "右肺上叶结节，边界清。\n肝囊肿。"
    assert cleaned(keep_line_regex="肺")["c0"] == "右肺上叶结节，边界清。"
    assert cleaned(force_numbered_prefix=True)["c3"] == "1.左肺气肿，双侧胸膜增厚。"


def test_the_same_words_on_two_images_are_no_duplicate(tmp_path: Path) -> None:
    said = "双肺气肿，余肺未见结节。"
    source = table(tmp_path, ("a.nii.gz", said), ("b.nii.gz", said), ("a.nii.gz", f" {said} "))
    result = clean_file(CleanOptions(input=source, dry_run=True))
    assert list(result.kept["case_id"]) == ["c0", "c1"]
    assert list(result.rejected["reason"]) == ["the same image and answer as case c0 above"]


def test_relative_images_follow_the_output(tmp_path: Path) -> None:
    source = table(tmp_path, ("a.nii.gz", "右肺结节。"))
    result = clean_file(CleanOptions(input=source, output=tmp_path / "new" / "x.csv"))
    assert result.output is not None
    assert load_rows(result.output)[0].image_path.resolve() == tmp_path / "a.nii.gz"
    assert (tmp_path / "new" / "x_rejected.csv").is_file()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, ConfigError, "--input is not given"),
        ({"input": "数据.csv", "output": "数据.csv"}, ConfigError, "overwrite the input"),
        ({"input": "数据.csv", "min_answer_chars": 99}, DataError, "no row of 1 is left"),
        ({"input": "x.csv"}, DataError, "no such file"),
    ],
)
def test_refusals(
    options: dict[str, object],
    error: type[CtscribeError],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = table(tmp_path, ("a.nii.gz", "右肺结节。"))
    monkeypatch.chdir(tmp_path)
    paths = {k: Path(str(v)) if k in ("input", "output") else v for k, v in options.items()}
    with pytest.raises(error, match=says):
        clean_file(CleanOptions(**paths))  # type: ignore[arg-type]
    assert list(tmp_path.glob("*.csv")) == [source]


def test_a_bad_pattern_names_its_flag() -> None:
    with pytest.raises(ConfigError, match="--drop-line-regex is"):
        CleanOptions(drop_line_regex="(")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"filters": "phone,phones"}, "--filters names phones, which is no filter"),
        ({"skip_filters": "x, y"}, "--skip-filters names x, y, which is no filter"),
        ({"filters": "keep_line"}, "needs --keep-line-regex"),
        ({"filters": "min-answer-chars"}, "needs --min-answer-chars"),
    ],
)
def test_unknown_filters_and_missing_parameters(options: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        CleanOptions(**options)  # type: ignore[arg-type]
    if "no filter" in says:
        assert "near_duplicate" in str(caught.value)  # the known ones are listed


def test_which_filters_run_and_in_which_order() -> None:
    default = [name for name, flag in FILTERS.items() if not flag]
    assert CleanOptions().wanted() == default
    assert CleanOptions(filters="duplicate，phone, thorax-only").wanted() == [
        "phone",
        "thorax_only",
        "duplicate",
    ]
    assert CleanOptions(filters="phone", drop_generic_only=True).wanted() == [
        "phone",
        "generic_only",
    ]
    skipped = CleanOptions(skip_filters="phone,generic_only", drop_generic_only=True).wanted()
    assert skipped == [name for name in default if name != "phone"]


def test_skipped_filters_leave_their_dirt(tmp_path: Path) -> None:
    source = table(tmp_path, ("lost.nii.gz", "右肺结节１２ｍｍ。电话13812345678"))
    result = clean_file(CleanOptions(input=source, filters="sex_age", dry_run=True))
    assert list(result.kept["answer"]) == ["右肺结节１２ｍｍ。电话13812345678"]
    with pytest.raises(ConfigError, match="deidentify is asked for"):
        clean_file(CleanOptions(input=source, deidentify=True))


def anonymous() -> Filter:
    """As a de-identifying filter is: it reads the row's own columns."""
    return Filter(
        "deidentify",
        "names",
        edit_row=lambda row: row.answer.replace(row.cells["name"], "[姓名]"),
        private=True,
    )


def test_a_filter_of_the_callers_and_what_it_takes_out_is_shown_nowhere(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text(
        "case_id,image_path,answer,name\nc1,a.nii,患者王小明，右肺　，结节。,王小明\n"
        "c2,b.nii,王小明左肺__mm,王小明\n",
        encoding="utf-8",
    )
    options = CleanOptions(input=source, deidentify=True, skip_filters="missing_image")
    result = clean_file(options, [anonymous()])
    assert list(result.kept["answer"]) == ["患者[姓名]，右肺，结节。"]
    assert list(result.changes["filter"]) == ["deidentify", "characters", "deidentify"]
    assert list(result.rejected["answer"]) == ["王小明左肺__mm"]  # nothing is lost
    for name in ("a_changes.csv", "a_diff.html"):
        said = (tmp_path / name).read_text(encoding="utf-8-sig")
        assert "王小明" not in said
        assert "███" in said


def test_changes_and_their_page(tmp_path: Path) -> None:
    source = table(
        tmp_path,
        ("a.nii.gz", "右肺<b>结节１２ｍｍ。电话13812345678"),
        ("b.nii.gz", "双肺清晰。"),
        ("c.nii.gz", "结节大小__mm <script>"),
    )
    result = clean_file(CleanOptions(input=source))
    changes = read_any(tmp_path / "数据_changes.csv")
    assert list(changes.columns) == ["row", "case_id", "filter", "before", "after"]
    assert changes.to_dict("list") == {k: [str(v) for v in vs] for k, vs in result.changes.items()}
    assert list(changes["row"]) == ["2", "2"]
    page = (tmp_path / "数据_diff.html").read_text(encoding="utf-8")
    assert "<del>电话13812345678</del>" in page
    assert "<ins>12mm</ins>" in page
    assert "&lt;b&gt;" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "a template was not filled in: __" in page
    assert "电话号码" in page  # what each filter does, in the page's language


def test_the_page_shows_the_first_and_counts_the_rest(tmp_path: Path) -> None:
    rows = [(f"{n}.nii.gz", f"结节{n}ｍｍ。") for n in range(LISTED_CHANGES + 7)]
    clean_file(CleanOptions(input=table(tmp_path, *rows)))
    page = (tmp_path / "数据_diff.html").read_text(encoding="utf-8")
    assert page.count("<ins>mm</ins>") == LISTED_CHANGES
    assert "7 more changes are in _changes.csv" in page


def test_a_dry_run_shows_examples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(f"{n}.nii.gz", f"结节{n}mm，电话13812345678。") for n in range(5)]
    source = table(tmp_path, *rows, ("x.nii.gz", "结节__mm"))
    clean_file(CleanOptions(input=source, dry_run=True))
    out = capsys.readouterr().out
    assert out.count(" becomes ") == 3
    assert "placeholder, row 7: dropped, a template was not filled in: __" in out
    assert "not run: deidentify (--deidentify), normalise (--normalise), drop_line" in out
    assert sorted(p.name for p in tmp_path.glob("数据*")) == ["数据.csv"]


def test_near_duplicates_name_the_other_case(tmp_path: Path) -> None:
    said = (
        "右肺上叶尖段见一枚实性结节，大小约14×11mm，边界清晰，余肺野清晰，双侧胸腔未见积液及气胸，"
        "气管通畅，纵隔内未见肿大淋巴结，心影不大，所示骨质未见异常。"
    )
    rows = (
        ("a.nii", said),
        ("b.nii", said.replace("边界清晰", "边界较清晰")),
        ("c.nii", "双肺清晰。"),
    )
    source = table(tmp_path, *rows, ("d.nii", "双肺清晰。"))
    assert len(clean_file(CleanOptions(input=source, dry_run=True)).rejected) == 0
    result = clean_file(CleanOptions(input=source, dry_run=True, drop_near_duplicates=True))
    (reason,) = result.rejected["reason"]
    assert re.fullmatch(r"\d\d% the measured report of case c0 above: whose is it\?", reason)


# ------------------------------------------------------------------------------ for any table

LABELLED = json.loads((Path(__file__).parent / "labelled_texts.json").read_text(encoding="utf-8"))
PARTS = sorted({row["text"] for row in LABELLED if len(row["text"]) < 80})
TEXT = st.one_of(
    st.text(max_size=40),
    st.text(
        alphabet="右肺结节。，；、\n \r\t,\"'12mm.:：电话13812345678男岁?_左/×()（）", max_size=60
    ),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("".join),
    st.lists(st.sampled_from(PARTS), min_size=2, max_size=3).map("，".join),
    st.sampled_from(PARTS).map(lambda text: text * 30),
)
CHOICE = st.sets(
    st.sampled_from([name for name in FILTERS if name not in ("deidentify", "normalise")]),
    min_size=1,
)


def options_for(names: Iterable[str]) -> CleanOptions:
    return CleanOptions(
        filters=",".join(names),
        skip_filters=",".join(set(FILTERS) - set(names)),
        drop_missing_paths=True,
        min_answer_chars=3,
        require_keywords="肺|结节|lung|nodule|[a-z]",
        drop_line_regex="医师|signed",
        keep_line_regex="肺|结|[a-z]",
    )


def frame_of(answers: list[str], folder: Path) -> pd.DataFrame:
    (folder / "here.nii").write_bytes(b"x")
    rows = [
        (f"c{n}", f"p{n}", "here.nii" if n % 3 else "lost.nii", "", answer)
        for n, answer in enumerate(answers, 1)
    ]
    names = pd.Index(["case_id", "patient_id", "image_path", "question", "answer"])
    return pd.DataFrame(rows, columns=names, dtype=object)


@given(st.lists(TEXT, max_size=6), CHOICE)
@settings(max_examples=300, deadline=None)
def test_no_row_is_lost_and_cleaning_again_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, answers: list[str], names: set[str]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    frame = frame_of(answers, folder)
    result = clean_table(frame, options_for(names), folder)
    again = sorted([*result.kept["case_id"], *result.rejected["case_id"]])
    assert again == sorted(frame["case_id"])
    assert list(frame["answer"]) == answers
    as_read = dict(zip(frame["case_id"], answers, strict=True))
    assert [as_read[c] for c in result.rejected["case_id"]] == list(result.rejected["answer"])
    twice = clean_table(result.kept, options_for(names), folder)
    assert list(twice.kept["answer"]) == list(result.kept["answer"])
    assert len(twice.rejected) == len(twice.changes) == 0


@given(TEXT, CHOICE)
@settings(max_examples=300, deadline=None)
def test_no_filter_adds_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, names: set[str]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    adding = {"numbered_prefix", "encoding_damage"}
    options = options_for((names - adding) or {"characters"})
    result = clean_table(frame_of([text], folder), options, folder)
    for answer in result.kept["answer"]:
        assert any(is_left_of(before, answer) for before in (text, tidy(text))), answer


def is_left_of(before: str, after: str) -> bool:
    """Whether all that is in `after` was in `before`, in this order; spaces do not count."""
    left = iter("".join(before.split()))
    return all(character in left for character in "".join(after.split()))


@given(TEXT, TEXT)
def test_the_pieces_of_a_change_are_its_two_texts(before: str, after: str) -> None:
    found = pieces(before, after)
    assert "".join(p.text for p in found if p.kind != "ins") == before
    assert "".join(p.text for p in found if p.kind != "del") == after
