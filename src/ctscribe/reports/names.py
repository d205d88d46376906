"""Names of people in reports: behind labels, before titles, in signatures, and known ones.

Each function yields (start, end). A Chinese name without a label needs a surname and characters
that names have; behind "姓名：" or "报告医师：" whatever stands there is one.
"""

# ruff: noqa: SIM905, E501 - patterns and lists of words are read in one piece
from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import permutations

from ctscribe.reports.dates import DATE
from ctscribe.reports.surnames import (
    BEFORE_TITLE,
    COMPOUND,
    FUNCTION,
    GIVEN_ZH,
    HAN,
    NOT_IN_NAMES,
    NOT_NAMES,
    SURNAMES,
    TITLES,
    TRANSCRIBED,
    WORDS_FIRST,
)

_SPACE = r"[ \t\u3000]"
_PERSON = r"(?:患者|病人|病员|受检者|被检者|体检者|受检人|被检人)"
_ACT = (
    r"(?:报告|审核|诊断|检查|主治|主管|经治|住院|会诊|书写|复核|申请|送检|操作|记录|阅片|签发|责任|值班|手术|主刀|开单"
    r"|登记|录入|核对|打印|初审|终审|审签|审阅|接诊|经管|管床|首诊|主诊|上级|麻醉|扫描|拍片|摄片|临床|报到|联系|紧急联系)"
)
_ROLE = r"(?:医师|医生|技师|护士|者|人员?|员)"
_STRONG = (
    rf"(?P<strong>{_PERSON}?姓{_SPACE}?名|{_ACT}{_ROLE}(?:签名|签字|姓名)?|(?:主任|主管)?(?:医师|医生|技师|护士长|护师|护士)(?:签名|签字)?"
    r"|签名|签字|联系人)"
)
_WEAK = rf"(?P<weak>{_PERSON}|审核|复核|家属|主诊|主刀|术者|核对|记录|书写|会诊|签发|校对|阅片|初审|终审|一审|二审|初诊|收件人|寄件人|监护人|委托人|代领人|经办人|申请人|负责人|陪同人|(?:修改|更正|制表|填报|填表|采集|录入|打印|登记|审核|报告|批准|发送|接收|通知|记录|执行|检查|诊断|签收|领取|复述|接听|汇报|报送|提供|陪护|陪检|转诊|交班|接班|操作|上传|质控|授权|送检|标注|翻译)[人者]|审签|报告|操作|技术员)"
_LABEL = re.compile(
    rf"(?:{_STRONG}|{_WEAK})(?P<sep>(?:[(（](?:签章|签名|签字|盖章)[)）])?{_SPACE}{{0,6}}[】)）]?{_SPACE}{{0,2}}[:：|｜=][ \t\u3000_【]{{0,12}}|[-—]{{2}}{_SPACE}{{0,3}}|【{_SPACE}{{0,3}}|[】)）]{_SPACE}{{0,3}}|{_SPACE}{{0,6}})"
)
_PEOPLES = re.compile(rf"[{HAN}]{{1,10}}(?:[·•・‧∙][{HAN}]{{1,10}}){{1,4}}")
# 扎西·多吉 in a sentence: without the word before it and the title behind it.
_PEOPLES_END = re.compile(
    rf"之[父母子女妻夫兄弟姐妹]|训练|同期|扫描|检查|入院|就诊|的(?:胸|CT|片|报|影|检|病|家|肺|诊)|电话|核实|陪同|签字|签名|复查|会诊|讨论|介绍|性别|年龄|男|女|因|于|家属|要求|书写|主任|医师|医生|教授|先生|护士|技师|申请|报告|审核|审阅|通知|沟通|{_PERSON}"
)
_PEOPLES_ALONE = re.compile(
    rf"(?:[{HAN}]{{0,10}}[请经由与和向给被找系知者人师生的属科室子妻夫母爸妈兄弟姐妹叔长])?(?P<name>[{HAN}]{{1,8}}[·•・‧∙][{HAN}]{{1,8}}?"
    rf"(?:[·•・‧∙][{HAN}]{{1,8}}?)?)(?=[^{HAN}·•・‧∙]|$|的|因|于|{_PEOPLES_END.pattern})"
)
_MASKED = r"(?:某{1,3}|[XxＸ]{1,3}|[*＊×○]{1,3})"
_MASKED_LABELLED = re.compile(rf"(?:[{HAN}]{{1,2}})(?:{_MASKED})")
_MASKED_ALONE = re.compile(
    rf"(?P<surname>[{HAN}]{{1,2}})(?:某{{1,3}}|[XＸ]{{2,3}}|[*＊]{{2,3}}|×{{2,3}}|×(?=[的，。、]|因|于|女士|先生))"
)
_LATIN = re.compile(
    r"(?:[A-Z]\.[ ]?){0,3}[A-Z][A-Za-z'’\-]{0,24}(?:,?[ ][A-Z][A-Za-z'’\-]{0,24}\.?){0,3}"
)
_BEHIND = re.compile(rf"{_SPACE}{{0,2}}[(（](?P<latin>{_LATIN.pattern})[)）]")
_RUN = re.compile(rf"[{HAN}]{{1,12}}")
# 欧 阳 慧 敏 and 薛 晓 梅 before 郝 军
_SPACED = tuple(
    re.compile(rf"(?P<surname>[{HAN}]{{1,2}})(?P<given>(?:{_SPACE}{{1,2}}[{HAN}]){{{count}}})")
    for count in (3, 2, 1)
)
# With what a form or a sentence goes on behind a name.
_NEXT = re.compile(
    rf"性{_SPACE}?别|家属|要求|入院|出院|本人|同意|拒绝|提示|复查|术后|撰写|出具|年龄|出生|男|女|{_PERSON}|{_ACT}|医师|医生|主任|教授|技师|护士|日期|时间|电话|门诊|病历|影像|科别|科室|床号"
    r"|身份证|住址|地址|签名|签字|通知|沟通|行|诉|的|自|来|在|于|因|曾|系|既往|与|和|为|是|有"
)
_LIST = re.compile(rf"{_SPACE}{{0,3}}[/／、]{_SPACE}{{0,3}}")
_TITLE = re.compile(
    rf"(?<=[{HAN}]){_SPACE}?(?:某?(?:副|主治|住院|主管|进修|实习|规培|见习|值班|责任)?(?:{'|'.join(TITLES)}))"
)
_SEX_AGE = re.compile(
    rf"(?<=[，,、 \t\u3000(（]){_SPACE}?[男女]性?[，,、 \t\u3000/]{{0,2}}(?:年龄)?\d{{1,3}}{_SPACE}?(?:周?岁|个?月)"
)
# 由张三书写，李四审核
_BEFORE_ACT = re.compile(
    rf"[由经，、,](?=[{HAN}]{{1,4}}(?:{_SPACE}[{HAN}])?(?:书写|撰写|出具|审核|复核|审签|签发|审阅|操作))"
)
_BESIDE_NUMBER = re.compile(r"[(（，,]?[ ]?\[(?:编号|电话|ID|PHONE)\]")
# After one of these a name may begin in the middle of a sentence.
_LEFT = frozenset("请经由与和向给被让找知系的科室院诉者人是为同对于生师士属")
_NO_VALUE = frozenset(
    "通过 顺利 无误 局麻 全麻 驳回 退回 合格 完成 同意 已阅 不详 未知 本人 待定 如下 见上 正常 良好 签名 签字 盖章 不明 匿名 保密 无名 医师 医生 技师 主任 签章 电子 当班 值班 家属 现场 日期 姓名 男性 女性".split()
)
_LINE_END = re.compile(r"[^\n]+")
_PLACED_DATE = re.compile(rf"{_SPACE}*(?:\[(?:日期|DATE)\]|{DATE.pattern}){_SPACE}*$")


def chinese_names(text: str) -> Iterator[tuple[int, int]]:
    """Chinese names, also in Latin letters where they stand behind a Chinese label."""
    for label in _LABEL.finditer(text):
        yield from _values(text, label)
    for title in _TITLE.finditer(text):
        found = _before(text, title.start(), titled=True)
        if found is not None and text[title.start() - 2 : title.start()] not in BEFORE_TITLE:
            yield found, title.start()
    for name in _PEOPLES_ALONE.finditer(text):
        yield name.span("name")
    for act in _BEFORE_ACT.finditer(text):
        end = _spaced(text, act.end()) or _led_by_surname(text, act.end(), sure=False)
        if end is not None:
            yield act.end(), end
    for number in _BESIDE_NUMBER.finditer(text):
        found = _before(text, number.start(), titled=False)
        if found is not None:
            yield found, number.start()
    for masked in _MASKED_ALONE.finditer(text):
        for start in (masked.start(), masked.end("surname") - 1):
            if _is_surname(text[start : masked.end("surname")]):
                yield start, masked.end()
                break
    for stated in _SEX_AGE.finditer(text):
        end = stated.start()
        while end > 0 and text[end - 1] in "，,、 \t\u3000(（":
            end -= 1
        found = _before(text, end, titled=False)
        if found is not None:
            yield found, end
    yield from _signatures(text)


def _values(text: str, label: re.Match[str]) -> Iterator[tuple[int, int]]:
    """The names behind a label: one, or a list of them."""
    strong, colon = label["strong"] is not None, bool(label["sep"].strip())
    position = label.end()
    while True:
        end = _value(
            text,
            position,
            strong=strong and (bool(label["sep"]) or label[0].endswith("联系人")),
            colon=colon,
        )
        if end is None:
            return
        yield position, end
        latin = _BEHIND.match(text, end)
        if latin:
            yield latin.span("latin")
        following = _LIST.match(text, end)
        if following is None:
            return
        position, strong, colon = following.end(), False, False


def _value(text: str, start: int, *, strong: bool, colon: bool) -> int | None:
    for pattern in (_PEOPLES, _MASKED_LABELLED):
        match = pattern.match(text, start)
        if text[start : start + 1] in FUNCTION and not strong:
            break
        named = _is_surname(text[start : start + 1]) or _is_surname(text[start : start + 2])
        if match and (strong or named or pattern is _PEOPLES):
            stop = _PEOPLES_END.search(text, start + 1, match.end())
            return stop.start() if stop else match.end()
    latin = _LATIN.match(text, start) if strong or colon else None
    if latin and len(latin[0]) > 1 and not latin[0].startswith(("CT", "MR", "Lung")):
        return latin.end()
    run = _RUN.match(text, start)
    if run is None:
        return None
    spaced = _spaced(text, start)
    if spaced is not None:
        return spaced
    if strong:
        following = _NEXT.search(text, start + 2, run.end())
        end = following.start() if following else run.end()
        name = text[start:end]
        known = name[0] in SURNAMES or not any(c in NOT_IN_NAMES for c in name)
        if _is_surname(name[:-2]) and name[-2:] in TITLES:
            return end - 2
        said = name[0] in "是有在已请我你他这那要没" and name[:2] not in COMPOUND
        if 2 <= len(name) <= 4 and name not in _NO_VALUE and known and not said:
            return end
        if 5 <= len(name) <= 10 and all(c in TRANSCRIBED for c in name):
            return end
    return _led_by_surname(text, start, sure=strong or colon, labelled=True)


def _spaced(text: str, start: int) -> int | None:
    """Where the name that begins here ends, if there are spaces between its characters."""
    for pattern in _SPACED:
        match = pattern.match(text, start)
        if match and _is_surname(match["surname"]) and _ends(text, match.end()):
            given = "".join(match["given"].split())
            if len(given) == 3 and match["surname"] + given[0] not in COMPOUND:
                continue
            if not any(c in NOT_IN_NAMES or c in FUNCTION for c in given):
                return match.end()
    return None


def _led_by_surname(text: str, start: int, *, sure: bool, labelled: bool = False) -> int | None:
    """Where the name that begins here ends, if one does. sure: words of reports may be names."""
    head = 2 if text[start : start + 2] in COMPOUND else 1
    if head == 1 and (text[start] not in SURNAMES or (not labelled and text[start] in WORDS_FIRST)):
        return None
    for given in (2, 1):
        end = start + head + given
        if end <= len(text) and _is_name(text[start:end], head, sure=sure) and _ends(text, end):
            return end
    return None


def _is_name(name: str, head: int, *, sure: bool) -> bool:
    given = name[head:]
    if len(given) == 2 and given[1] == "来" and given[0] in GIVEN_ZH:
        given = given[0]  # 万福来
    if any(not _is_han(c) or c in NOT_IN_NAMES or c in FUNCTION for c in given):
        return False
    return name not in _NO_VALUE and (sure or not (name[:2] in NOT_NAMES or name in NOT_NAMES))


def _is_surname(text: str) -> bool:
    return text in SURNAMES or text in COMPOUND


def _is_han(character: str) -> bool:
    return "\u3400" <= character <= "\u9fff" or "\U00020000" <= character <= "\U0003134f"


def _ends(text: str, end: int) -> bool:
    return end == len(text) or not _is_han(text[end]) or _NEXT.match(text, end) is not None


def _before(text: str, end: int, *, titled: bool) -> int | None:
    """Where the name that ends here begins. titled: a surname alone is enough, as in 王女士."""
    shortest = None
    if end >= 3 and text[end - 2] in " \u3000" and _is_surname(text[end - 3]):
        return end - 3 if _is_name(text[end - 3] + text[end - 1], 1, sure=titled) else None
    for length in (4, 3, 2, 1):
        start = end - length
        if start < 0:
            continue
        name = text[start:end]
        head = 2 if name[:2] in COMPOUND else 1
        if head == 1 and (name[0] not in SURNAMES or length == 4 or name[1:] in COMPOUND):
            continue
        if titled and name[-2:] in {"通知", "报告", "应当", "应予", "联系", "告知"}:
            return None
        if length == 2 and titled and name[0] in "向应由和同从让请" and _is_surname(name[1]):
            continue  # 向隗教授
        if (length == head and not titled) or not _is_name(name, head, sure=titled):
            continue
        free = start == 0 or not _is_han(text[start - 1])
        common = name[0] in WORDS_FIRST and length < 2
        if free or (titled and text[start - 1] in _LEFT and not common):
            return start
        if titled and name[0] not in WORDS_FIRST:
            shortest = start
    return shortest


def _signatures(text: str) -> Iterator[tuple[int, int]]:
    """Names that stand alone at the end: 张三/李四 2024-01-05."""
    lines = list(_LINE_END.finditer(text[-400:]))[-4:]
    offset = max(0, len(text) - 400)
    for line in lines:
        body, start = line[0], line.start() + offset
        cut = body.rfind("。", 0, len(body)) + 1
        dated = _PLACED_DATE.search(body, cut)
        names = list(_signed(body[cut : dated.start() if dated else len(body)]))
        alone = start + cut == 0 or (cut > 0 and len(names) < 2 and not dated)
        if names and not alone:
            yield from ((start + cut + a, start + cut + b) for a, b in names)


def _signed(piece: str) -> Iterator[tuple[int, int]]:
    """The names of a piece that holds nothing but names; none otherwise."""
    found = []
    position = len(piece) - len(piece.lstrip(" \t\u3000(（"))
    stop = len(piece.rstrip(" \t\u3000)）"))
    while position < stop:
        peoples = _PEOPLES.match(piece, position)
        if peoples:
            end: int | None = peoples.end()
        else:
            end = _spaced(piece, position) or _led_by_surname(piece, position, sure=False)
        if end is None or (end < stop and piece[end] not in " \t\u3000/／、"):
            return
        found.append((position, end))
        position = end
        while position < stop and piece[position] in " \t\u3000/／、":
            position += 1
    yield from found[:4]


def known_names(text: str, names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The given names wherever they stand: with spaces in between, Latin ones in either order."""
    patterns = {_spellings(name) for name in names} - {""}
    if patterns:
        for match in re.finditer("|".join(sorted(patterns)), text, re.IGNORECASE):
            yield match.span()


def _spellings(name: str) -> str:
    """A pattern of one known name; empty for what is too short to be looked for."""
    parts = [part for part in re.split(r"[\s,，·•・.]+", name.strip()) if part]
    letters = "".join(parts)
    if len(letters) < 2:
        return ""
    if any(_is_han(c) for c in letters):
        return r"[ \t\u3000·•・]{0,3}".join(re.escape(c) for c in letters)
    if len(letters) < 3:
        return ""
    orders = permutations(parts) if len(parts) <= 3 else [tuple(parts)]
    loose = [r"[\s,.\-]{1,3}".join(_loose(p) for p in order) for order in orders]
    return rf"(?<![^\W\d_])(?:{'|'.join(loose)})(?![^\W\d_])"


def _loose(part: str) -> str:
    """A given name may be divided: Sanfeng, San-feng."""
    return "[- ]?".join(re.escape(piece) for piece in part.split("-"))
