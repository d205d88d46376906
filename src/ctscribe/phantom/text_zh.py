"""Chinese sentences of phantom reports (see `phantom.text`)."""

from __future__ import annotations

from collections.abc import Sequence

from ctscribe.phantom.wording import Picker, groups, is_whole, most_suspicious, second_axis
from ctscribe.reports.language import AMOUNT_NAMES, PLACE_NAMES
from ctscribe.reports.schema import Density, Finding, Lobe, Side

_PLACES = PLACE_NAMES["zh"]
_SHORT: dict[Lobe | Side, str] = {
    "RUL": "右上肺",
    "RML": "右肺中叶",
    "RLL": "右下肺",
    "LUL": "左上肺",
    "LLL": "左下肺",
}
_DENSITIES: dict[Density, tuple[str, ...]] = {
    "solid": ("实性",),
    "part-solid": ("部分实性", "混合磨玻璃"),
    "ground-glass": ("磨玻璃", "纯磨玻璃"),
    "calcified": ("钙化",),
}
# Characters of a findings section: normal statements are added up to the first, none past it.
_ENOUGH = 62


def findings_section(findings: Sequence[Finding], pick: Picker) -> str:
    """所见: every finding, what is absent, and the normal rest."""
    said = [_statement(group, pick) for group in groups(findings, pick)]
    absent = _absent(findings, pick)
    joiner = pick.one("。", "；")
    text = joiner.join(said) + "。" if said else ""
    text += "。".join(absent) + "。"
    for sentence in pick.shuffled(_normal(findings, pick)):
        if len(text) >= _ENOUGH:
            break
        text += sentence + "。"
    return text


def impression_section(findings: Sequence[Finding], pick: Picker) -> str:
    """结论: the same findings, shorter, as a numbered list."""
    if not findings:
        return pick.one(
            "胸部CT平扫未见明显异常。",
            "双肺未见明显异常。",
            "胸部CT未见异常。",
            "双肺及胸膜腔未见异常。",
        )
    items = [_conclusion(group, pick) for group in groups(findings, pick)]
    if len(items) == 1 and pick.chance(0.5):
        return items[0] + "。"
    return "".join(f"{number}.{item}。" for number, item in enumerate(items, 1))


def recommendation_section(findings: Sequence[Finding], pick: Picker) -> str:
    """建议: by kind and size, at most two."""
    advice: list[str] = []
    for finding in findings:
        sentence = _advice(finding, findings, pick)
        if sentence and sentence not in advice:
            advice.append(sentence)
    if not advice:
        return pick.one("定期体检。", "每年复查胸部CT。", "随诊。")
    return "；".join(advice[:2]) + "。"


def pathology_section(findings: Sequence[Finding], pick: Picker) -> str:
    """病理倾向: of the most suspicious nodule; empty without one."""
    nodule = most_suspicious(findings)
    if nodule is None:
        return ""
    size = nodule.size_mm or 8.0
    if nodule.density == "calcified":
        return pick.one("良性，钙化肉芽肿可能。", "倾向良性钙化灶。", "考虑良性陈旧病灶。")
    if nodule.density == "ground-glass":
        if size < 10:
            return pick.one("不典型腺瘤样增生可能。", "倾向腺体前驱病变。")
        return pick.one("原位腺癌可能。", "倾向原位腺癌，微浸润不除外。")
    if nodule.density == "part-solid":
        if size < 15:
            return pick.one("微浸润腺癌可能。", "倾向微浸润腺癌。")
        return pick.one("浸润性腺癌可能。", "倾向浸润性腺癌。")
    if size < 10:
        return pick.one("炎性或良性可能。", "倾向良性。")
    if size < 20:
        return pick.one("性质待定，恶性不除外。", "恶性待排。")
    return pick.one("恶性可能性大。", "倾向恶性，周围型肺癌可能。")


def _statement(group: Sequence[Finding], pick: Picker) -> str:
    first = group[0]
    if first.name == "nodule":
        return _nodule(first, pick)
    if first.name in ("effusion", "pneumothorax"):
        return _pleural(group, pick)
    place = _place(group, pick)
    if first.name == "consolidation":
        words = pick.one("见片状实变影", "见实变", "可见实变影", "肺实变")
        extent = "" if first.size_mm is None else f"，范围约{first.size_mm:g}mm"
        return place + ("实变" if place.endswith("肺") and words == "肺实变" else words) + extent
    words = pick.one("见肺气肿改变", "肺气肿", "可见肺气肿", "透亮度增高，呈肺气肿改变")
    return place + words


def _conclusion(group: Sequence[Finding], pick: Picker) -> str:
    first = group[0]
    if first.name == "nodule":
        size = "" if first.size_mm is None else _size(first.size_mm, pick, axes=False)
        size = pick.one(f"，{size}", f"（{size}）") if size else ""
        return f"{_place(group, pick)}{_density(first, pick)}结节{size}"
    if first.name in ("effusion", "pneumothorax"):
        return _pleural(group, pick)
    name = "实变" if first.name == "consolidation" else "肺气肿"
    extent = "" if first.size_mm is None else f"（{first.size_mm:g}mm）"
    return _place(group, pick) + name + extent


def _nodule(finding: Finding, pick: Picker) -> str:
    place, density = _place([finding], pick), _density(finding, pick)
    see = pick.one("见", "可见", "见一枚", "可见一")
    if finding.size_mm is None:
        return f"{place}{see}{density}结节"
    size = _size(finding.size_mm, pick, axes=True)
    form = int(pick.draw() * 4)
    if form == 0:
        return f"{place}{see}{density}结节，{size}"
    if form == 1:
        return f"{place}{see}{density}结节影，{size}"
    if form == 2:
        return f"{place}{density}结节，{size}"
    return f"{place}{see}{size.replace('大小', '')}{density}结节"


def _size(size_mm: float, pick: Picker, *, axes: bool) -> str:
    """The longest diameter: "约14mm", "直径约1.4cm", "大小约14×11mm"."""
    draw = pick.draw()
    if not is_whole(size_mm) or draw < 0.55:
        return pick.one("约", "直径约", "长径约") + f"{size_mm:g}mm"
    if axes and draw < 0.8:
        return f"大小约{size_mm:g}×{second_axis(size_mm, pick)}mm"
    return pick.one("约", "直径约") + f"{size_mm / 10:.1f}cm"


def _density(finding: Finding, pick: Picker) -> str:
    return "" if finding.density is None else pick.one(*_DENSITIES[finding.density])


def _place(group: Sequence[Finding], pick: Picker) -> str:
    lobes = [finding.lobe for finding in group if finding.lobe is not None]
    if set(lobes) == {"RUL", "LUL"} and pick.chance(0.6):
        return pick.one("双肺上叶", "双上肺")
    if set(lobes) == {"RLL", "LLL"} and pick.chance(0.6):
        return pick.one("双肺下叶", "双下肺")
    names = _SHORT if pick.chance(0.3) else _PLACES
    words = [names[lobe] for lobe in lobes]
    if len(words) == 1:
        return words[0]
    return "、".join(words[:-1]) + pick.one("及", "和", "、") + words[-1]


def _pleural(group: Sequence[Finding], pick: Picker) -> str:
    first = group[0]
    side = "双侧" if len(group) == 2 else _PLACES[first.side]  # type: ignore[index]
    amount = "" if first.amount is None else AMOUNT_NAMES["zh"][first.amount]
    if amount == "中等量" and pick.chance(0.3):
        amount = "中量"
    if first.name == "effusion":
        see = pick.one("", "见", "可见")
        return pick.one(f"{side}{amount}胸腔积液", f"{side}胸腔{see}{amount}积液")
    return pick.one(f"{side}{amount}气胸", f"{side}胸腔{amount}气胸", f"{side}可见{amount}气胸")


def _absent(findings: Sequence[Finding], pick: Picker) -> list[str]:
    """What is not there; never said of what is."""
    names = {finding.name for finding in findings}
    lobar = names & {"nodule", "consolidation", "emphysema"}
    absent = []
    if not lobar:
        absent.append(
            pick.one(
                "双肺未见结节及实变影",
                "双肺野清晰，未见异常密度影",
                "双肺未见明确结节、实变或肺气肿",
                "两肺透亮度正常，未见结节",
            )
        )
    elif "nodule" not in names:
        absent.append(pick.one("双肺未见结节", "双肺未见明确结节影", "未见肺结节"))
    elif "consolidation" not in names and pick.chance(0.5):
        absent.append(pick.one("双肺未见实变", "未见肺实变"))
    else:
        absent.append(pick.one("余肺未见异常", "其余肺野清晰", "余肺未见明显异常密度影"))
    effusion, pneumothorax = "effusion" in names, "pneumothorax" in names
    if not effusion and not pneumothorax:
        absent.append(
            pick.one(
                "双侧胸腔未见积液及气胸",
                "无胸腔积液，无气胸",
                "双侧胸膜腔未见积液、积气" if pick.chance(0.3) else "未见胸腔积液及气胸",
            )
        )
    elif not pneumothorax:
        absent.append(pick.one("未见气胸", "双侧未见气胸", "无气胸"))
    elif not effusion:
        absent.append(pick.one("未见胸腔积液", "双侧胸腔未见积液", "无胸腔积液"))
    return absent


def _normal(findings: Sequence[Finding], pick: Picker) -> list[str]:
    sentences = [
        pick.one("气管及主支气管通畅", "各级支气管通畅", "气管支气管未见狭窄"),
        pick.one("纵隔未见肿大淋巴结", "纵隔及肺门未见肿大淋巴结", "纵隔淋巴结无肿大"),
        pick.one("心影大小正常", "心脏未见增大", "心影不大，心包无积液"),
        pick.one("胸廓骨质未见异常", "所示骨质结构完整", "骨窗未见骨质破坏"),
    ]
    if not findings:
        sentences.append(pick.one("双肺纹理清晰", "肺纹理走行自然"))
    return sentences


def _advice(finding: Finding, findings: Sequence[Finding], pick: Picker) -> str:
    if finding.name == "pneumothorax":
        if finding.amount == "small":
            return pick.one("气胸短期复查", "卧床休息，复查胸片")
        return pick.one("急诊胸外科处理", "胸外科会诊，必要时闭式引流")
    if finding.name == "effusion":
        if finding.amount == "small":
            return pick.one("积液随诊复查", "胸腔超声复查")
        return pick.one("胸腔超声定位，必要时穿刺引流", "必要时胸腔穿刺")
    if finding.name == "consolidation":
        return pick.one("抗感染治疗后复查", "结合临床，治疗后复查CT")
    if finding.name == "emphysema":
        return pick.one("肺功能检查", "戒烟，肺功能随访")
    if finding is not most_suspicious(findings):
        return ""
    size = finding.size_mm or 8.0
    if finding.density == "calcified":
        return pick.one("年度复查", "12个月后复查CT")
    if finding.density == "ground-glass" and size < 15:
        return pick.one("6个月后复查CT", "半年后复查薄层CT")
    if size < 10:
        return pick.one("3至6个月后复查CT", "3个月后复查薄层CT")
    if size < 15:
        return pick.one("3个月后复查，必要时增强CT", "3个月后复查薄层CT")
    return pick.one("胸外科会诊，必要时穿刺活检", "增强CT或PET-CT检查")
