from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom import config, dcmread
from pydicom.uid import UID

from ctscribe.phantom import dicom as phantom
from tests.imaging.series import small


def test_files_are_valid_dicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.RAISE)
    volume = small()
    volume.affine[:3, 3] = (-1 / 3, 1e5 / 7, -1e-7 / 3)  # decimals that must be cut to 16
    paths = phantom.write_series(volume, tmp_path / "ct")
    paths.append(phantom.write_enhanced(volume, tmp_path / "enhanced.dcm", number=2))
    paths.append(phantom.write_localizer(tmp_path))
    paths.append(phantom.write_secondary_capture(tmp_path))
    paths.append(phantom.write_dose_report(tmp_path))
    uids = set()
    for path in paths:
        data = dcmread(path)
        assert UID(data.SOPInstanceUID).is_valid
        assert UID(data.SeriesInstanceUID).is_valid
        assert data.StudyInstanceUID == phantom.Study().uid
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        uids.add(data.SOPInstanceUID)
        for element in data.iterall():
            assert element.value is not None  # every one converts
    assert len(uids) == len(paths)


@pytest.mark.parametrize("axes", ["LPS", "LPI", "RAS", "LSP"])
def test_simpleitk_reads_the_same_place(axes: str, tmp_path: Path) -> None:
    """An independent reader: the voxel at a point of the patient is the volume's own."""
    volume = small()
    phantom.write_series(volume, tmp_path, axes=axes, slopes=((1.0, 0.0),))
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(names)
    image = reader.Execute()
    for z, y, x in ((0, 0, 0), (11, 8, 13), (3, 5, 7), (10, 0, 2)):
        ras = volume.affine @ (x, y, z, 1)
        index = image.TransformPhysicalPointToIndex((-ras[0], -ras[1], ras[2]))
        assert image[index] == volume.array_zyx[z, y, x]


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    written = [
        [
            path.read_bytes()
            for path in phantom.write_series(small(), tmp_path / str(i), study=study)
        ]
        for i, study in enumerate((phantom.Study(), phantom.Study(), phantom.Study(1)))
    ]
    assert written[0] == written[1]
    assert written[0] != written[2]


def test_hu_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        phantom.write_series(small(), tmp_path, slopes=((16.0, -1024.0),))
    with pytest.raises(ValueError, match="do not fit"):
        phantom.write_series(small(), tmp_path, signed=False, slopes=((1.0, 0.0),))
    with pytest.raises(ValueError, match="three axes"):
        phantom.write_series(small(), tmp_path, axes="LRS")


def test_a_preamble_is_written_as_given(tmp_path: Path) -> None:
    (path,) = phantom.write_series(small(), tmp_path, skip=range(1, 12), preamble=b"MZ\x90")
    data = path.read_bytes()
    assert data[:132] == b"MZ\x90" + bytes(125) + b"DICM"
    assert np.array_equal(dcmread(path).pixel_array.shape, (9, 14))
