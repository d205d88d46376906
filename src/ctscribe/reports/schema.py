"""What a report can say: sections, findings, and the words both languages use for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Language = Literal["zh", "en"]
FindingName = Literal["nodule", "consolidation", "emphysema", "effusion", "pneumothorax"]
Side = Literal["right", "left"]
Lobe = Literal["RUL", "RML", "RLL", "LUL", "LLL"]
Density = Literal["solid", "part-solid", "ground-glass", "calcified"]
Amount = Literal["small", "moderate", "large"]

# What `statements` reads beside the five: the model has no heads for these, no page scores them.
Observation = Literal[
    FindingName,
    # of the lungs; masses are nodules, and "abnormality" is what "双肺未见异常" denies
    "ground-glass-opacity",
    "opacity",
    "fibrosis",
    "bronchiectasis",
    "bronchial-wall-thickening",
    "atelectasis",
    "calcification",
    "cavity",
    "bulla",
    "septal-thickening",
    "mosaic-attenuation",
    "abnormality",
    # of the pleura
    "pleural-thickening",
    # of the heart, the mediastinum, the bones
    "pericardial-effusion",
    "cardiomegaly",
    "coronary-calcification",
    "aortic-calcification",
    "lymphadenopathy",
    "hiatal-hernia",
    "fracture",
    "rib-lesion",
    # of other organs
    "thyroid-nodule",
    "breast-nodule",
    "adrenal-nodule",
    "liver-cyst",
    "liver-lesion",
    "kidney-cyst",
]
Change = Literal["new", "larger", "smaller", "stable", "resolved"]  # against a prior examination

FINDINGS: tuple[FindingName, ...] = get_args(FindingName)
OBSERVATIONS: tuple[Observation, ...] = get_args(Observation)
CHANGES: tuple[Change, ...] = get_args(Change)
SIDES: tuple[Side, ...] = get_args(Side)
LOBES: tuple[Lobe, ...] = get_args(Lobe)
DENSITIES: tuple[Density, ...] = get_args(Density)
AMOUNTS: tuple[Amount, ...] = get_args(Amount)
# Nodules, consolidation and emphysema lie in a lobe; effusion and pneumothorax in a pleural space.
LOBAR: tuple[FindingName, ...] = ("nodule", "consolidation", "emphysema")
PLEURAL: tuple[FindingName, ...] = ("effusion", "pneumothorax")


def side_of(lobe: Lobe) -> Side:
    """The side a lobe is on."""
    return "right" if lobe.startswith("R") else "left"


@dataclass(frozen=True)
class Finding:
    """One positive finding: as truth, as the labeller read it, or as a head predicted it."""

    name: FindingName
    side: Side | None = None
    lobe: Lobe | None = None
    size_mm: float | None = None  # longest diameter; nodules (and consolidation where stated)
    density: Density | None = None  # nodules
    amount: Amount | None = None  # effusion, pneumothorax

    @property
    def place(self) -> str | None:
        """Where it is, as strictly as this finding allows: the lobe, or the side if pleural."""
        return self.lobe if self.name in LOBAR else self.side


@dataclass(frozen=True)
class Statement:
    """One statement about one finding at one place, text[start:end].

    negated: denied ("未见结节"); a resolved finding is denied, with comparison "resolved".
    uncertain: "可疑", "不除外", "possible". lobe is None where the text contradicts itself ("左肺
    中叶"). segment: a code of `segments`, S1+2. size_mm: the longest of axes_mm, which are as
    written; of a range or a bound ("3-5mm", "小于5mm") the upper end; amount: of a range ("少至
    中等量") the lower end. comparison: in words, or told by two sizes 2 mm or more apart.
    count: 2 of "两枚" that share what is said, "multiple" of "多发".
    rest: a denial of elsewhere only ("余肺未见结节").
    """

    finding: Observation
    negated: bool = False
    uncertain: bool = False
    side: Side | None = None
    lobe: Lobe | None = None
    segment: str | None = None
    size_mm: float | None = None
    axes_mm: tuple[float, ...] = ()
    density: Density | None = None
    amount: Amount | None = None
    comparison: Change | None = None
    count: int | Literal["multiple"] | None = None
    start: int = 0
    end: int = 0
    rest: bool = False
    section: str = "findings"


@dataclass(frozen=True)
class Report:
    """The sections of a report; `findings` 所见 and `impression` 结论 are always there.

    The last three say nothing about this image, so no labels are read from them.
    """

    findings: str
    impression: str
    recommendation: str = ""  # 建议
    pathology: str = ""  # 病理倾向, pathology tendency
    language: Language = "zh"
    technique: str = ""  # 检查技术
    history: str = ""  # 临床病史
    comparison: str = ""  # 比较, the prior examination
