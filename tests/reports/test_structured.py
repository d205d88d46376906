# ruff: noqa: E501 - texts are read in one piece
from __future__ import annotations

import time

import pytest

from ctscribe.reports.deidentify import deidentify
from ctscribe.reports.structured import kind_of, structured


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("PatientName", "name"),
        ("pat_name", "name"),
        ("Referring Physician", "name"),
        ("patId", "id"),
        ("HospNo", "id"),
        ("SOPInstanceUID", "id"),
        ("DOB", "date"),
        ("PatientBirthDate", "date"),
        ("mobile_no", "phone"),
        ("homeAddress", "address"),
        ("E-mail", "email"),
        ("检查号", "id"),
        ("报告医生", "name"),
        ("出生日期", "date"),
        ("联系电话", "phone"),
        *((key, None) for key in ("SeriesNumber", "KernelName", "InstitutionName", "age", "lobe")),
        *((key, None) for key in ("型号", "序列号", "体积倍增时间", "病变名称", "report", "time")),
    ],
)
def test_keys(key: str, kind: str | None) -> None:
    assert kind_of(key) == kind


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('{"patName":"殷志","sex":"男"}', '{"patName":"[姓名]","sex":"男"}'),
        ('{"mrn": 80031274, "kVp": 120}', '{"mrn": [ID], "kVp": 120}'),
        ("<Name>Kowalczyk, Danuta</Name><HospNo>K774/02</HospNo>", "<Name>[NAME]</Name><HospNo>[ID]</HospNo>"),
        ("patientName=Olga Petrova mrn=A7 kVp=120", "patientName=[NAME] mrn=[ID] kVp=120"),
        ('name,age,mrn,report\n"Petrova, Olga",71,A77,"clear, no nodule"', 'name,age,mrn,report\n"[NAME]",71,[ID],"clear, no nodule"'),
        ("(0010,0020) LO [AB-7]\n(0018,0060) DS [120]", "(0010,0020) LO [[ID]]\n(0018,0060) DS [120]"),
        ("PID|1||P7^5||JONES^WILLIAM||1961|M", "PID|1||[ID]||[NAME]||[DATE]|M"),
    ],
)  # fmt: skip
def test_values(text: str, clean: str) -> None:
    assert deidentify(text) == clean
    assert deidentify(clean) == clean


@pytest.mark.parametrize(
    "text",
    [
        '{"findings":[{"name":"Nodule","present":true},{"name":"右肺结节"}],"型号":"SOMATOM 64"}',
        "<name>nodule</name><patient>none</patient><dob>unknown</dob>",
        "patient=无; mrn=null; name=***; size=8",
        "lesion,size,series\nnodule,8,4",
        "name,size\nPetrova,8",  # two keys are no table
        "Nodule,patient,solid,mrn of the study\nclear",
        "OBX|1|TX|CHEST||6 mm nodule in the right upper lobe||||||F",
    ],
)
def test_findings_stay(text: str) -> None:
    assert list(structured(text)) == []


@pytest.mark.parametrize(
    "unit",
    ['{"name":"', "<name>", "name=", "a,name,mrn\n", "a|name|mrn|", "(0010,0010) PN [", "PID|", '"a",', 'name,mrn,dob\n"'],
)  # fmt: skip
def test_time_is_linear(unit: str) -> None:
    start = time.process_time()
    list(structured(unit * (100_000 // len(unit))))
    assert time.process_time() - start < 8
