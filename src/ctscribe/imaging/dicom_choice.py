"""Which series of a study is the diagnostic chest CT, by its headers alone.

Headers lie: a chest may be labelled ABDOMEN or not at all. So only what clearly names another
region is left out here, and whether a chest is in the pixels is asked later (`checks.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ctscribe.errors import ImageError
from ctscribe.imaging.dicom_geometry import arrange, extent_mm, normal_of
from ctscribe.imaging.dicom_header import CT_CLASSES, class_name
from ctscribe.imaging.dicom_series import Choice, Scan, Series

MIN_SLICES = 10
DIAGNOSTIC = "diagnostic too, not chosen"  # how the reason of such a series begins
MIN_EXTENT_MM = 100.0  # no whole chest is lower
SAME_EXTENT = 0.7  # of the longest series; shorter ones show a part, such as a nodule
THICK_MM = (1.5, 3.0, 6.0)  # steps up to each count as alike, so that the kernel decides
MOST_AXIAL_DEG = 45.0

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_SPINE = r"胸椎|thoracic[ _-]*spine|t[ _-]*spine|胸腰椎"
_CHEST = (
    r"(?<![a-z])(chest|thora|thor(?![a-z]*spine)|lung|pulm|hrct|ctpa|ldct|mediast|trachea|rib)"
    r"|(?<![a-z])(c[-_ ]?a[-_ ]?p|t[-_ ]?a[-_ ]?p)(?![a-z])|胸|肺|纵隔|肋"
)
_OTHER = (
    r"(?<![a-z])(head|brain|skull|cerebr[a-z]*|crani[a-z]*|neuro[a-z]*|sinus|orbit|temporal|"
    r"petrous|dental|mandib[a-z]*|maxill[a-z]*|face|facial|neck|carotid|larynx|c[ _-]?spine|"
    r"l[ _-]?spine|spine|lumbar|cervical|sacr[a-z]*|pelvi[a-z]*|hip|knee|ankle|foot|leg|"
    r"extremit[a-z]*|femur|tibia|wrist|elbow|hand|shoulder)(?![a-z])"
    r"|(?<![a-z])(head|neck|sinus|spine)routine|头|颅|脑|鼻|眼眶|颞骨|乳突|牙|颌|颈|喉|"
    r"脊柱|腰椎|颈椎|骶|盆|髋|膝|踝|足|下肢|上肢|股骨|腕|肘|手|肩"
)
_MAYBE = r"(?<![a-z])(abd|body|whole|trunk|liver)|腹|肝|全身|体部"  # often on a chest as well
_KINDS = (  # words of ImageType or description, and what they mean
    (
        # Not "low dose" or 低剂量, which are chests.
        r"dose (report|info|record|page)|剂量(报告|信息|记录)|patient protocol|screen ?save",
        "a dose or protocol page",
    ),
    (r"monitoring|smart ?prep|test ?bolus|timing|tracker|监测|团注|追踪", "contrast timing"),
    (r"(?<![a-z])mi[np]ip(?![a-z])|(?<![a-z])mip(?![a-z])|投影|projection", "a projection (MIP)"),
    (r"(?<![a-z])(mpr|cor|sag|coronal|sagittal|reformat\w*)(?![a-z])|重组|冠状|矢状", "a reformat"),
    (r"(?<![a-z])(vrt?|3d|ssd|fly ?through|volume rend\w*)(?![a-z])|三维", "a 3D picture"),
    (
        r"iodine|碘|z[ _-]?eff|eff[ _-]?z|perfusion|灌注|overlay|fusion|融合|colou?r",
        "a derived map, not HU",
    ),
)
_LOCALIZER = r"localizer|scout|topo|surview|scano|定位|扫描图"
_SHARP_WORDS = r"lung|bone|sharp|edge|hrct|肺窗|骨|高分辨"
_SOFT_WORDS = r"soft|stand|std|mediast|smooth|chst|body|detail|纵隔|软组织|标准"


def studies(scan: Scan) -> list[list[Series]]:
    """Series by study: by StudyInstanceUID, or by patient, date, accession and folder."""
    found: dict[tuple[Any, ...], list[Series]] = {}
    for series in scan.series:
        key: tuple[Any, ...] = (series.patient_key, series.study_uid)
        if not series.study_uid:
            key += (series.study_date, series.accession, series.folder)
        found.setdefault(key, []).append(series)
    return list(found.values())


def choose_series(study_series: Sequence[Series]) -> Choice:
    """The diagnostic chest CT series among those of one study.

    In this order: names the chest; original; shows most of the body of them; its slices make a
    grid; thin slices; soft kernel; thinnest; most slices.
    """
    left_out, good = [], []
    for series in study_series:
        reason = why_not(series)
        if reason:
            left_out.append((series, reason))
        else:
            good.append(series)
    if not good:
        reasons = sorted({reason for _, reason in left_out})
        return Choice(
            None, f"none is a chest CT: {'; '.join(reasons) or 'no series'}", tuple(left_out)
        )
    longest = max(extent_mm(series) or 0.0 for series in good)
    ranked = sorted(good, key=lambda series: (*_rank(series, longest), *_settle(series)))
    chosen = ranked[0]
    left_out += [(series, _behind(series, chosen, longest)) for series in ranked[1:]]
    return Choice(chosen, _why(chosen, len(good)), tuple(left_out), tuple(ranked))


def why_not(series: Series) -> str:
    """Why a series is no diagnostic chest CT by its headers; empty if nothing is against it."""
    first = series.instances[0]
    if series.sop_class.startswith(_SECONDARY_CAPTURE):
        return "a secondary capture"
    if series.modality not in ("", "CT") or (
        not series.modality and series.sop_class not in CT_CLASSES
    ):
        return f"modality {series.modality or class_name(series.sop_class)}, not CT"
    if first.pixels.samples != 1:
        return "a colour picture"
    # A whole stack may be named after the localizer that it was planned on.
    few = series.n_slices < MIN_SLICES and re.search(_LOCALIZER, series.description.lower())
    if few or "LOCALIZER" in series.image_type:
        return "a localizer"
    words = f"{' '.join(series.image_type)} {series.description}".lower()
    for pattern, kind in _KINDS:
        if re.search(pattern, words):
            return kind
    normal = normal_of(first)
    if normal is not None and abs(normal[2]) < np.cos(np.radians(MOST_AXIAL_DEG)):
        return f"a {'coronal' if abs(normal[1]) > abs(normal[0]) else 'sagittal'} reformat"
    if series.n_slices < MIN_SLICES:
        return f"only {series.n_slices} slice{'s' * (series.n_slices > 1)}"
    extent = extent_mm(series)
    if extent is not None and extent < MIN_EXTENT_MM:
        return f"its slices cover only {extent:.0f} mm of the body"
    region = _region(series)
    return f"another region ({region[1]})" if region[0] == "other" else ""


def _region(series: Series) -> tuple[str, str]:
    """ "chest", "other" or "" of what the headers name, and the word that says so.

    The description counts before the protocol, the body part and the study, which often name
    whatever the scanner was set to, or all regions of a visit.
    """
    rest = f"{series.body_part} {series.protocol} {series.study_description}"
    for words in (series.description.lower(), rest.lower()):
        without_spine = re.sub(_SPINE, " spine ", words)
        if re.search(_CHEST, without_spine):
            return "chest", ""
        if re.search(_MAYBE, without_spine):
            return "", ""
        if found := re.search(_OTHER, without_spine):
            return "other", found[0]
    return "", ""


def is_soft(series: Series) -> bool | None:
    """A smooth kernel (True) or a sharp one for lung and bone; None if nothing tells.

    Siemens and Philips number theirs, Canon too (FC30 and above are sharp); others use words.
    """
    kernel = series.kernel.split("\\")[0].strip()
    if found := re.fullmatch(r"FC(\d+)", kernel, re.IGNORECASE):
        return int(found[1]) < 30
    if found := re.match(r"[A-Z][a-z]?(\d{2})", kernel):
        return int(found[1]) < 50 and not kernel.startswith("Bl")
    if kernel in ("A", "B", "C"):
        return True
    if kernel in ("D", "E", "L", "YA", "YB", "YC", "YD"):
        return False
    for words in (kernel.lower(), series.description.lower()):
        if re.search(_SHARP_WORDS, words):
            return False
        if re.search(_SOFT_WORDS, words):
            return True
    return None


def _rank(series: Series, longest_mm: float) -> tuple[Any, ...]:
    """Lower is better; each place is named in `_PLACES`."""
    step = _step_mm(series)
    soft = is_soft(series)
    return (
        _region(series)[0] != "chest",
        "DERIVED" in series.image_type,
        (extent_mm(series) or 0.0) < SAME_EXTENT * longest_mm,
        not _is_grid(series),
        sum(step > bound for bound in THICK_MM),
        0 if soft else 1 if soft is None else 2,
        round(step, 2),
        -series.n_slices,
    )


_PLACES = (
    "the headers do not say chest",
    "derived, not original",
    "shows a part",
    "its slices make no even grid",
    "thicker slices",
    "a sharper kernel, or none named",
    "thicker slices",
    "fewer slices",
)


def _settle(series: Series) -> tuple[int, str]:
    return series.number if series.number is not None else 1 << 31, series.series_uid


def _behind(series: Series, chosen: Series, longest_mm: float) -> str:
    """What put a diagnostic series behind the chosen one."""
    pairs = zip(_rank(series, longest_mm), _rank(chosen, longest_mm), _PLACES, strict=True)
    why = next((words for own, best, words in pairs if own != best), "the same but for its number")
    return f"{DIAGNOSTIC}: {why} ({_in_short(series)})"


def _why(chosen: Series, among: int) -> str:
    which = f"the best of {among} diagnostic series" if among > 1 else "the only diagnostic series"
    named = {"chest": "named as chest", "": "no region named"}[_region(chosen)[0]]
    return f"{which}: {_in_short(chosen)}, {named}"


def _in_short(series: Series) -> str:
    soft = {True: "soft kernel", False: "sharp kernel", None: "kernel"}[is_soft(series)]
    kernel = f", {soft} {series.kernel}" if series.kernel else ""
    step = _step_mm(series)
    every = f" every {step:.4g} mm" if np.isfinite(step) else ""
    return f"{series.n_slices} slices{every}{kernel}"


def _step_mm(series: Series) -> float:
    extent = extent_mm(series)
    if not extent:
        return float("inf")
    return extent / max(1, len({one.position_mm for one in series.instances}) - 1)


def _is_grid(series: Series) -> bool:
    try:
        arrange(series)
    except ImageError:
        return False
    return True
