"""The wider words that `statements` reads: thirty findings, segments, change, doubt, other organs.

Built on `lexicon`, whose rules stay for what both read. What `lexicon` skips so that it is not
taken for one of the five ("甲状腺结节", "心包积液") is a finding of its own here.
"""

from __future__ import annotations

import re
from dataclasses import replace
from collections.abc import Iterator

from ctscribe.reports import lexicon
from ctscribe.reports.lexicon import Token
from ctscribe.reports.schema import OBSERVATIONS, SIDES, Amount, Language, Observation, Side
from ctscribe.reports.segments import CODE, EN_SEGMENT, ZH_SEGMENT, segment_name

PLEURA: frozenset[Observation] = frozenset({"effusion", "pneumothorax", "pleural-thickening"})
# Side only where one alone is named: their words lie beside the lungs' own places.
SIDED: frozenset[Observation] = frozenset(
    {"lymphadenopathy", "fracture", "rib-lesion", "kidney-cyst"}
    | {"thyroid-nodule", "breast-nodule", "adrenal-nodule"}
)
PLACELESS: frozenset[Observation] = SIDED | {
    *("pericardial-effusion", "cardiomegaly", "coronary-calcification", "aortic-calcification"),
    *("hiatal-hernia", "liver-cyst", "liver-lesion"),
}
SIZED: frozenset[Observation] = frozenset(
    {"nodule", "consolidation", "ground-glass-opacity", "opacity", "cavity", "bulla"}
    | {"calcification", "lymphadenopathy", "hiatal-hernia", "thyroid-nodule", "breast-nodule"}
    | {"adrenal-nodule", "liver-cyst", "liver-lesion", "kidney-cyst", "rib-lesion"}
)
AMOUNTED: frozenset[Observation] = frozenset({"effusion", "pneumothorax", "pericardial-effusion"})
_ORGANS: dict[str, Observation] = {
    "甲状腺": "thyroid-nodule",
    "乳": "breast-nodule",
    "肾上腺": "adrenal-nodule",
    "肝": "liver-lesion",
    "thyroid": "thyroid-nodule",
    "breast": "breast-nodule",
    "adrenal": "adrenal-nodule",
    "liver": "liver-lesion",
    "hepatic": "liver-lesion",
}

_IN = r"[^，,。；;、肺]"  # inside one clause, and not about a lung
_SIDE = r"(?:[右左双两]侧?)?"
_ZH_STABLE = (
    r"(?:较(?![大小厚高])[^，,。；;无未新]{0,14})?(?:未见|无|没有)(?:明显|显著|明确|著)?的?"
    r"(?:变化|改变|增大|缩小|进展|增多|减少|差异|增厚(?=$))"
)
_ZH_FIRST: list[tuple[str, str]] = [
    ("skip", r"并非(?:无|没有)|不是(?:没有|无)|无症状|无痛|无创|(?:未见|无)[^，,。；;]{0,2}强化"),
    (
        "skip",
        r"结节病|结节状增厚|(?:皮下|胸壁)[^，,。；;肺影]{0,8}(?:结节|肿块|气肿)|(?:纵隔|软组织)(?:少量|积?)?气肿",
    ),
    ("skip", r"(?:腹腔|盆腔|关节腔?|鼻窦|声带)[^，,。；;]{0,4}(?:积液|结节)|气肿泡"),
    (
        "doubt",
        r"(?:不|未)(?:能|可|予)?(?:完全)?(?:除外|排除)(?:有|存在)?|(?:难以|无法)(?:完全)?(?:除外|排除)"
        r"|不能(?:认为|说)(?:无|没有)|待[排查]|考虑|疑似|可疑|怀疑|疑(?=似|为|有|诊)|倾向于?"
        r"|可能(?:为|是|系|存在|有)?|似(?:见|有|呈|为)",
    ),
    # Against the prior.
    (
        "denial",
        r"(?:较(?![大小])[^，,。；;无未]{0,8})?(?:现?已(?:完全|基本)?|现|完全|基本)(?:吸收|消失|消散|复张)"
        r"|消失|已复张|(?<=[液影])吸收(?=\s*(?:$|[，,]))"
        r"|(?:本次|此次|今次?|现)?未(?:见|显示)(?:明确|明显)?(?:显示)?(?=\s*(?:$|[，,]))",
    ),
    ("stable", rf"{_ZH_STABLE}|相仿|大?致?[同如]前(?!片)|稳定|变化不(?:大|明显|著)|无变化"),
    ("new", r"(?:较前)?新(?:发|出现|增|见|近出现)"),
    (
        "smaller",
        r"较(?![大小厚])[^，,。；;无未]{1,20}?(?:缩小|减少|减小|变小|吸收|好转|减轻|变淡)(?:减少|好转)?"
        r"|部分吸收|吸收好转|(?:明显|略有?)(?:缩小|减少)",
    ),
    (
        "larger",
        r"较(?![大小厚])[^，,。；;无未]{1,20}?(?:增大|增多|扩大|进展|加重)|增至|(?:明显|略有?)增大",
    ),
    # Other organs.
    ("thyroid-nodule", rf"{_SIDE}甲状腺{_IN}{{0,12}}?(?:结节|肿块|肿物)"),
    ("adrenal-nodule", rf"{_SIDE}肾上腺{_IN}{{0,8}}?(?:结节|肿块|腺瘤|增粗)"),
    ("breast-nodule", rf"{_SIDE}乳(?:腺|房)?{_IN}{{0,8}}?(?:结节|肿块|肿物)"),
    ("liver-cyst", rf"肝(?!门){_IN}{{0,10}}?囊肿"),
    ("liver-lesion", rf"肝(?!门){_IN}{{0,10}}?(?:结节|肿块|低密度[灶影]|占位|血管瘤)"),
    ("kidney-cyst", rf"{_SIDE}肾(?!上腺){_IN}{{0,8}}?囊肿"),
    (
        "skip",
        rf"(?:脾|胰|肾(?!上腺)|胆)脏?{_IN}{{0,8}}?(?:结节|肿块|钙化灶?)|肝{_IN}{{0,8}}?钙化灶?",
    ),
    # Heart, mediastinum, bones.
    (
        "coronary-calcification+aortic-calcification",
        r"(?:主动脉(?:弓|壁)?(?:[及与和、])冠(?:状动)?脉|冠(?:状动)?脉(?:[及与和、])主动脉)"
        r"[^，,。；;]{0,8}?钙化(?:斑块?|灶)?",
    ),
    ("coronary-calcification", r"冠(?:状动)?脉[^，,。；;]{0,10}?钙化(?:斑块?|灶)?"),
    ("aortic-calcification", r"主动脉[^，,。；;]{0,8}?钙化(?:斑块?|灶)?"),
    (
        "skip",
        r"(?:动脉|支气管|气管|淋巴结|瓣膜?|胸膜|气道)[^，,。；;肺]{0,6}钙化灶?|钙化性?(?:淋巴结?|斑块?)",
    ),
    (
        "no cardiomegaly",
        r"心(?:影|脏)(?:外形)?(?:大小|形态|、|及)*(?:不大|(?:未见|无)(?:明显)?(?:增大|扩大|异常)|正常)",
    ),
    (
        "cardiomegaly",
        r"心(?:影|脏|脏影)[^，,。；;肺]{0,4}?(?:增大|扩大)|心影?[稍略]大|心影[稍略]?饱满",
    ),
    ("hiatal-hernia", r"(?:食管|食道)?裂孔疝"),
    (
        "lymphadenopathy",
        r"淋巴结(?:未见|无)?[^，,。；;肺]{0,4}?(?:肿大|增大)|(?:肿大|增大)的?(?:稍大)?淋巴结(?:影)?"
        r"|淋巴结(?=[，,]?(?:较?大[者]?|最大者)?约?短径)",
    ),
    ("no lymphadenopathy", r"(?:未见|无)(?:明显|确切)?肿大(?=\s*(?:$|[，,]))"),
    (
        "rib-lesion",
        rf"{_SIDE}(?:第[\d、,-]+)?肋骨?{_IN}{{0,4}}?(?:骨质(?:破坏|吸收)|转移|病变|占位)",
    ),
    ("fracture", r"骨折"),
    (
        "both_pericardial",
        r"胸膜?腔(?:及|和|、|与|或)心包(?:腔)?内?(?:未见|无)?[^，,。；;]{0,4}?积液",
    ),
    ("both_pericardial", r"(?<=胸腔)[及和、与或]心包(?:腔)?内?(?:未见|无)?[^，,。；;]{0,4}?积液"),
    (
        "no pericardial-effusion",
        r"心包(?:腔)?内?(?=[及和、与][^，,。；;]{0,4}胸[^，,。；;]{0,3}(?:未见|无))",
    ),
    ("pericardial-effusion", r"心包(?:腔)?内?(?=[及和、与][^，,。；;]{0,4}胸)"),
    ("pericardial-effusion", r"心包(?:腔)?内?(?:见|可见|未见|无|少量|微量|大量|中等量|明显)*积液"),
    ("side", r"(?:右|左|双|两)侧?(?=[^，,。；;肺]{0,4}胸膜(?!腔|下))"),
    ("pleural-thickening", r"胸膜[^，,。；;腔下]{0,8}(?:增厚|肥厚)(?:[、及]?粘连)?|胸膜粘连"),
    # Lungs.
    ("septal-thickening", r"小叶间隔[^，,。；;及]{0,6}?增厚|间隔线"),
    (
        "bronchial-wall-thickening",
        r"(?:支气管(?:管)?壁|(?<!动脉)(?<!血)管壁)[^，,。；;及]{0,4}?增厚|慢?性?支气管炎",
    ),
    (
        "bronchiectasis",
        r"支气管(?!炎|壁|管壁)[^，,。；;及、肺]{0,6}?扩张|支扩|(?<=[及并、])扩张",
    ),
    ("atelectasis", r"(?:肺)?不张|膨胀不全"),
    ("bulla", r"肺?大[疱泡]"),
    ("cavity", r"空洞"),
    ("mosaic-attenuation", r"马赛克(?:样|状)?(?:密度|灌注|征)?"),
    (
        "fibrosis",
        r"纤维(?:条索|索条|化)?[状样]?(?:高?密度)?[灶影]?|(?:条索|索条)[状样]?(?:高?密度)?影?|瘢痕灶?",
    ),
    (
        "ground-glass-opacity",
        r"(?:混合)?(?:[磨毛]玻璃[样状]?(?:高?密度)?(?:增高)?(?:斑片状?)?[影灶]|GGO(?!结节))(?!结节)",
    ),
    (
        "opacity",
        r"(?:(?:斑片|片|片絮|絮|斑点|条片)状?[^，,。；;、实结磨毛索纤钙]{0,6}?影|高密度影)(?!结节)",
    ),
    ("part-solid", r"密度混杂"),
    ("calcification", r"(?:斑?点状)?钙化(?:灶|点|斑)|(?:斑点|点)状钙化"),
    # What "未见" calls nothing at all; kept where a lung or the chest is spoken of and it is denied.
    ("no abnormality", r"(?<=肺)内?清[晰楚]|(?<=肺[野叶内])清[晰楚]"),
    ("abnormality", r"异常(?!密度|强化|信号|增|扩)|(?:实质性|活动性|器质性)?病变"),
    # Places: the lobe and its segments are put together in `statements`.
    ("segment", rf"{ZH_SEGMENT}|{CODE}"),
    (
        "lobe",
        rf"(?:右|左|双|两)侧?(?:肺{lexicon.ZH_LIST}(?:肺?叶|肺野|野)|{lexicon.ZH_LIST}(?:肺叶|肺野|肺|叶))",
    ),
    ("tip", r"(?:右|左|双|两)侧?肺(?:尖(?!后?段)|底)"),
    ("side", r"(?:右|左|双)侧?肺门(?=区?[^，,。；;淋]{0,10}(?:肿块|结节|占位|肿物))"),
    ("side", r"(?:右|左)肺(?=[尖后前外内背上下]{1,2}(?:舌|侧|内)?(?:基底)?段)"),
    ("bare", r"(?<![上中下])[上中下]叶"),
    (
        "organ",
        r"(?:[右左双两]侧?)?(?:甲状腺(?:[右左双两]侧?叶|峡部)?|肾上腺|乳腺|肝脏?(?:[右左]叶)?)",
    ),
]
_EN_SIDE = lexicon.EN_SIDE
_EN_ORGAN = r"(?P<organ>thyroid|adrenal|hepatic|liver|breast)"
_EN_FIRST: list[tuple[str, str]] = [
    (
        "skip",
        r"\bnot\s+(?:absent|without|free\s+of)\b|\bmass effect|\b(?:subcutaneous|mediastinal|surgical|"
        r"soft[- ]tissue)\s+emphysema|\bjoint\s+(?:effusions?|fluid)",
    ),
    (
        "doubt",
        r"\babsence\s+of(?=[^.;]{0,80}\bcannot\s+be\s+(?:confirmed|established|assured))"
        r"|\b(?:difficult|hard|impossible)\s+to\s+(?:exclude|rule\s+out)\b"
        r"|\b(?:cannot|can\s?not|could\s+not|not)\s+(?:be\s+)?(?:\w+\s+)?(?:exclude|excluded|rule\s+out|ruled\s+out)\b"
        r"|\b(?:possib(?:le|ly|ility\s+of)|probabl[ey]|likely|questionable|equivocal|suspected|presumed"
        r"|susp(?:icious|icion)\s+(?:for|of)|concerning\s+for|suggest(?:s|ed|ing|ive)?(?:\s+of)?"
        r"|(?:may|might|could)\s+(?:represent|be|reflect|indicate)|versus|vs\.?)(?!\w)",
    ),
    # Against the prior.
    (
        "stable",
        r"\b(?:no|without)\s+(?:\w+\s+){0,2}?(?:change|growth|increase|enlargement|progression)\b(?:\s+in\b)?"
        r"|\bunchanged\b|\bstable\b|\bnot\s+(?:significantly\s+)?changed\b|\bsimilar\s+to\s+(?:the\s+)?prior\b",
    ),
    ("new", r"\bnew(?:ly)?\b(?:\s+(?:or|and)\s+enlarging)?"),
    (
        "larger",
        r"\b(?:increas(?:e|ed|ing)|grown|growing|growth|enlarging|larger|progress(?:ed|ion)|worsen(?:ed|ing))\b"
        r"(?!\s+(?:attenuation|density|opacit\w+|markings|lucency|than))",
    ),
    (
        "smaller",
        r"\b(?:decreas(?:e|ed|ing)|smaller|shrunk|improv(?:ed|ing|ement)|diminished|regressed)\b(?!\s+than)",
    ),
    # Other organs.
    (
        "organ-nodule",
        rf"\b(?:(?:right|left|bilateral)\s+)?{_EN_ORGAN}(?:\s+(?:gland|lobe))?\s+(?:\w+\s+)?(?:nodul\w+|mass(?:es)?|lesions?)"
        rf"|\b(?:nodules?|mass(?:es)?|lesions?)\s+(?:is\s+seen\s+|are\s+seen\s+)?(?:in|of)\s+the\s+(?:right\s+|left\s+)?"
        rf"{_EN_ORGAN.replace('organ', 'organ2')}(?:\s+(?:gland|lobe))?",
    ),
    ("liver-cyst", r"\b(?:hepatic|liver)\s+(?:\w+\s+)?cysts?\b|\bcysts?\s+in\s+the\s+liver\b"),
    (
        "kidney-cyst",
        r"\b(?:(?:right|left|bilateral)\s+)?(?:renal|kidney)\s+(?:\w+\s+)?cysts?\b|\bcysts?\s+in\s+the\s+(?:\w+\s+)?kidneys?\b",
    ),
    (
        "skip",
        r"\b(?:splenic|renal|kidney|mediastinal|soft[- ]tissue)\s+(?:\w+\s+)?(?:nodul\w+|mass(?:es)?)",
    ),
    # Heart, mediastinum, bones.
    (
        "coronary-calcification+aortic-calcification",
        r"\b(?:coronary(?:\s+arter\w+)?\s+and\s+aortic|aortic\s+and\s+coronary(?:\s+arter\w+)?)\s+(?:\w+\s+)?calcif\w+",
    ),
    (
        "coronary-calcification",
        r"\bcoronary\s+(?:\w+\s+){0,2}?calcif\w+|\bcalcified\s+coronar\w+(?:\s+arter\w+)?",
    ),
    (
        "aortic-calcification",
        r"\b(?:aort\w+)\s+(?:\w+\s+){0,2}?calcif\w+|\bcalcif\w+\s+(?:\w+\s+){0,2}?(?:of\s+the\s+)?(?:\w+\s+)?aort\w+",
    ),
    (
        "skip",
        r"\b(?:vascular|valv\w+|pleural|nodal)\s+(?:\w+\s+){0,2}?calcif\w+|\bcalcified\s+(?:\w+\s+)?(?:lymph\s+nodes?|plaques?|pleural|hilar|mediastinal)",
    ),
    (
        "no cardiomegaly",
        r"\b(?:heart|cardiac)(?:\s+\w+)?\s+(?:is\s+|are\s+)?(?:normal(?:\s+in\s+size)?|not\s+enlarged)\b|\bnormal\s+(?:heart|cardiac)\s+size\b",
    ),
    (
        "cardiomegaly",
        r"\bcardiomegaly\b|\b(?:heart|cardiac)\s+(?:\w+\s+)?(?:is\s+)?(?:\w+\s+)?enlarge(?:d|ment)\b|\benlarged\s+(?:heart|cardiac)\b",
    ),
    ("hiatal-hernia", r"\bhiat(?:al|us)\s+hernia\b"),
    ("skip", r"\bintrapulmonary\s+lymph\s+nodes?"),
    (
        "no lymphadenopathy",
        r"\blymph\s+nodes?\s+(?:are|is)\s+(?:not\s+(?:\w+\s+)?enlarged|normal|within\s+normal)",
    ),
    (
        "lymphadenopathy",
        r"\b(?:lymph)?adenopathy\b|\blymph\s+nodes?\b|\bnodes?\b(?=\s+(?:measuring|\d))",
    ),
    (
        "rib-lesion",
        r"\b(?:lytic|sclerotic|destructive)\s+(?:rib\s+)?lesions?\s+(?:of|in)\s+the\s+(?:\w+\s+){0,2}ribs?\b|\brib\s+(?:lesions?|destruction|metastas\w+)",
    ),
    ("fracture", r"\bfractur(?:e|es|ed)\b"),
    (
        "both_pericardial",
        r"\bpleural\s*(?:,|or|and|and/or|nor)\s+pericardial\s+(?:effusions?|fluid)|\bpericardial\s*(?:,|or|and|and/or)\s+pleural\s+(?:effusions?|fluid)",
    ),
    ("pericardial-effusion", r"\bpericardial\s+(?:effusions?|fluid)"),
    ("effusion", r"(?<=trace )fluid\b|(?<=small )fluid\b"),
    (
        "pleural-thickening",
        r"\bpleural(?:\s+and\s+\w+)?\s+thickening\b|\bthickening\s+of\s+the\s+(?:\w+\s+)?pleura\b",
    ),
    # Lungs.
    (
        "septal-thickening",
        r"\b(?:inter\w+\s+)?septal\s+thickening\b|\bthickened\s+(?:interlobular\s+)?sept\w+",
    ),
    (
        "bronchial-wall-thickening",
        r"\b(?:peri)?bronchial(?:\s+wall)?\s+thickening\b|\bairway\s+wall\s+thickening\b|\bbronchitis\b",
    ),
    ("bronchiectasis", r"\bbronchiecta\w+"),
    ("atelectasis", r"\batelecta\w+"),
    ("bulla", r"\bbull(?:a|ae|ous)\b"),
    ("cavity", r"\bcavit(?:y|ies|ary\s+lesions?|ations?)\b"),
    ("mosaic-attenuation", r"\bmosaic\s+(?:attenuation|perfusion|pattern)\b"),
    ("fibrosis", r"\bfibro(?:sis|tic)\b(?:\s+(?:change|band|strand)s?)?|\bscar(?:s|ring)?\b"),
    (
        "ground-glass-opacity",
        r"\bground[\s-]?glass\s+(?:opacit\w+|attenuation|change\w*|infiltrat\w+)|\bGGOs?\b(?!\s+nodul)",
    ),
    ("opacity", r"(?<!nodular )\b(?:opacit(?:y|ies)|infiltrates?|airspace\s+disease)\b"),
    ("calcification", r"\bcalcifications?\b|\bcalcified\s+foc\w+"),
    (
        "no abnormality",
        r"(?<=lungs )(?:(?:fields?\s+)?(?:are|is)\s+|appear\s+)?(?:otherwise\s+)?(?:clear|normal|unremarkable)\b|(?<=lung )(?:is\s+)(?:otherwise\s+)?(?:clear|normal|unremarkable)\b|\bclear\s+lungs\b|\bnormal\s+(?:chest|CT|thora)\w*",
    ),
    ("abnormality", r"\babnormalit(?:y|ies)\b"),
    # Places.
    ("bases", r"\b(?:(?:both|bilateral)\s+)?(?:lung\s+)?(?:bases|apices)\b"),
    ("predominant", r"\b(?:upper|middle|lower)[\s-]+lobes?[\s-]+predominan(?:t|ce)\b"),
    ("segment", rf"{EN_SEGMENT}|(?-i:{CODE})"),
]
_SKIP_KEPT = ("右叶|左叶", r"\b(?:right|left)\s+(?:heart")
_PARTS = ("skip", "lobe", "tip", "bare", "effusion_also")


def _rules(
    first: list[tuple[str, str]], base: list[tuple[str, str]], *, zh: bool
) -> list[tuple[str, str]]:
    """`first`, then what is left of the narrow rules: their guards against other organs' sides."""
    replaced = _PARTS if zh else ("skip", "effusion_also")
    kept = [
        (name, rule)
        for name, rule in base
        if name not in replaced or (name == "skip" and rule.startswith(_SKIP_KEPT))
    ]
    return first + kept


def _compile(rules: list[tuple[str, str]]) -> tuple[re.Pattern[str], list[str]]:
    """One expression; group g<i> is rule i."""
    whole = "|".join(f"(?P<g{i}>{rule})" for i, (_, rule) in enumerate(rules))
    return re.compile(whole, re.IGNORECASE), [name for name, _ in rules]


_RULES: dict[Language, tuple[re.Pattern[str], list[str]]] = {
    "zh": _compile(_rules(_ZH_FIRST, lexicon.ZH, zh=True)),
    "en": _compile(_rules(_EN_FIRST, lexicon.EN, zh=False)),
}
_CHANGE = ("new", "larger", "smaller", "stable")
_OTHER_SIZE: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        r"(?:层厚|层距|间隔|距[^，,。；;]{0,8}|原[^，,。；;]{0,4}|[上前]次[^，,。；;]{0,4}|先前[^，,。；;]{0,4}"
        r"|由|实性(?:成分|部分|核心)[^，,。；;]{0,6}|深度?约?|厚度?约?)$"
    ),
    "en": re.compile(
        r"\b(?:previous\w*|prior|formerly|earlier|compared\s+(?:with|to)|thickness|spacing|slice\s+interval|"
        r"distance|depth|solid\s+(?:component|core|portion|part))\b(?:(?!measur)[^.;,]){0,16}$",
        re.IGNORECASE,
    ),
}
_ZH_DIAMETERS = re.compile(
    rf"长径约?({lexicon.NUMBER})\s*({lexicon.UNIT})[，,、]?短径约?({lexicon.NUMBER})\s*({lexicon.UNIT})"
)
_LUNG_CONTEXT: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(r"肺|胸部|余|其他|其它"),
    "en": re.compile(r"\b(?:lungs?|chest|thora\w*|pulmonary|cardiopulmonary)\b|^\W*no\b", re.I),
}
_ZH_SIDE: dict[str, Side] = {"右": "right", "左": "left"}
_AMOUNT = re.compile(r"[少微大]量|中等?量")
_AMOUNTS: dict[str, Amount] = {"少": "small", "微": "small", "大": "large", "中": "moderate"}
_BETWEEN = re.compile(r"[\s（(]*$")
_BEFORE_CODE = re.compile(r"[\s（(，,]*$")  # "LUL, S1+2"


def tokenize(sentence: str, language: Language) -> list[Token]:
    """The tokens of one sentence, in order; a segment is part of the place it narrows."""
    sentence = sentence.translate(lexicon.NARROW)
    pattern, names = _RULES[language]
    tokens: list[Token] = []
    for match in pattern.finditer(sentence):
        name = names[int(str(match.lastgroup)[1:])] if match.lastgroup else "skip"
        if name != "skip":
            tokens.extend(_tokens_of(name, match, sentence, language))
    return _with_segments(_own(_one_size(tokens, sentence, language), language), sentence, language)


def _tokens_of(
    name: str, match: re.Match[str], sentence: str, language: Language
) -> Iterator[Token]:
    text, (start, end) = match.group(), match.span()
    if name == "size":
        yield from _size(text, start, end, sentence, language)
        return
    if name in _CHANGE or name == "doubt":
        yield Token("change" if name in _CHANGE else "doubt", start, end, word=name)
        return
    if name == "segment":
        yield Token("segment", start, end, word=segment_name(text))
        return
    if name == "organ":
        organ = next(key for key in _ORGANS if key in text)
        sides: set[Side] = {_ZH_SIDE[c] for c in text if c in _ZH_SIDE}
        side = sides.pop() if len(sides) == 1 and not re.search("[双两]", text) else None
        yield Token("organ", start, end, word=_ORGANS[organ], spots=((side, None, None),))
        return
    if name == "lingula":
        yield Token(
            "place",
            start,
            end,
            "lingula",
            (("left", "LUL", "lingular"),),
            bound=_bound(sentence, start, language),
        )
        return
    if name == "organ-nodule":
        organ = next(key for key in _ORGANS if key in text.lower())
        yield Token("finding", start, end, word=_ORGANS[organ])
        return
    name = "effusion+pericardial-effusion" if name == "both_pericardial" else name
    denied, _, words = name.rpartition(" ")
    if any(word in OBSERVATIONS for word in words.split("+")) and name not in lexicon.FINDING_WORDS:
        if words == "abnormality" and not denied:
            begin = max(sentence.rfind(stop, 0, start) for stop in "，,") + 1
            if re.match(r"[双两右左]肺伴.*外", sentence[:start]):  # "双肺除…外，未见异常"
                begin = 0
            if not _LUNG_CONTEXT[language].search(
                sentence[begin:start] + (sentence[end:] if language == "en" else "")
            ):
                return
        if "肿大" in text and "淋巴" not in sentence[:start] + text:
            return
        if denied or re.search("未见|未及|无(?!名)|没有", text):
            yield Token("negation", start, start)
        amount = _AMOUNT.search(text)
        if amount and words.endswith("pericardial-effusion"):
            yield Token("amount", start, start, word=_AMOUNTS[amount[0][0]])
        if re.search("可疑|疑似", text):
            yield Token("doubt", start, start, word="doubt")
        yield Token("finding", start, end, word=words)
        return
    if name == "calcified" and re.match("可能|待", sentence[end:]):
        return
    if name == "bases":
        table = lexicon.UPPER if "ap" in text.lower() else lexicon.LOWER
        spots = tuple((side, table[side], None) for side in SIDES)
        yield Token("place", start, end, "tip", spots, bound=_bound(sentence, start, language))
        return
    yield from lexicon.tokens_of(name, match, sentence, language)


def _size(text: str, start: int, end: int, sentence: str, language: Language) -> Iterator[Token]:
    before = sentence[max(0, start - 40) : start]
    if _OTHER_SIZE[language].search(before) or lexicon.OTHER_SIZE_AFTER.match(sentence, end):
        return
    longest = lexicon.longest_mm(text)
    numbers = lexicon.axes_mm(text)
    axes = numbers if re.search(r"[×xX*✕]|\bby\b", text) else (longest,)
    yield Token("size", start, end, size_mm=longest, axes_mm=axes)


def _one_size(tokens: list[Token], sentence: str, language: Language) -> list[Token]:
    """ "长径约8mm，短径约6mm" is one size of two axes."""
    if language == "en":
        return tokens
    for match in _ZH_DIAMETERS.finditer(sentence):
        inside = [t for t in tokens if t.kind == "size" and match.start() <= t.start < match.end()]
        if len(inside) == 2:
            axes = inside[0].axes_mm + inside[1].axes_mm
            whole = Token("size", inside[0].start, match.end(), size_mm=max(axes), axes_mm=axes)
            tokens = [whole if t is inside[0] else t for t in tokens if t is not inside[1]]
    return tokens


def _own(tokens: list[Token], language: Language) -> list[Token]:
    """Whose a finding is: an organ's that stands before it, or a nodule's own calcification."""
    organ: Token | None = None
    head, own = "", []
    sentence_has_no_nodule = not any(t.word == "nodule" for t in tokens)
    for token in tokens:
        if token.kind == "place":
            organ, head = None, ""
        elif token.kind == "organ":
            organ = token
            own.append(token)
            continue
        elif token.kind == "finding":
            if organ and token.word == "nodule":
                token = replace(token, word=organ.word, spots=organ.spots)
            if head == "nodule" and token.word == "calcification" and language == "en":
                token = Token("density", token.start, token.end, word="calcified")
            elif head == token.word == "lymphadenopathy" and language == "en":
                continue  # "adenopathy, largest node 11 mm"
            else:
                head = token.word
        elif token.word == "calcified" and sentence_has_no_nodule and language == "zh":
            token = Token("finding", token.start, token.end, word="calcification")
        own.append(token)
    return own


def _with_segments(tokens: list[Token], sentence: str, language: Language) -> list[Token]:
    """Segments put into the place beside them, or made a place in the last one named."""
    placed: list[Token] = []
    waiting: Token | None = None  # "superior segment of the" before its place
    for token in tokens:
        last = placed[-1] if placed else None
        if token.kind == "segment":
            between = _BEFORE_CODE if "S" in token.word else _BETWEEN
            bases = next((t.spots for t in reversed(placed) if t.kind == "place"), ())
            joined = (
                last is not None
                and last.kind == "place"
                and all(spot[2] is None for spot in last.spots)
                and between.match(sentence[last.end : token.start])
            )
            if joined and last is not None:
                placed[-1] = _narrowed(last, token.word, last.start, token.end)
            elif language == "en" and re.match(r"\s+of\s+(?:the\s+)?(?=\S)", sentence[token.end :]):
                waiting = token
            elif last is not None and last.kind == "place" and last.spots[0][2] == token.word:
                placed[-1] = _narrowed(last, token.word, last.start, token.end)
            elif (
                last is not None
                and last.kind == "place"
                and _BETWEEN.match(sentence[last.end : token.start])
            ):
                pass  # "背段（S6）" says it twice
            else:
                spots = tuple(dict.fromkeys((side, lobe, token.word) for side, lobe, _ in bases))
                bound = _bound(sentence, token.start, language)
                placed.append(
                    Token(
                        "place",
                        token.start,
                        token.end,
                        "segment",
                        spots or ((None, None, token.word),),
                        bound=bound,
                    )
                )
        elif token.kind == "place" and waiting is not None:
            bound = _bound(sentence, waiting.start, language)
            placed.append(
                Token(
                    "place",
                    waiting.start,
                    token.end,
                    token.word,
                    _narrowed(token, waiting.word, 0, 0).spots,
                    bound=bound,
                )
            )
            waiting = None
        else:
            placed.append(token)
    return placed


def _narrowed(place: Token, segment: str, start: int, end: int) -> Token:
    spots = tuple((side, lobe, segment) for side, lobe, _ in place.spots)
    return Token("place", start, end, place.word, spots, bound=place.bound)


def _bound(sentence: str, start: int, language: Language) -> bool:
    return lexicon.BOUND[language].search(sentence[max(0, start - 60) : start]) is not None


def side_beside(sentence: str, token: Token, before: int, language: Language) -> Side | None:
    """The one side named beside a finding of bones, nodes or other organs; None if both or none.

    before: where the finding before it ends.
    """
    if token.spots:
        return token.spots[0][0]
    comma = max(sentence.rfind(stop, 0, token.start) for stop in "，,：:") + 1
    if token.word == "fracture" and re.search(r"肋|\bribs?\b", sentence[before:comma]):
        comma = before  # "左侧第3肋骨皮质欠规整，不除外骨折"
    text = sentence[max(comma, before) : token.end]
    if language == "zh":
        found = set(re.findall(r"[右左双两](?=侧|第|肺门|叶|乳|肾|肋|腋|锁|颈|肩)", text))
        return {"右": "right", "左": "left"}.get("".join(found)) if len(found) == 1 else None  # type: ignore[return-value]
    stop = re.search(r"[,;]|\b(?:and|with)\b", sentence[token.end :])
    text += sentence[token.end : token.end + stop.start()] if stop else sentence[token.end :]
    words = {word.lower() for word in re.findall(r"\b(?:right|left|bilateral|both)\b", text, re.I)}
    return words.pop() if len(words) == 1 and words <= {"right", "left"} else None  # type: ignore[return-value]
