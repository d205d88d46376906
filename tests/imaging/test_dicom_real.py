"""Files that scanners and archives wrote. Those not in the project are fetched, or skipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_charset_files, get_testdata_file

from ctscribe.errors import DataError, ImageError
from ctscribe.imaging import sample
from ctscribe.imaging.checks import check_chest
from ctscribe.imaging.dicom import choose_series, read_series, scan_files, studies
from ctscribe.imaging.dicom_pixels import COMPRESSED, hu_of, require_decodable
from ctscribe.phantom import dicom as phantom

ENCODINGS = Path(__file__).parents[3] / "shared" / "data" / "dicom_encodings"
LOSSY = {"50", "51", "53", "55", "81", "91"}


def fetched(fetch: Callable[[], object]) -> object:
    try:
        return fetch()
    except DataError as error:
        if "could not be downloaded" in error.reason:
            pytest.skip(f"the sample cannot be fetched here: {error.reason[:200]}")
        raise


def hu(path: Path) -> tuple[np.ndarray, bool]:
    """A file's one slice in HU, and whether it was compressed with loss."""
    (series,) = scan_files([path]).series
    require_decodable(series, None)
    one = series.instances[0]
    room = np.empty((one.pixels.rows, one.pixels.columns), np.int16)
    fractions = hu_of(one, room)
    return (room if fractions is None else fractions), one.pixels.lossy


@pytest.mark.skipif(not ENCODINGS.is_dir(), reason="no ../shared/data beside the repository")
def test_one_slice_in_fifteen_syntaxes_is_the_same_in_hu() -> None:
    original, _ = hu(ENCODINGS / "CTImage.dcm")
    assert (original.min(), original.max()) == (-2000 - 1024, 2402 - 1024)  # padding as it is
    files = sorted(ENCODINGS.glob("CTImage.dcm_*.dcm"))
    assert len(files) == 15
    seen = set()
    for file in files:
        found, lossy = hu(file)
        ending = file.name.removesuffix(".dcm").split(".")[-1]
        compared = "1.2.840.10008.1.2.4." in file.name and ending in LOSSY
        assert lossy == compared, file.name
        off = np.abs(found - np.maximum(original, found.min()).astype(np.float32))
        # Near-lossless by one; JPEG of 12 bits at a slope of 2, of 8 bits at a slope of 32.
        most, mean = {"81": (1, 1), "91": (5, 1), "50": (65, 20)}.get(ending, (36, 4))
        assert off.max() <= (most if lossy else 0), file.name
        assert off.mean() <= (mean if lossy else 0), file.name
        seen.add(file.name.removesuffix(".dcm").split("_")[-1])
    assert seen >= COMPRESSED
    assert seen >= {phantom.IMPLICIT, phantom.EXPLICIT, phantom.DEFLATED, phantom.BIG_ENDIAN}


def test_a_series_with_empty_uids_and_a_thickness_that_is_not_the_step() -> None:
    paths = fetched(sample.fetch_dicom)
    assert isinstance(paths, list)
    found = scan_files(paths)
    (series,) = found.series
    assert [problem.code for problem in found.problems] == ["uid-missing"]
    assert (series.series_uid, series.thickness_mm) == ("", 3.0)
    read = read_series(series)
    assert read.problems == ()
    assert read.volume.array_zyx.shape == (20, 512, 512)
    assert read.volume.spacing_zyx_mm == (2.0, 0.976562, 0.976562)
    assert (read.volume.array_zyx.min(), read.volume.array_zyx.max()) == (-1024, 1839)
    # The patient lies on the back, so the table is at low y, and the spine before it.
    profile = (read.volume.array_zyx > 300).sum((0, 2))
    assert profile[:256].sum() > profile[256:].sum()
    assert not check_chest(read.volume).ok
    choice = choose_series([series])
    assert choice.chosen is None
    assert "cover only 38 mm" in choice.why


def test_multi_frame_ct_is_read_and_is_no_chest() -> None:
    found = fetched(sample.fetch_other_dicom)
    assert isinstance(found, tuple)
    enhanced, scintigram = found
    (series,) = scan_files([enhanced]).series
    data = dcmread(enhanced)
    read = read_series(series).volume
    assert read.spacing_zyx_mm[0] == 10.0
    frames = data.pixel_array.astype(np.int32) - 1024
    z = [
        float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        for group in data.PerFrameFunctionalGroupsSequence
    ]
    # Rows grow to the back and columns to the right: house axes are the rows' reverse.
    expected = frames[np.argsort(z)][:, ::-1]
    assert np.array_equal(read.array_zyx, expected)
    (study,) = studies(scan_files([enhanced]))
    assert "not HU" in choose_series(study).why

    (series,) = scan_files([scintigram]).series
    assert choose_series([series]).chosen is None
    with pytest.raises(ImageError) as caught:
        read_series(series)
    assert caught.value.code == "no-geometry"


@pytest.mark.parametrize("name", ["chrX1.dcm", "chrX2.dcm"])
def test_chinese_names_do_not_show(name: str) -> None:
    """Wang^XiaoDong in UTF-8 and in GB18030."""
    (path,) = get_charset_files(name)
    found = scan_files([Path(path)])
    (series,) = found.series
    assert series.patient_key
    assert found.problems == ()
    assert "Wang" not in repr(found) + repr([vars(one) for one in found.series])
    assert "王" not in repr(found) + repr([vars(one) for one in found.series])


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("CT_small.dcm", ""),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
    ],
)
def test_pydicoms_own_files_decode_to_what_pydicom_says(name: str, reference: str) -> None:
    path, other = (get_testdata_file(one) for one in (name, reference or name))
    data = dcmread(str(other))
    slope, intercept = data.get("RescaleSlope", 1), data.get("RescaleIntercept", 0)
    expected = data.pixel_array.astype(np.float64) * float(slope) + float(intercept)
    assert np.array_equal(hu(Path(str(path)))[0], expected)


def test_a_truncated_mr_of_the_wild_is_a_problem() -> None:
    path = Path(str(get_testdata_file("MR_truncated.dcm")))
    (problem,) = scan_files([path]).problems
    assert problem.code == "unreadable"
    assert "truncated" in problem.detail
