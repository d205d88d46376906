"""What two parts share: each kind is found, named, and refused; templates are not."""

from pathlib import Path

import pytest

from ctscribe.errors import DataError
from ctscribe.tables.leaks import check_leaks, refuse_leaks
from ctscribe.tables.manifest import Row

LONG = (
    "所见：右肺上叶见一枚实性结节，大小约14×11mm，边界清晰。双侧胸腔未见积液及气胸，气管通畅，"
    "纵隔淋巴结无肿大，心影不大。\n结论：右上肺占位性病变。\n建议：3个月后复查薄层CT。"
)
NORMAL = (
    "所见：双肺野清晰，未见异常密度影，无胸腔积液，无气胸。纵隔淋巴结无肿大。心影不大，心包无积液。"
    "骨窗未见骨质破坏。气管及主支气管通畅。\n结论：胸部CT平扫未见明显异常。\n建议：定期体检。"
)


def row(case: str, patient: str, answer: str = "结节", image: str = "") -> Row:
    return Row(case, patient, Path(image or f"{case}.nii"), "", answer)


def refused(train: Row, test: Row, images: dict[Path, str], code: str) -> DataError:
    with pytest.raises(DataError) as caught:
        refuse_leaks(check_leaks({"train": [train], "test": [test]}, images))
    assert caught.value.code == code
    for part in ("a in train", "b in test", "1 "):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


def test_parts_that_share_nothing() -> None:
    parts = {
        "train": [row("a", "p1", LONG), row("c", "p3", NORMAL)],
        "val": [row("d", "p4", NORMAL), row("e", "p5", "右肺上叶结节8mm。")],
        # Another size is another study; short reports and templates are said of many patients.
        "test": [
            row("b", "p2", LONG.replace("14×11", "15×11")),
            row("f", "p6", NORMAL),
            row("g", "p7", "右肺上叶结节8mm。"),
        ],
    }
    assert check_leaks(parts, {}) == []
    refuse_leaks([])


@pytest.mark.parametrize("other", ["p1", "P1", "ｐ１", "p 1 "])
def test_a_patient_in_two_parts(other: str) -> None:
    error = refused(row("a", "p1"), row("b", other), {}, "patient-leak")
    assert error.fix == "split anew with ctscribe split"


def test_an_image_in_two_parts() -> None:
    images = {Path("a.nii"): "same", Path("b.nii"): "same"}
    refused(row("a", "p1"), row("b", "p2"), images, "image-duplicate")
    refused(row("a", "p1", image="x.nii"), row("b", "p2", image="x.nii"), {}, "image-duplicate")
    apart = {"train": [row("a", "p1")], "test": [row("b", "p2")]}
    assert check_leaks(apart, {Path("a.nii"): "one", Path("b.nii"): "two"}) == []
    assert check_leaks(apart, None) == []
    (leak,) = check_leaks(apart, images)
    assert (leak.what, str(leak)) == ("a.nii", "a.nii: a (train) and b (test)")


def test_a_measured_report_in_two_parts() -> None:
    one, two = row("a", "p1", LONG), row("b", "p2", LONG.replace("心影不大", "心影大小正常"))
    error = refused(one, two, {}, "report-duplicate")
    assert "--allow-similar-reports" in error.fix
    found = check_leaks({"train": [one], "test": [two]}, {})
    assert str(found[0]) == "reports 82% alike: a (train) and b (test)"
    refuse_leaks(found, allow_similar_reports=True)
    also = check_leaks({"train": [one], "test": [two, row("c", "P1")]}, {})
    with pytest.raises(DataError, match="patient"):
        refuse_leaks(also, allow_similar_reports=True)
    assert check_leaks({"train": [one, two]}, {}) == []  # in one part it tells nothing


def test_all_leaks_are_counted_and_five_are_named() -> None:
    parts = {p: [row(f"{p}{i}", f"p{i}") for i in range(7)] for p in ("fold0", "fold1", "fold2")}
    leaks = check_leaks(parts, {})
    assert len(leaks) == 3 * 7
    with pytest.raises(DataError, match=r"21 patients stand in two parts.* and 16 more") as caught:
        refuse_leaks(leaks)
    assert caught.value.reason.count("(fold") == 5
    with pytest.raises(DataError, match="5 patients stand") as caught:
        refuse_leaks(leaks[:5])
    assert "more" not in caught.value.reason
