"""Words of radiology reports as tokens: places, findings, densities, amounts, sizes, negation.

`tokenize` turns one sentence into tokens with their spans; `labeller` puts them together. One
regular expression a language, alternatives in order: what must not be misread comes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ctscribe.reports.schema import AMOUNTS, DENSITIES, SIDES, FindingName, Language, Lobe, Side

Kind = Literal[
    "place", "finding", "density", "amount", "size", "core", "negation", "denial",
    "segment", "change", "doubt", "organ", "before",
]  # fmt: skip
# Side, lobe, and a segment's name in `segments`, which only `statements` asks for.
Spot = tuple[Side | None, Lobe | None, str | None]


@dataclass(frozen=True, slots=True)
class Token:
    """One word that matters, at text[start:end].

    place: `spots` (side, lobe); a bare "下叶" has side None and the right side's lobe, and takes
    its side from the place before it;
    finding ("effusion+pneumothorax" for 液气胸), density, amount: `word`; size: `size_mm`;
    negation denies what follows, denial what stands before; core is the solid part of a
    ground-glass nodule; before is a size at the prior examination.
    """

    kind: Kind
    start: int
    end: int
    word: str = ""
    spots: tuple[Spot, ...] = ()
    size_mm: float = 0.0
    axes_mm: tuple[float, ...] = ()  # of a size, as written; of a range its upper end
    bound: bool = False  # a place that a preposition ties to what stands before it


UPPER: dict[Side, Lobe] = {"right": "RUL", "left": "LUL"}
LOWER: dict[Side, Lobe] = {"right": "RLL", "left": "LLL"}
BARE_LOBES: dict[str, dict[Side, Lobe]] = {
    "upper": UPPER,
    "middle": {"right": "RML"},
    "lower": LOWER,
}

# ----------------------------------------------------------------------------------- sizes
UNIT = r"(?:mm|cm|毫米|厘米|㎜|㎝|millimet(?:er|re)s?|centimet(?:er|re)s?)"
NUMBER = r"\d+(?:\.\d+)?"
_SEPARATOR = r"(?:[×xX*✕\-–~～至]|by|to)"
_SIZE = (
    rf"(?<![\d.]){NUMBER}(?:\s*{UNIT}?\s*{_SEPARATOR}\s*{NUMBER}){{0,2}}\s*-?\s*{UNIT}"
    r"(?![a-z²³\d/])"
)
# Full-width digits, letters and stops as sheets hold them, one character for one.
NARROW = {
    code: code - 0xFEE0
    for code in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B), 0xFF0E)
}
_PART = re.compile(rf"({NUMBER})\s*({UNIT})?", re.IGNORECASE)


def longest_mm(text: str) -> float:
    """The longest axis in mm of a size such as "14×11mm", "1.4cm" or "1.4 cm x 11 mm"."""
    return max(axes_mm(text))


def axes_mm(text: str) -> tuple[float, ...]:
    """Every number of a size in mm, in the order of the text."""
    axes: list[float] = []
    following = ""
    for number, unit in reversed(_PART.findall(text)):
        following = unit or following  # "1.2×0.8cm": without its own it has the next one's
        axes.insert(0, round(float(number) * (10 if _is_cm(following) else 1), 2))
    return tuple(axes)


def _is_cm(unit: str) -> bool:
    return unit.lower().startswith(("c", "厘", "㎝"))


# --------------------------------------------------------------------------------- Chinese
# "较前减少但未完全吸收": still there.
ZH_NOT_ALL = r"[未没](?:能|有|曾|见)?(?:完全|全部|彻底|基本)(?:吸收|消失|消散|复张|闭合)"
# "原大量积液现仅余少量": the prior's amount.
ZH_THEN = r"原(?:有|为|系|先)?(?:[少微大]量|少许|中等?量)(?=[^。；;]*(?:现|目前|本次|此次|今))"
ZH_NOT_GONE = r"[未没](?:能|有|曾|见)?(?:明显)?(?:吸收|消失|消散)"
_ZH_SIDES: dict[str, tuple[Side, ...]] = {
    "右": ("right",),
    "左": ("left",),
    "双": ("right", "left"),
    "两": ("right", "left"),
}
_ZH_LEVELS = {"上": "upper", "中": "middle", "下": "lower", "舌": "upper"}
ZH_LIST = r"[上中下舌](?:[、及和与]?[上中下])*"
_ZH_SEGMENT = (
    r"(?:[上下]?舌段|尖后段|尖段|后段|前段|内侧段|外侧段|背段|(?:内|外|前|后|前内)?基底段)?"
)
ZH: list[tuple[str, str]] = [
    # Other organs' findings, and words that only look like findings or negations.
    (
        "skip",
        r"(?:[右左双两]侧?)?(?:甲状腺|乳(?:腺|房)?|肾上腺|肝脏?|脾脏?|胰腺|肾脏?|皮下|声带|胸膜(?!下|腔))"
        r"[^，,。；;、肺]{0,10}?(?:结节|肿块)|结节病|结节状增厚",
    ),
    (
        "skip",
        r"(?:皮下|纵隔|软组织)(?:少量|积?)?气肿|(?:皮下|胸壁|纵隔)[^，,。；;]{0,4}积气|(?:腹腔|盆腔|关节腔?|鼻窦)[^，,。；;]{0,4}积液",
    ),
    ("effusion_also", r"胸膜?腔(?:及|和|、|与|或)心包(?:腔)?(?:未见)?(?:少量|大量)?积液"),
    (
        "skip",
        r"心包(?:腔)?(?:内)?(?:见|可见|未见|未有|没有|无|有|[亦也则仍尚另]"
        r"|少量|少许|微量|大量|中等?量|明显|增厚|[及和、或])*积液(?!及胸)",
    ),
    (
        "skip",
        r"(?:未见|无|没有)(?:明显|显著|明确|确切|著)?的?(?:变化|改变|增大|缩小|强化|进展|增多|减少|差异)",
    ),
    (
        "skip",
        rf"{ZH_NOT_ALL}|{ZH_NOT_GONE}|{ZH_THEN}"
        r"|(?:不|未)(?:能|可|予)?(?:完全)?(?:除外|排除)|无(?:症状|痛)|无创"
        r"|(?:并非|不是)(?:无|没有|未见|不存在)|(?:大?部分|大部)已?(?:吸收|消散|消失)",
    ),
    (
        "skip",
        r"(?:动脉|支气管|气管|淋巴结|瓣膜?|胸膜|肝内?|冠脉)[^，,。；;]{0,6}钙化|钙化性?(?:淋巴|斑)",
    ),
    (
        "skip",
        r"右叶|左叶|(?:右|左|双|两)侧?(?:肺门|肺动脉|肺静脉|胸膜(?!腔|下)|胸壁|胸廓|肋|锁骨|乳|腋|"
        r"心|房|室|肾|颈|甲状腺|肩|膈|主支气管|髂)",
    ),
    # Places.
    (
        "lobe",
        rf"(?:右|左|双|两)侧?(?:肺{ZH_LIST}(?:肺?叶|肺野|野)|{ZH_LIST}(?:肺叶|肺野|肺|叶)"
        rf"|肺舌叶|舌叶|肺?[上下]舌段){_ZH_SEGMENT}",
    ),
    ("tip", r"(?:右|左|双|两)侧?肺(?:尖段?|底)"),
    ("all", r"(?:双|两)侧?肺(?:[各五诸]个?叶|全部)|(?:右|左)侧?肺[各三两二诸]个?叶"),
    ("bare", r"(?<![上中下])[上中下]叶" + _ZH_SEGMENT),
    (
        "side",
        r"(?:右|左|双|两)侧?(?:肺野?|胸膜?腔|胸(?!水))|(?:右|左|双|两)侧"
        r"|(?:右|左|双)(?=(?:少|微|小|中|中等|大)?量?[液血脓]?气胸|血胸|脓胸)",
    ),
    # Findings.
    ("both_pleural", r"[液血脓]气胸"),
    ("effusion", r"(?:胸膜?腔|叶间)?积液|胸水|血胸|脓胸"),
    ("fluid", r"(?:液[体性]|水样?)密度影?"),
    ("air", r"积气"),
    ("pneumothorax", r"气胸"),
    ("emphysema", r"肺?气肿"),
    ("ps_nodule", r"(?:mGG[NO]|混合GG[NO]|PSN)(?:结节)?"),
    ("gg_nodule", r"(?:p?GGN)(?:结节)?"),
    ("nodule", r"(?<!淋巴)(?:微|小)?结节|肿块|肿物|团块状?(?:软组织)?高?(?:密度)?影|软组织团块"),
    ("consolidation", r"实变"),
    # What a nodule or an effusion is like.
    ("core", r"实性(?:成分|部分|核心)"),
    ("part-solid", r"部分实性|半实性|亚实性|混[合杂]性?(?:密度)?磨玻璃|混[合杂](?:性|密度)"),
    ("ground-glass", r"非实性|[磨毛]玻璃|GGO"),
    ("solid", r"实性"),
    ("calcified", r"钙化"),
    # Of a range the lower end.
    # More than on the other side, but of no class.
    (
        "unsaid",
        r"量(?:较|稍|偏)多|(?<=侧)(?:[较稍更]多|为[著主多甚]|[较稍更]?明显)(?=\s*(?:$|[，,]))",
    ),
    ("small", r"[少微小]量?[至到~～、-]中等?量|[少微小]量|少许|量(?:较|稍|偏)?少"),
    ("moderate", r"中等?量?[至到~～、-]大量|中等?量"),
    ("large", r"大量"),
    ("size", _SIZE),
    # Negation. A denial stands behind what it denies.
    (
        "denial",
        r"(?:已(?:完全|基本)?|完全|基本)(?:吸收|消失|消散)|消失|阴性|病史|术后|已(?:手术)?切除"
        r"|(?:未见(?:明确|明显)?(?:显示)?|无|未显示|未再(?:显示|见到?|出现)(?:显示)?)(?=\s*(?:$|[，,。；;]))",
    ),
    (
        "negation",
        r"(?<!结合)临床上?(?:高度)?(?:怀?疑|诊断|拟诊)|未再?见|未发现|未及|未显示|没有|不伴|无|排除|除外|既往|若(?!干)|如出现|如有",
    ),
]

# --------------------------------------------------------------------------------- English
_EN_SIDES: dict[str, tuple[Side, ...]] = {
    "right": ("right",),
    "left": ("left",),
    "bilateral": ("right", "left"),
    "bilaterally": ("right", "left"),
    "both": ("right", "left"),
}
EN_SIDE = r"(?:right|left|bilaterally|bilateral|both)"
_EN_LEVEL = r"(?:upper|middle|lower|mid)"
_EN_ORGAN = (
    r"(?:thyroid|adrenal|hepatic|liver|breast|splenic|renal|kidney|mediastinal|soft[- ]tissue)"
)
# "It would be wrong to say there is no effusion" asserts one.
EN_UNTRUE = (
    r"\b(?:not\s+(?:the\s+case|true|correct)|wrong|incorrect|false)\s+(?:that|to\s+(?:say|state))\b"
    r"[^.;:,]{0,24}?\b(?:no|without|\w+[\s-]free)\b"
)
EN_PARTLY = (  # still there
    r"\b(?:near(?:ly)?|almost|partial(?:ly)?|partly|largely|mostly)[\s-]+(?:complete(?:ly)?\s+)?"
    r"(?:resol(?:ved|ution)|clear(?:ed|ing|ance))\b"
    r"|\b(?:not\s+(?:yet\s+)?(?:fully|completely|entirely|totally)|incompletely)\s+"
    r"(?:resolved|cleared)\b|\bincomplete\s+(?:resolution|clear(?:ing|ance))\b"
)
EN_NOT_GONE = r"\b(?:not|never)\s+(?:yet\s+|significantly\s+)?(?:resolved|cleared)\b"
EN: list[tuple[str, str]] = [
    (
        "skip",
        rf"\b(?:(?:right|left|bilateral)\s+)?{_EN_ORGAN}(?:\s+gland)?\s+(?:\w+\s+)?(?:nodul\w+|mass(?:es)?)",
    ),
    (
        "skip",
        rf"\b(?:nodules?|mass(?:es)?)\s+(?:is\s+seen\s+|are\s+seen\s+)?(?:in|of)\s+the\s+"
        rf"(?:right\s+|left\s+)?{_EN_ORGAN}",
    ),
    ("skip", r"\bmass effect|\b(?:subcutaneous|mediastinal|surgical|soft[- ]tissue)\s+emphysema"),
    (
        "effusion_also",
        r"\bpleural\s*(?:,|or|and|and/or|nor)\s+pericardial\s+(?:effusions?|fluid)"
        r"|\bpericardial\s*(?:,|or|and|and/or)\s+pleural\s+(?:effusions?|fluid)",
    ),
    (
        "skip",
        r"\b(?:aort\w+|coronary|vascular|valv\w+|pleural|nodal)\s+(?:\w+\s+){0,2}calcif\w+"
        r"|\bcalcified\s+(?:lymph|plaques?|aort\w+|pleural|hilar|mediastinal)",
    ),
    ("skip", r"\b(?:pericardial|joint)\s+(?:effusions?|fluid)"),
    (
        "skip",
        r"\b(?:no|without)\s+(?:\w+\s+){0,2}?(?:change|growth|increase|enlargement|progression)",
    ),
    ("skip", r"\b(?:not|cannot be|can not be)\s+(?:be\s+)?(?:\w+\s+)?(?:excluded|ruled out)"),
    (
        "skip",
        rf"{EN_UNTRUE}|{EN_PARTLY}|{EN_NOT_GONE}|\b(?:nodule|effusion|consolidation|emphysema)-free\b",
    ),
    (
        "skip",
        r"\b(?:right|left)\s+(?:heart|ventric\w+|atri\w+|hil\w+|adrenal|kidney|renal|coronary|"
        r"main\w*|pulmonary (?:arter|vein)\w*|breast|axill\w+|rib\w*|thyroid|clavic\w+|"
        r"(?:hemi)?diaphragm\w*|subclavian|jugular|shoulder)",
    ),
    # Places.
    (
        "lobe",
        rf"\b{EN_SIDE}(?:\s+lungs?)?[\s-]+{_EN_LEVEL}(?:(?:\s*[,/]\s*|\s+)(?:and\s+|or\s+)?"
        rf"(?:{EN_SIDE}\s+)?{_EN_LEVEL})*[\s-]+(?:lobes?|lungs?|zones?)"
        r"(?:[\s-]predominant)?(?:\s+(?:fields?|zones?))?",
    ),
    (
        "of_lung",
        rf"\b(?:{_EN_LEVEL}\s+(?:lobes?|zones?)|lingula|apex|base)\s+of\s+(?:the\s+)?{EN_SIDE}\s+lungs?",
    ),
    (
        "tip",
        r"\b(?:right|left)\s+(?:lung\s+)?(?:apex|apical|base|basal|basilar)\b|\bbi(?:apical|bas\w+)",
    ),
    ("short", r"(?-i:\b(?:RUL|RML|RLL|LUL|LLL)\b)"),
    ("lingula", r"\blingul(?:a|ar)\b"),
    ("predominant", rf"\b{_EN_LEVEL}[\s-]+lobes?[\s-]+predominant\b"),
    ("bare", rf"\b{_EN_LEVEL}(?:\s+and\s+{_EN_LEVEL})?\s+lobes?\b"),
    ("side", r"\beither\s+(?:side|lung|hemithorax|pleural\s+(?:space|cavity))\b"),
    (
        "side",
        rf"\b{EN_SIDE}(?:[\s-]sided)?\b(?:\s+(?:lungs?|hemithorax|side|"
        r"pleural\s+(?:space|cavity)))?",
    ),
    # Findings.
    ("both_pleural", r"\bh(?:ydro|a?emo)pneumothora\w+"),
    ("effusion", r"\b(?:pleural\s+)?effusions?\b|\bpleural\s+fluid\b|\bha?emothora\w+|\bempyema\b"),
    ("pneumothorax", r"\bpneumothora(?:x|ces)\b"),
    ("emphysema", r"\bemphysema(?:tous)?\b"),
    ("ps_nodule", r"\bmGGNs?\b"),
    ("gg_nodule", r"\bp?GGNs?\b"),
    (
        "nodule",
        r"\b(?:micro)?nodules?\b|\bnodular\s+(?:opacit|densit|lesion)\w+|\bmass(?:es)?\b"
        r"|\bgranulomas?\b",
    ),
    ("consolidation", r"\bconsolidat(?:ion|ions|ive|ed)\b"),
    # What they are like.
    ("core", r"\bsolid\s+(?:component|core|portion|part)\b"),
    (
        "part-solid",
        r"\b(?:part(?:ly|ially)?|semi|sub)[\s-]?solid\b|\bmixed(?:\s+ground[\s-]glass|"
        r"[\s-]density)?",
    ),
    ("ground-glass", r"\bnon-?\s?solid\b|\bground[\s-]?glass\b|\bGGOs?\b"),
    ("solid", r"\bsolid\b"),
    ("calcified", r"\bcalcifi(?:ed|cations?)\b"),
    ("small", r"\b(?:small|trace|tiny|minimal|mild)\b"),
    ("moderate", r"\bmoderate(?:ly)?\b"),
    ("large", r"\b(?:large|massive)\b"),
    ("size", _SIZE),
    # Negation.
    (
        "denial",
        r"\b(?:not|no longer)\s+(?:\w+\s+)?(?:seen|identified|present|evident|visuali[sz]ed|"
        r"demonstrated|detected|noted|visible|confirmed(?!\s+(?:by|at|on)\s+\w*(?:biops|hist|path|surg)))\b(?!\s+(?:on|in)\s+(?:the\s+)?(?:prior|previous|earlier))"
        r"|\b(?:is|are)\s+absent\b"
        r"|\b(?:has|have|had)\s+(?:completely\s+)?(?:resolved|cleared)\b|\b(?:completely\s+)?resolved\b"
        r"|\b(?:was|were|is|are|been)\s+(?:excluded|ruled\s+out)\b"
        r"|(?:(?<=[:\-])\s*|\b)(?:none|negative|absent)(?=\s*(?:$|[.;,]))"
        r"|(?<=:)\s*no(?=\s*(?:$|[.;,]))",
    ),
    (
        "negation",
        r"\bclinical(?:ly)?\s+(?:suspected|(?:suspicion|concern)\s+(?:of|for))\b"
        r"|\b(?:no|without|nor|neither|never)\b|\b(?:negative|evaluate|evaluation)\s+for\b|"
        r"\bfree\s+of\b|\babsence\s+of\b|\brule\s+out\b|\br/o\b|\bto\s+exclude\b|"
        r"\b(?:history|resolution|clearance)\s+of\b|\bnot\s+(?:show|demonstrate|contain)\b|"
        r"\bif\b",
    ),
]

FINDING_WORDS: dict[str, tuple[FindingName, ...]] = {
    "nodule": ("nodule",),
    "ps_nodule": ("nodule",),
    "gg_nodule": ("nodule",),
    "consolidation": ("consolidation",),
    "emphysema": ("emphysema",),
    "effusion": ("effusion",),
    "effusion_also": ("effusion",),
    "fluid": ("effusion",),
    "air": ("pneumothorax",),
    "pneumothorax": ("pneumothorax",),
    "both_pleural": ("effusion", "pneumothorax"),
}


def _compile(
    rules: list[tuple[str, str]], flags: re.RegexFlag
) -> tuple[re.Pattern[str], list[str]]:
    """One expression of all rules, and the name of each of its groups."""
    return re.compile("|".join(f"({rule})" for _, rule in rules), flags), [n for n, _ in rules]


_RULES: dict[Language, tuple[re.Pattern[str], list[str]]] = {
    "zh": _compile(ZH, re.IGNORECASE),
    "en": _compile(EN, re.IGNORECASE),
}
BOUND: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(r"(?:位于|见于|累及|在|于|者为|大者)$"),
    "en": re.compile(
        r"\b(?:in|within|of|at|on|involving|affecting|throughout|occupying)\s+(?:the\s+)?"
        r"(?:\w+\s+(?:segments?|aspect|portion|part)\s+of\s+(?:the\s+)?)?$",
        re.IGNORECASE,
    ),
}
_IN_PLEURA = re.compile(r"胸膜?腔[^，,。；;包]{0,16}$")
# A size behind these words is not the lesion's size today, or not its own.
_OTHER_SIZE: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        r"(?:层厚|层距|间隔|距[^，,。；;]{0,8}|原[^，,。；;]{0,4}|[上前][次片][^，,。；;]{0,4}|先前[^，,。；;]{0,4}"
        r"|由[^，,。；;至到为m]{0,8}"
        r"|实性(?:成分|部分|核心)[^，,。；;]{0,6}|深度?约?|厚度?约?"
        r"|(?:淋巴结|动脉|主动脉|囊肿|肝|肾|心)[^，,。；;]{0,10})$"
    ),
    "en": re.compile(
        r"\b(?:previous\w*|prior|formerly|earlier|compared\s+(?:with|to)|thickness|spacing|slice\s+interval|"
        r"distance|depth|lymph\s+nodes?|aort\w+|artery|"
        r"cysts?|solid\s+(?:component|core|portion|part))\b(?:(?!measur)[^.;,]){0,16}$",
        re.IGNORECASE,
    ),
}
OTHER_SIZE_AFTER = re.compile(
    r"\s*(?:thick|slices?|sections?|from|away|deep|in\s+depth|previously"
    r"|solid\s+(?:component|core|portion|part))\b",
    re.IGNORECASE,
)


def tokenize(sentence: str, language: Language) -> list[Token]:
    """The tokens of one sentence, in order; spans count from the sentence's start."""
    sentence = sentence.translate(NARROW)
    pattern, names = _RULES[language]
    tokens: list[Token] = []
    for match in pattern.finditer(sentence):
        name = names[int(match.lastindex or 1) - 1]
        if name != "skip":
            tokens.extend(tokens_of(name, match, sentence, language))
    return tokens


def tokens_of(
    name: str, match: re.Match[str], sentence: str, language: Language
) -> Iterator[Token]:
    """The tokens of one match of the rule `name`."""
    text, (start, end) = match.group(), match.span()
    if name in FINDING_WORDS:
        density = {"ps_nodule": "part-solid", "gg_nodule": "ground-glass"}.get(name)
        if density is not None:
            yield Token("density", start, end, word=density)
        if name == "air" and not _is_in_pleura(sentence, start, end, "气胸"):
            return
        if name == "fluid" and not _is_in_pleura(sentence, start, end, "(?<!心包)积液"):
            return
        if name == "effusion_also" and re.search("未见", text):
            yield Token("negation", start, start)
        yield Token("finding", start, end, word="+".join(FINDING_WORDS[name]))
    elif name in DENSITIES:
        yield Token("density", start, end, word=name)
    elif name == "unsaid":
        yield Token("amount", start, end)
    elif name in AMOUNTS:
        yield Token("amount", start, end, word=name)
    elif name == "size":
        before = sentence[max(0, start - 40) : start]
        after = OTHER_SIZE_AFTER.match(sentence, end)
        if not _OTHER_SIZE[language].search(before) and not after:
            yield Token("size", start, end, size_mm=longest_mm(text))
    elif name in ("core", "negation", "denial"):
        yield Token(name, start, end, word=text.lower())  # type: ignore[arg-type]
    else:
        spots = zh_spots(name, text) if language == "zh" else en_spots(name, text.lower())
        bound = BOUND[language].search(sentence[max(0, start - 60) : start]) is not None
        bound = bound or text.lower().endswith("predominance")
        yield Token("place", start, end, word=name, spots=tuple(spots), bound=bound)


def _is_in_pleura(sentence: str, start: int, end: int, name: str) -> bool:
    """Whether "液性密度影" or "积气" lies in a pleural space, with no name in what follows."""
    named = re.search(name, sentence[end:])
    return named is None and _IN_PLEURA.search(sentence[max(0, start - 20) : start]) is not None


def zh_spots(name: str, text: str) -> list[Spot]:
    """The places of a Chinese place word."""
    if name == "bare":
        return [(None, BARE_LOBES[_ZH_LEVELS[text[0]]].get("right", "RUL"), None)]
    sides = _ZH_SIDES[text[0]]
    if name == "side":
        return [(side, None, None) for side in sides]
    if name == "all":
        return [
            (side, lobe, None)
            for side in sides
            for lobe in _lobes(side, ["upper", "middle", "lower"])
        ]
    if name == "tip":
        return [(side, (UPPER if "尖" in text else LOWER)[side], None) for side in sides]
    # The levels stand before the segment's name, which has such characters of its own.
    head = re.match(r"(?:右|左|双|两)侧?肺?([上中下舌、及和与]+)", text)
    found = "舌" if "舌" in text else (head.group(1) if head else "")
    levels = [_ZH_LEVELS[character] for character in found if character in _ZH_LEVELS]
    return [(side, lobe, None) for side in sides for lobe in _lobes(side, levels)] or [
        (side, None, None) for side in sides
    ]


def en_spots(name: str, text: str) -> list[Spot]:
    """The places of an English place word."""
    if name == "short":
        lobe: Lobe = text.upper()  # type: ignore[assignment]
        return [("right" if text[0] == "r" else "left", lobe, None)]
    if name == "lingula":
        return [("left", "LUL", None)]
    words = re.findall(rf"{EN_SIDE}|{_EN_LEVEL}|lingula|apex|apical|bas\w+|biapical|bibas\w+", text)
    if name == "tip":
        sides: tuple[Side, ...] = _EN_SIDES.get(words[0], ("right", "left"))
        table = UPPER if "ap" in text else LOWER
        return [(side, table[side], None) for side in sides]
    if name == "of_lung":
        level = {"lingula": "upper", "apex": "upper", "base": "lower"}.get(words[0], words[0])
        words = [words[-1], level]
    if name in ("bare", "predominant"):
        levels = ["middle" if word == "mid" else word for word in words]
        if levels == ["middle"]:
            return [("right", "RML", None)]
        if text.endswith("s") and len(levels) == 1:  # "the upper lobes": of both lungs
            return [(side, lobe, None) for side in SIDES for lobe in _lobes(side, levels)]
        return [(None, BARE_LOBES[level].get("right", "RUL"), None) for level in levels]
    spots: list[Spot] = []
    sides = ("right", "left")
    for word in words:
        if word in _EN_SIDES:
            sides = _EN_SIDES[word]
        else:
            level = "middle" if word.startswith("mid") else word
            spots += [(side, lobe, None) for side in sides for lobe in _lobes(side, [level])]
    return spots or [(side, None, None) for side in sides]


def _lobes(side: Side, levels: list[str]) -> list[Lobe]:
    return [BARE_LOBES[level][side] for level in levels if side in BARE_LOBES[level]]
