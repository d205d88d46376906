"""What a sentence says that is not about this examination's image, and is blanked before reading.

Advice, conditions, history, the family's diseases and technique assert nothing; of a correction
only what is right is read. Blanked characters become spaces, so that spans stay true.
"""

from __future__ import annotations

import re

from ctscribe.reports.schema import Language

# To the end of the sentence.
_ONWARD: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        r"(?:为(?:了|进一步)*(?:明确|了解|除外|排除|评估)|建议|请(?=结合|与|对比|对照|进一步|临床|及时|排除|除外|注意)|必要时|警惕|需(?:要)?(?:进一步|与"
        r"|行|支气管|复查|警惕|结合|排除|除外)"
        r"|进一步(?:检查|除外|排除|明确|评估)|(?<!难)以(?:便)?(?:除外|排除)|注意(?:除外|排除)"
        r"|(?<![例犹正缺])如(?![上下前图常意同此何])|若(?!干)|假如|倘若|一旦|家族史"
        r"|扫描参数|检查(?:方法|技术)|扫描(?:方法|技术)|采用(?=[^，,]*扫描)).*",
        re.DOTALL,
    ),
    "en": re.compile(
        r"\b(?:(?:would|I|we)\s+(?:\w+\s+)?(?:suggest|advise)|kindly"
        r"|to\s+(?:ensure|confirm|document|verify)|recommend(?:ed|ation|ations|s)?|advise[ds]?|please|correlat(?:e|ion)|if|unless"
        r"|return\s+if"
        r"|in\s+case\s+of|family\s+history|(?:suggest|consider)(?=\s+(?:an?\s+)?(?:follow|CT|PET|repeat"
        r"|biops|further|clin))"
        r"|consider(?=\s+\w+\s+(?:ultrasound|CT|MRI|PET|biops|evaluat|scan))"
        r"|follow[- ]up\s+(?:CT|imaging|with)"
        r"|(?<!difficult\s)(?<!hard\s)(?<!possible\s)(?<!unable\s)to\s+(?:exclude|rule\s+out|evaluate"
        r"|assess|detect)"
        r"|(?<!cannot\s)(?<!not\s)(?<!be\s)rule\s+out|r/o|evaluat(?:e|ion)\s+for|for\s+evaluation"
        r"|(?:symptoms|signs)\s+of|should\s+(?:\w+\s+){1,3}?(?:occur|develop|appear|arise"
        r"|persist|grow))\b.*",
        re.IGNORECASE | re.DOTALL,
    ),
}
# A clause up to these words: "左肺上叶结节切除术后".
_UP_TO: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        r"(?P<kept>[右左双两]侧?(?=[^，,]*(?:引流|置管|穿刺)))?.*(?:切除|术后)(?:\d+[年月周天日])?(?:改变)?",
        re.DOTALL,
    ),
    "en": re.compile(r"(?P<kept>)(?!)"),
}
# A clause from these words on.
_FROM: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        r"既往|曾(?=患|有|行|因|经)|(?:父亲?|母亲?|其[父母兄弟姐妹子女]|祖[父母]|兄弟|姐妹"
        r"|家属)(?=.{0,6}[有患肺气胸])"
        r"|层厚|层距|重建间隔|窗宽|窗位"
    ),
    "en": re.compile(
        r"\b(?:history\s+of|known\s+case\s+of|status\s+post|s/p|(?:following|after|post)\s+(?:\w+\s+){0,2}biopsy|(?:resection|excision|removal|lobectomy)\s+(?:of"
        r"|for)|mother|father"
        r"|brother|sister|sibling|aunt|uncle|grandmother|grandfather"
        r"|prior\s+(?!(?:is|are|an?|the|and)\b|CT|PET|study|stud|exam|film|scan|report|imag|chest|radiograph"
        r"|comparison))\b",
        re.IGNORECASE,
    ),
}
_WHOLE: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        r"(?:病|既往|手术|家族)史|CAD|因“|(?:体检|查体)发现|入院|主诉|漏诊|伪影|可能(?:无法|难以|未能)(?:完全)?(?:侦测|显示|检出|评估|发现)|发现[^，,]{0,8}\d+[年月周天]|请问|有无|有没有|是否(?:有|存在|合并|较|增|变)|显示(?:欠佳"
        r"|不佳)"
    ),
    "en": re.compile(
        r"\bmay\s+be\s+(?:missed|obscured|overlooked)\b"
        r"|\byear[- ]old\b|\bpresent(?:s|ing|ed)\s+with\b|\b(?:is|are|be)\s+(?:recommended"
        r"|advised|suggested|considered)\b|\b(?:slices?|slice\s+thickness"
        r"|reconstruct(?:ed|ion|ions)|protocol)\b",
        re.IGNORECASE,
    ),
}
# What the clinic thinks the image may show is no finding: to where the image is spoken of.
_CLINICAL: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        r"(?<!结合)(?<!请)临床上?(?:高度)?(?:怀疑|可疑|疑似|疑诊|疑有|疑为|疑|拟诊|诊断|考虑)"
        r"[^，,；;。]*?(?=CT|本次|此次|现|但|双肺|两肺|[，,；;。]|$)"
        r"|主诉[^；;。]*?(?=CT|本次|此次|影像|[双两右左]侧?[肺胸]|[；;。]|$)"
    ),
    "en": re.compile(
        r"\bclinical(?:ly)?\s+(?:suspect\w*|suspicion|concern|query|queried|question)\b"
        r"(?![^,;]*\b(?:not|no|excluded)\b)[^,;]*",
        re.IGNORECASE,
    ),
}
_CLAUSE: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(r"[^，,：:]+"),
    "en": re.compile(r"[^,;]+"),
}
_PRIOR: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        r"(?<![较与比和同跟])(?:前次检查的|(?:先前|之前|以前|既往)的?)(?=[右左双两RL])(?:(?!本次|此次|现[已为仅]|已)[^，,])*"
        r"|(?:\d{4}[-年./]\d{1,2}(?:[-月./]\d{1,2}日?)?|前[次片]|上次|原片|旧片|外院|老片|既往|(?<!本次)胸部?(?:X线|正位|平片|片|DR))"
        r"[^，,较比未本]{0,10}?(?:示|见|提示|显示|所示)(?:(?!本次|此次|现[已为仅])[^，,])*"
    ),
    "en": re.compile(
        r"\b(?:prior|previous|outside|earlier)\s+(?:\w+\s+){0,3}?(?:showed|demonstrated"
        r"|revealed|described)\b[^,;]*",
        re.IGNORECASE,
    ),
}
_GONE: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(
        r"(?:未见(?:明确|明显)?(?:显示)?|未再?(?:显示|见到?)|已?(?:不复?见|[看见]不到)了?|已?未(?:见|看)到|消失|消散|消退|(?<!未)(?<!部分)吸收)(?=\s*(?:$|[，,]))"
    ),
    "en": re.compile(
        r"\b(?:not|no\s+longer)\s+(?:\w+\s+)?(?:seen|visible|present|identified)\b|\bresolved\b"
        r"|\bdisappeared\b|\bgone\b",
        re.I,
    ),
}
_STILL: dict[Language, re.Pattern[str]] = {
    "zh": re.compile(r"\d|增大|缩小|相仿|变化|减少|增多|好转|仍"),
    "en": re.compile(r"\d|larger|smaller|unchanged|stable|increas|decreas|persist|still", re.I),
}
_CORRECTIONS: dict[Language, tuple[re.Pattern[str], ...]] = {
    # Groups are what is wrong.
    "zh": (
        re.compile(
            r"([右左双两]侧?肺?[上中下]?叶?(?:[^，,（(]{1,5}段)?[（(](?:应为|应是|更正为?|更正[:：]"
            r"|实为))[右左双两]侧?肺?[上中下]?叶?([）)])"
        ),
        re.compile(
            r"[右左双两]侧?肺?[上中下]?叶?(?:[^，,（(]{1,5}段)?([（(][^（）()]{0,12}误(?:写|作|报)?[^（）()]{0,8}[）)])"
        ),
        re.compile(r"([（(](?:非|不是|并非)[右左][^（）()]{0,8}[）)])"),
        re.compile(r"(更正[:：]?[^，,。]{0,30}?(?:应为|应是|改为|更正为))"),
    ),
    "en": (
        re.compile(
            r"\b(?:right|left)(?:\s+\w+){0,2}\s*(\((?:not|rather\s+than)\s+(?:the\s+)?(?:right|left)\))",
            re.I,
        ),
        re.compile(
            r"\b((?:right|left)\s*\((?:correction|should\s+(?:be|read)"
            r"|corrected\s+to)\s*:?\s*)(?:right|left)(\))",
            re.I,
        ),
        re.compile(r"(\(\s*not\s+(?:the\s+)?(?:right|left)[^)]{0,20}\))", re.I),
    ),
}


# "（Im45）", "(series 3, image 88)": where to look, between the words that it stands among.
_IMAGE = re.compile(
    r"[（(]\s*(?:(?:im(?:g|age)?|se(?:r|ries)?|图像?|层面?|序列)[\s.:：]*\d+[\s,，、/-]*){1,3}[）)]"
    r"|[（(]\s*\d{1,2}\s?[/:：-]\s?\d{1,3}\s*[）)]",
    re.IGNORECASE,
)


# "外侧段结节，更正：内侧段", "右肺上叶结节（应为右肺中叶）": what comes later is right.
_PUT_RIGHT = re.compile(
    r"(?P<wrong>[右左双两]侧?[上中下]?肺?[上中下]?叶?|(?<=叶)[^，,、叶段（(]{1,4}段)(?=[^段叶，,、]{0,12}[，,（(])[^段叶，,、（(]{0,12}"
    r"(?P<begin>[，,（(]\s*(?:更正[为:：]*|应[为是]|实为)\s*)"
    r"(?P<right>(?P<side>[右左]侧?[上中下]?肺?[上中下]?叶?)|[^，,、叶段（(]{1,4}段)"
)


def corrected(sentence: str, language: Language) -> str:
    """The sentence with what it takes back blanked: "右肺中叶（原报告误写为左肺下叶）"."""
    later = _PUT_RIGHT.search(sentence) if language == "zh" else None
    if later:
        length = later.end("wrong") - later.start("wrong")
        right = later["right"] if later["side"] or "段" in later["wrong"] else ""
        if right and len(right) <= length:  # in the place of the wrong one, so that spans stay true
            closed = re.match("[）)]", sentence[later.end("right") :]) is not None
            sentence = _blank(sentence, later.start("begin"), later.end("right") + closed)
            begin, end = later.span("wrong")
            sentence = sentence[:begin] + right.ljust(length) + sentence[end:]
    for pattern in _CORRECTIONS[language]:
        for match in pattern.finditer(sentence):
            for group in range(1, pattern.groups + 1):
                sentence = _blank(sentence, *match.span(group))
    return sentence


def blank_unread(sentence: str, language: Language) -> tuple[str, list[tuple[int, int]], bool]:
    """(the sentence with what asserts nothing blanked, spans of the prior's findings, gone now).

    The findings of a prior stay only where the sentence says what became of them: gone, or still
    there with a size or a change.
    """
    sentence = corrected(sentence, language)
    for match in _IMAGE.finditer(sentence):
        sentence = _blank(sentence, *match.span())
    # "双肺除右中叶纤维灶外": the finding is not at the place before 除. 伴 parts as 除 does.
    sentence = re.sub(r"(?<=\A[双两右左]肺)除(?=.*外)", "伴", sentence)
    prior = _PRIOR[language].search(sentence)
    if prior:
        later = sentence[prior.end() :]
        gone = _GONE[language].search(later) is not None
        if gone or _STILL[language].search(later):
            digits = re.sub(r"\d", " ", prior.group())
            sentence = sentence[: prior.start()] + digits + later
            prior_word = re.match(r"既往|prior\b", digits, re.IGNORECASE)
            if prior_word:
                sentence = _blank(sentence, prior.start(), prior.start() + prior_word.end())
            return sentence, [prior.span()], gone
        sentence = _blank(sentence, *prior.span())
    spans = []
    onward = _ONWARD[language].search(sentence)
    if onward:
        spans.append(onward.span())
    spans += [m.span() for m in _CLINICAL[language].finditer(sentence)]
    for clause in _CLAUSE[language].finditer(sentence):
        start, end = clause.span()
        done = _UP_TO[language].match(sentence, start, end)
        begun = _FROM[language].search(sentence, start, end)
        if _WHOLE[language].search(sentence, start, end):
            spans.append((start, end))
        if done:
            spans.append((max(done.start(), done.end("kept")), done.end()))
        if begun:
            spans.append((begun.start(), end))
    for span in spans:
        sentence = _blank(sentence, *span)
    return sentence, [], False


def _blank(text: str, start: int, end: int) -> str:
    return text[:start] + " " * (end - start) + text[end:]
