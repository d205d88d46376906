from __future__ import annotations

import logging
import random
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_charset_files
from pydicom.dataset import Dataset

from ctscribe.errors import CtscribeError, ImageError
from ctscribe.imaging.dicom import Scan, read_series, scan_files, studies
from ctscribe.phantom import dicom as phantom
from tests.imaging.series import assert_same, only_series, read, refusal, scan, small


def codes(found: Scan) -> dict[str, str]:
    """File name to the code of its problem."""
    return {Path(problem.file).name: problem.code for problem in found.problems}


def test_series_studies_and_patients_are_told_apart(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path / "a")
    phantom.write_series(small(), tmp_path / "a", number=2, name="second{:04d}.dcm")
    phantom.write_series(small(), tmp_path / "b", study=phantom.Study(1, "P0002"))
    phantom.write_series(small(), tmp_path / "c", study=phantom.Study(2))
    found = scan(tmp_path)
    assert found.problems == ()
    assert sorted(len(group) for group in studies(found)) == [1, 1, 2]
    assert len({series.patient_key for series in found.series}) == 2
    assert all(series.n_slices == 12 for series in found.series)


def test_one_uid_of_two_patients_is_two_series(tmp_path: Path) -> None:
    for number, patient in enumerate(("P0001", "P0002")):
        tags = {"PatientID": patient}
        phantom.write_series(small(), tmp_path, name=f"{number}{{:04d}}.dcm", tags=tags)
    assert [series.n_slices for series in scan(tmp_path).series] == [12, 12]


def test_what_a_series_says_of_itself_is_read(tmp_path: Path) -> None:
    tags = {"ProtocolName": "Thorax 扫描", "StudyDescription": "胸部CT平扫"}
    phantom.write_series(small(), tmp_path, tags=tags)
    series = only_series(tmp_path)
    assert (series.study_description, series.protocol) == ("胸部CT平扫", "Thorax 扫描")
    assert (series.accession, series.patient_id, series.study_date) == (
        "A0001",
        "P0001",
        "20240131",
    )
    assert (series.body_part, series.kernel, series.modality) == ("CHEST", "B31f", "CT")
    assert series.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert series.study_uid == phantom.Study().uid
    assert series.thickness_mm == 2.5


def test_no_name_or_id_shows_where_a_series_is_printed(tmp_path: Path) -> None:
    study = phantom.Study(patient_name="Zhang^San=张^三", patient_id="ID777", accession="ACC888")
    phantom.write_series(small(), tmp_path, study=study)
    found = scan(tmp_path)
    shown = repr(found) + repr(read_series(found.series[0]).problems)
    assert not [word for word in ("Zhang", "张", "ID777", "ACC888") if word in shown]
    shown_by_attribute = repr(vars(found.series[0]))
    assert "Zhang" not in shown_by_attribute


def test_patients_without_an_id_are_told_apart_by_their_names(tmp_path: Path) -> None:
    for number, name in enumerate(("Li^Si", "Wang^Wu", "Li^Si")):
        study = phantom.Study(number, "", name)
        phantom.write_series(small(), tmp_path / str(number), study=study)
    keys = [series.patient_key for series in scan(tmp_path).series]
    assert keys[0] == keys[2] != keys[1]
    assert all(keys)


EMPTY_UIDS = {"StudyInstanceUID": "", "SeriesInstanceUID": "", "SOPInstanceUID": ""}


def test_one_uid_of_persons_without_an_id_is_two_series_and_one_id_is_one_person(
    tmp_path: Path,
) -> None:
    def change(data: Dataset, index: int) -> None:
        data.PatientID = "" if folder == "born" else "P7"
        data.PatientName = "Li^Si" if folder == "born" or index < 6 else "李^四"
        data.PatientBirthDate = "19600101" if index < 6 else "19610101"

    for folder in ("born", "named"):
        phantom.write_series(small(), tmp_path / folder, change=change)
    born = scan(tmp_path / "born")
    assert [len(s.instances) for s in born.series] == [6, 6]
    assert len(studies(born)) == 2
    assert [len(s.instances) for s in scan(tmp_path / "named").series] == [12]


def test_empty_uids_are_grouped_by_their_other_fields(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path / "a", tags=EMPTY_UIDS)
    phantom.write_series(
        small(), tmp_path / "a", number=2, kernel="B70f", name="x{:04d}", tags=EMPTY_UIDS
    )
    phantom.write_series(small(), tmp_path / "b", tags=EMPTY_UIDS)
    found = scan(tmp_path)
    assert [series.n_slices for series in found.series] == [12, 12, 12]
    assert [len(group) for group in studies(found)] == [2, 1]
    assert {problem.code for problem in found.problems} == {"uid-missing"}
    assert len(found.problems) == 3
    assert "study, series, instance (12 of 12)" in found.problems[0].detail
    for series in found.series:
        assert_same(read_series(series).volume, small())


@pytest.mark.parametrize(
    "apart",
    [
        {"ConvolutionKernel": "B70f"},
        {"AccessionNumber": "A0002"},
        {"StudyDate": "20250101"},
        {"SeriesDescription": "Lung"},
        {"SeriesNumber": 7},
        {"Modality": "OT"},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]},
    ],
    ids=str,
)
def test_without_uids_any_other_field_tells_two_series_apart(
    apart: dict[str, Any], tmp_path: Path
) -> None:
    phantom.write_series(small(), tmp_path, tags=EMPTY_UIDS)
    phantom.write_series(small(), tmp_path, name="x{:04d}", tags={**EMPTY_UIDS, **apart})
    found = scan(tmp_path)
    assert [series.n_slices for series in found.series] == [12, 12]
    of_study = bool({"AccessionNumber", "StudyDate"} & set(apart))
    assert len(studies(found)) == 1 + of_study


def test_without_uids_rounding_does_not_tell_slices_apart_but_size_does(tmp_path: Path) -> None:
    def rounded(data: Dataset, index: int) -> None:
        data.ImageOrientationPatient = ["1", "0", "0", "0", "1", ("0", "0.00001")[index % 2]]

    phantom.write_series(small(), tmp_path, tags=EMPTY_UIDS, change=rounded)
    assert [series.n_slices for series in scan(tmp_path).series] == [12]
    phantom.write_series(small((12, 9, 15)), tmp_path, name="x{:04d}", tags=EMPTY_UIDS)
    assert [series.n_slices for series in scan(tmp_path).series] == [12, 12]


def test_what_is_no_image_is_left_out_with_a_reason(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path)
    phantom.write_dose_report(tmp_path)
    phantom.write_dicomdir(tmp_path, [("CT0000.DCM",), ("IMAGES", "IM1")])
    (tmp_path / "notes.txt").write_text("no image " * 50)
    (tmp_path / "run.exe").write_bytes(b"MZ" + bytes(500))
    (tmp_path / "short").write_bytes(b"DICM")
    found = scan(tmp_path)
    assert found.problems == ()
    assert {left.file.name: left.reason for left in found.left_out} == {
        "notes.txt": "not DICOM",
        "run.exe": "not DICOM",
        "short": "not DICOM",
        "dose92.dcm": "no image but X-Ray Radiation Dose SR Storage",
        "DICOMDIR": "a DICOMDIR, which only lists other files",
    }
    (series,) = found.series
    assert series.n_slices == 12


def test_localizers_and_captures_are_series_of_their_own(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path)
    localizer = phantom.write_localizer(tmp_path)
    phantom.write_secondary_capture(tmp_path)
    found = scan(tmp_path)
    assert sorted(series.n_slices for series in found.series) == [1, 1, 12]
    # Even where an old scanner files its localizer under the series itself.
    data = localizer.read_bytes()
    study = phantom.Study()
    own, others = (phantom.uid_of("series", study.seed, study.patient_id, n) for n in (90, 1))
    assert data.count(own.encode()) == 1
    localizer.unlink()
    tags = {"SeriesInstanceUID": others}
    phantom.write_localizer(tmp_path, study=phantom.Study(tags=tags))
    series = max(scan(tmp_path).series, key=lambda one: one.n_slices)
    assert series.n_slices == 12
    assert_same(read_series(series).volume, small())


@pytest.mark.parametrize(("preamble", "kind"), [(b"MZ\x90\0", "MZ"), (b"\x7fELF\x02\x01", "ELF")])
def test_a_preamble_that_is_a_program_is_refused(
    preamble: bytes, kind: str, tmp_path: Path
) -> None:
    phantom.write_series(small(), tmp_path, skip=(11,))
    others = range(11)
    phantom.write_series(small(), tmp_path, skip=others, preamble=preamble)
    found = scan(tmp_path)
    assert codes(found) == {"CT0011.dcm": "executable-preamble"}
    assert kind in found.problems[0].detail
    # Its slice is of the series, which is not read without it.
    error = refusal(tmp_path)
    assert (error.code, error.file) == ("executable-preamble", str(tmp_path / "CT0011.dcm"))


@pytest.mark.parametrize(
    "reference",
    [
        ("..", "..", "SECRET"),
        ("IMAGES", "..", "X"),
        ("", "etc", "passwd"),
        ("C:", "X"),
        ("a/../b",),
    ],
)
def test_a_dicomdir_that_leads_outside_is_refused(
    reference: tuple[str, ...], tmp_path: Path
) -> None:
    phantom.write_series(small(), tmp_path)
    phantom.write_dicomdir(tmp_path, [("IMAGES", "IM1"), reference])
    found = scan(tmp_path)
    assert codes(found) == {"DICOMDIR": "dicomdir-outside"}
    assert_same(read_series(found.series[0]).volume, small())


def changed(at: int, **values: Any) -> Callable[[Dataset, int], None]:
    def change(data: Dataset, index: int) -> None:
        if index == at:
            for keyword, value in values.items():
                if value is None:
                    delattr(data, keyword)
                else:
                    setattr(data, keyword, value)

    return change


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        ({"Rows": 65535, "Columns": 65535}, "too-large", "65535 x 65535"),
        ({"NumberOfFrames": "2147483647"}, "too-large", "2147483647"),
        ({"NumberOfFrames": "100000"}, "too-large", "100000"),
        ({"Rows": 20000, "Columns": 20000}, "too-large", "20000 x 20000"),
        ({"Rows": 300, "Columns": 300, "NumberOfFrames": "60000"}, "too-large", "60000 x 300"),
        ({"SamplesPerPixel": 5}, "too-large", "promises"),
        ({"NumberOfFrames": "-1"}, "unreadable", "frames"),
        ({"Rows": 0}, "unreadable", "promises"),
        ({"Rows": 64}, "unreadable", "truncated"),
        ({"PixelData": b""}, "unreadable", "truncated"),
        ({"PixelData": None}, "unreadable", "no pixel data"),
        ({"PixelData": None, "DataSetTrailingPadding": bytes(2000)}, "unreadable", "no pixel data"),
        ({"ModalityLUTSequence": [Dataset()]}, "unreadable", "look-up table"),
        ({"BitsStored": 0}, "unreadable", "0 bits"),
        ({"HighBit": 3}, "unreadable", "the highest 3"),
        ({"RescaleSlope": "0"}, "unreadable", "RescaleSlope is 0"),
        ({"RescaleSlope": "1e300"}, "unreadable", "RescaleSlope"),
        ({"RescaleIntercept": "1e9"}, "unreadable", "RescaleIntercept"),
        ({"RescaleIntercept": "nan"}, "unreadable", "RescaleIntercept"),
        ({"ImagePositionPatient": ["1", "2"]}, "unreadable", "ImagePositionPatient"),
        ({"ImagePositionPatient": ["1", "2", "1e30"]}, "unreadable", "ImagePositionPatient"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_each_broken_file_is_named_and_its_series_not_read_without_it(
    values: dict[str, Any], code: str, words: str, tmp_path: Path
) -> None:
    phantom.write_series(small(), tmp_path / "bad", change=changed(11, **values))
    phantom.write_series(small(), tmp_path / "good", study=phantom.Study(1, "P0002"))
    found = scan(tmp_path)
    assert codes(found) == {"CT0011.dcm": code}
    assert words in found.problems[0].detail
    bad, good = found.series
    assert_same(read_series(good).volume, small())
    with pytest.raises(ImageError, match=r"CT0011\.dcm") as caught:
        read_series(bad)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"\xe0\x7f\x10\0OW", b"\xe0\x7f\x10\0OF", "of no known kind"),
        (b"\x28\0\x10\0US\x02\0\x09\0", b"\x28\0\x10\0DS\x02\0.5", "Rows is no whole number"),
    ],
)
def test_elements_of_a_wrong_type_are_refused(
    old: bytes, new: bytes, words: str, tmp_path: Path
) -> None:
    path = phantom.write_series(small(), tmp_path, skip=range(1, 12))[0]
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    (problem,) = scan(tmp_path).problems
    assert problem.code == "unreadable"
    assert words in problem.detail


def test_compressed_pixels_that_are_cut_off_whole_are_a_problem(tmp_path: Path) -> None:
    path = phantom.write_series(small(), tmp_path, skip=range(1, 12), syntax=phantom.RLE)[0]
    data = path.read_bytes()
    start = data.index(b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff") + 12
    path.write_bytes(data[:start])
    (problem,) = scan(tmp_path).problems
    assert "its pixel data is empty" in problem.detail


@pytest.mark.parametrize(
    ("said", "lossy"), [(None, True), ("00", False), ("01", True), ("", True)], ids=str
)
def test_jpeg_2000_that_may_be_lossy_is_unless_the_header_denies_it(
    said: str | None, lossy: bool, tmp_path: Path
) -> None:
    tags = {} if said is None else {"LossyImageCompression": said}
    path = phantom.write_series(
        small(), tmp_path, skip=range(1, 12), syntax=phantom.JPEG_2000, tags=tags
    )[0]
    data = path.read_bytes()
    assert data.count(b"1.2.840.10008.1.2.4.90") == 1
    path.write_bytes(data.replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.91"))
    (series,) = scan(tmp_path).series
    assert series.instances[0].pixels.lossy is lossy


def test_a_ct_without_class_and_pixels_is_a_problem(tmp_path: Path) -> None:
    change = changed(0, PixelData=None, SOPClassUID=None)
    phantom.write_series(small(), tmp_path, skip=range(1, 12), change=change)
    (problem,) = scan(tmp_path).problems
    assert "no pixel data" in problem.detail


def test_frames_without_a_place_are_not_read(tmp_path: Path) -> None:
    phantom.write_enhanced(small(), tmp_path / "a.dcm", tags={"NumberOfFrames": "11"})
    (problem,) = scan(tmp_path).problems
    assert problem.detail == "it has 11 frames, but its header tells of 12"


def test_text_that_should_be_numbers_is_not_quoted(tmp_path: Path) -> None:
    paths = phantom.write_series(small(), tmp_path, tags={"RescaleSlope": "1.2345"})
    data = paths[3].read_bytes()
    assert data.count(b"1.2345") == 1
    paths[3].write_bytes(data.replace(b"1.2345", b"Zhang "))
    (problem,) = scan(tmp_path).problems
    assert "RescaleSlope" in problem.detail
    assert "Zhang" not in problem.detail
    assert logging.getLogger("pydicom").level == logging.CRITICAL  # it would quote it


def test_empty_and_missing_files_are_problems(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path)
    (tmp_path / "zero.dcm").write_bytes(b"")
    found = scan_files([*tmp_path.iterdir(), tmp_path / "none.dcm", tmp_path])
    assert codes(found) == {
        "zero.dcm": "unreadable",
        "none.dcm": "missing",
        tmp_path.name: "unreadable",
    }


def test_a_header_cut_off_anywhere_is_typed(tmp_path: Path) -> None:
    path = phantom.write_series(small(), tmp_path, skip=range(1, 12))[0]
    data = path.read_bytes()
    for length in range(0, len(data) - 1, 7):
        path.write_bytes(data[:length])
        found = scan_files([path])
        assert not found.series, length
        assert found.problems or length < 132, length


def test_a_deflated_bomb_is_refused_before_it_is_inflated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctscribe.imaging.dicom_header.MOST_INFLATED_BYTES", 1 << 20)
    path = phantom.write_series(small(), tmp_path, skip=range(1, 12), syntax=phantom.DEFLATED)[0]
    data = path.read_bytes()
    (group_length,) = struct.unpack_from("<L", data, 140)
    start = 144 + group_length
    inner = zlib.decompress(data[start:], -15)
    deflater = zlib.compressobj(9, wbits=-15)
    path.write_bytes(data[:start] + deflater.compress(inner + bytes(8 << 20)) + deflater.flush())
    assert codes(scan_files([path])) == {"CT0000.dcm": "too-large"}


def test_files_without_preamble_or_meta_are_read(tmp_path: Path) -> None:
    """As old archives and network captures leave them."""
    for syntax in (phantom.IMPLICIT, phantom.EXPLICIT, phantom.BIG_ENDIAN):
        folder = tmp_path / syntax
        for path in phantom.write_series(small(), folder, syntax=syntax):
            data = path.read_bytes()
            (group_length,) = struct.unpack_from("<L", data, 140)
            path.write_bytes(data[144 + group_length :])
        assert_same(read(folder).volume, small())


@pytest.mark.parametrize(
    "file", [Path(str(f)) for f in get_charset_files("*.dcm")], ids=lambda f: f.name
)
def test_names_of_every_character_set_are_passed_over(file: Path) -> None:
    found = scan_files([file])
    assert all(series.patient_key for series in found.series)
    if file.stem.startswith("chrSQ"):  # fragments without a class
        assert [problem.code for problem in found.problems] == ["unreadable"]
    else:
        assert (len(found.series) + len(found.left_out), found.problems) == (1, ())


def test_a_chinese_description_in_gb18030_is_read_and_an_unknown_set_does_no_harm(
    tmp_path: Path,
) -> None:
    tags = {
        "SpecificCharacterSet": "GB18030",
        "SeriesDescription": "胸部平扫",
        "PatientName": "张^三",
    }
    phantom.write_series(small(), tmp_path / "a", tags=tags)
    assert only_series(tmp_path / "a").description == "胸部平扫"
    paths = phantom.write_series(small(), tmp_path / "b")
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"ISO_IR 192", b"ISO_XX 999"))
    assert_same(read(tmp_path / "b").volume, small())


@pytest.mark.parametrize("syntax", [phantom.EXPLICIT, phantom.RLE, phantom.DEFLATED])
def test_files_that_vanish_or_shrink_after_the_scan_are_typed_errors(
    syntax: str, tmp_path: Path
) -> None:
    paths = phantom.write_series(small(), tmp_path, syntax=syntax)
    series = only_series(tmp_path)
    data = paths[5].read_bytes()
    for content in (data[:-40], data[:200], b""):
        paths[5].write_bytes(content)
        with pytest.raises(ImageError, match=r"CT0005\.dcm") as caught:
            read_series(series)
        assert caught.value.code == "unreadable"
    paths[5].unlink()
    with pytest.raises(ImageError, match="cannot be read"):
        read_series(series)


def test_progress_counts_files(tmp_path: Path) -> None:
    phantom.write_series(small(), tmp_path)
    steps: list[int] = []
    scan_files(tmp_path.iterdir(), progress=steps.append)
    assert steps == [1] * 12


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bytes_end_in_typed_errors_alone(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    syntax = (phantom.EXPLICIT, phantom.IMPLICIT, phantom.RLE)[seed]
    paths = phantom.write_series(small((3, 9, 14)), tmp_path, syntax=syntax)
    originals = [path.read_bytes() for path in paths]
    for _ in range(60):
        for path, data in zip(paths, originals, strict=True):
            damaged = bytearray(data)
            for _ in range(rng.choice((0, 1, 1, 3, 20))):
                damaged[rng.randrange(128, len(data))] = rng.randrange(256)
            path.write_bytes(damaged)
        for series in scan_files(paths).series:
            with suppress(CtscribeError):
                read_series(series)
