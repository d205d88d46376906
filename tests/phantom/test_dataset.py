import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from ctscribe.errors import ConfigError
from ctscribe.imaging.nifti import read_mask, read_volume
from ctscribe.phantom.dataset import (
    ORIENTATIONS,
    SEED_SPACES,
    TABLES,
    _patients,
    _rng,
    _write_nifti,
    grade_of,
    make_dataset,
)
from ctscribe.phantom.findings import Lesion
from ctscribe.phantom.render import render_study, sample_study
from ctscribe.reports.labeller import label_report
from ctscribe.reports.schema import Finding
from ctscribe.tables.manifest import COLUMNS

N, SEED = 5, 11


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    ticks = []
    folder = tmp_path_factory.mktemp("phantoms")
    summary = make_dataset(folder, n_studies=N, seed=SEED, workers=1, progress=ticks.append)
    assert sum(ticks) == N
    return summary


def truths(folder):
    return [json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("truth/*.json"))]


def table(folder, language="zh"):
    with (folder / TABLES[language]).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_files_hold_what_was_drawn(data):
    for truth in truths(data.folder):
        study = sample_study(tuple(truth["seed"]), (SEED, 2, int(truth["patient_id"][-5:]) + 1))
        rendered = render_study(study)
        volume = read_volume(data.folder / truth["image"])
        np.testing.assert_array_equal(volume.array_zyx, np.rint(rendered.hu_zyx.numpy()))
        np.testing.assert_allclose(volume.spacing_zyx_mm, study.spacing_zyx_mm, rtol=1e-5)
        mask = read_mask(data.folder / truth["mask"], like=volume)
        np.testing.assert_array_equal(mask, rendered.lesion_zyx.numpy())
        findings = [Finding(**f) for f in truth["findings"]]
        assert findings == [lesion.finding for lesion in study.lesions]
        for lesion in truth["lesions"]:
            assert ((mask[lesion["slice_z"]] >> lesion["bit"]) & 1).any()
            assert lesion["volume_ml"] > 0


@pytest.mark.parametrize("language", ["zh", "en"])
def test_reports_state_exactly_the_truth(data, language):
    reports = {truth["case_id"]: truth for truth in truths(data.folder)}
    rubbish = json.loads((data.folder / "rubbish.json").read_text(encoding="utf-8"))
    touched = {entry["row"]: entry for entry in rubbish[TABLES[language]]}
    assert touched
    for i, row in enumerate(table(data.folder, language)):
        entry = touched.get(i, {"kind": "", "before": row["answer"]})
        if entry["kind"] in ("missing_image", "one_liner"):
            continue
        truth = {Finding(**f) for f in reports[row["case_id"]]["findings"]}
        assert set(label_report(entry["before"]).findings) == truth


def test_table_has_the_columns_and_the_rubbish(data):
    rows = table(data.folder)
    assert set(COLUMNS) <= set(rows[0])
    assert not {"rubbish", "answer_before"} & set(rows[0])
    assert len(rows) == data.rows > N
    assert any(not (data.folder / row["image_path"]).exists() for row in rows)
    assert all(len(row["accession"]) == 11 for row in rows)


def test_grades_are_of_the_largest_nodule_as_drawn(data):
    rows = {row["case_id"]: row["grade"] for row in table(data.folder)}
    seen = set()
    for truth in truths(data.folder):
        assert "grade" not in truth
        study = sample_study(tuple(truth["seed"]), (SEED, 2, int(truth["patient_id"][-5:]) + 1))
        assert rows[truth["case_id"]] == (grade_of(study) or "")
        seen.add(grade_of(study))
    assert len(seen) > 1
    for row in (r for r in table(data.folder, "en") if r["case_id"] in rows):
        assert row["grade"] == rows[row["case_id"]]


@pytest.mark.parametrize(
    ("lesions", "grade"),
    [
        ([], None),
        ([("ground-glass", 11.9, 0.0)], "AAH"),
        ([("ground-glass", 12.0, 0.0)], "AIS"),
        ([("part-solid", 16.0, 0.5)], "MIA"),
        ([("part-solid", 16.1, 0.5)], "IAC"),
        ([("solid", 8.0, 0.0)], "IAC"),
        ([("calcified", 20.0, 0.0)], None),
        ([("solid", 9.0, 0.0), ("ground-glass", 10.0, 0.0)], "AAH"),
        ([("calcified", 20.0, 0.0), ("solid", 19.0, 0.0)], None),
        ([(None, 40.0, 0.0), ("ground-glass", 20.0, 0.0)], "AIS"),
    ],
)
def test_the_grades_rule(lesions, grade):
    drawn = [
        Lesion(
            Finding("nodule", "right", "RUL", round(size), density)
            if density
            else Finding("effusion", "right", amount="large"),
            *("right", (0.0, 0.0, 0.0), size, 0.0, 0, share),
        )
        for density, size, share in lesions
    ]
    assert grade_of(SimpleNamespace(lesions=drawn)) == grade


def test_worker_count_changes_nothing(data, tmp_path):
    make_dataset(tmp_path, n_studies=N, seed=SEED, workers=2)
    files = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert files == sorted(
        p.relative_to(data.folder) for p in data.folder.rglob("*") if p.is_file()
    )
    for file in files:
        assert (tmp_path / file).read_bytes() == (data.folder / file).read_bytes(), file


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_stored_orientation_reads_back_alike(tmp_path, orientation):
    array = np.random.default_rng(0).integers(-1000, 400, (5, 6, 7)).astype(np.int16)
    file = tmp_path / "x.nii.gz"
    _write_nifti(file, array, (4.0, 3.0, 2.0), np.array([1.0, 2.0, 3.0]), orientation)
    volume = read_volume(file)
    np.testing.assert_array_equal(volume.array_zyx, array)
    assert volume.spacing_zyx_mm == pytest.approx((4, 3, 2))
    assert volume.affine[:3, 3] == pytest.approx([-1, -2, 3])


def test_no_two_uses_share_a_seed():
    demo, pretraining = SEED_SPACES["data sets"], SEED_SPACES["pretraining"]
    assert demo.stop <= pretraining.start
    assert pretraining.stop <= 2**32  # one word of SeedSequence: never equal to a longer seed
    keys = [(s, kind, i + 1) for s in (0, 1, 7) for kind in (1, 2) for i in range(3)]
    keys += [1_000_000_000, 1_000_000_007]
    states = {tuple(np.random.SeedSequence(k).generate_state(2)) for k in keys}
    assert len(states) == len(keys)
    assert _rng(3, 4).integers(2**60) != _rng(3, 4, 0).integers(2**60)


@pytest.mark.parametrize(
    ("change", "word"),
    [({"seed": 10**9}, "seed"), ({"profile": "coarse"}, "profile"), ({"n_studies": 0}, "studies")],
)
def test_bad_arguments_write_nothing(tmp_path, change, word):
    with pytest.raises(ConfigError, match=word):
        make_dataset(tmp_path / "x", **{"n_studies": 2, "seed": 1, **change})
    assert not (tmp_path / "x").exists()


def test_a_fifth_of_the_patients_has_several_studies():
    patients = np.bincount(_patients(2000, 5))
    assert patients.min() >= 1
    assert patients.max() == 3
    assert 0.16 < (patients > 1).mean() < 0.24
