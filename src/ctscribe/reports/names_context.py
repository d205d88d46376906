"""Chinese names by what stands around them: a relation, a verb, a department, the cells of a form.

Each rule of `_LED` names what comes before, each of `_FOLLOWED` what comes behind. Between them
stands a name if it begins with a surname and no two characters of it are neighbours in reports.
"""

# ruff: noqa: E501 - patterns are read in one piece
from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ctscribe.reports.everyday import EVERYDAY
from ctscribe.reports.report_words import CHARACTERS, PAIRS, is_report_word
from ctscribe.reports.surnames import (
    COMPOUND,
    FUNCTION,
    GIVEN_ZH,
    HAN,
    NOT_IN_NAMES,
    NOT_NAMES,
    PLAIN_SURNAMES,
    SURNAMES,
    TITLES,
    TRANSCRIBED,
    VIETNAMESE,
    WORDS_FIRST,
)

_S = r"[ \t\u3000]"
RELATION = (
    r"(?:女儿|儿子|丈夫|妻子|爱人|老公|老婆|老伴|配偶|父亲|母亲|爸爸|妈妈|之[父母子女夫妻]|哥哥|弟弟|姐姐|妹妹|其[父母子女夫妻兄弟姐妹]|长[子女]|次[子女]|大哥|大姐|二[哥姐弟妹]"
    r"|孙子|孙女|外孙女?|女婿|儿媳妇?|侄子|侄女|外甥女?|舅舅|叔叔|姑姑|伯伯|爷爷|奶奶|外公|外婆|姥姥|姥爷|岳父|岳母|公公|婆婆|亲属|亲戚|朋友|同事|邻居|保姆|护工|监护人|联系人|家长|家属|陪人"
    r"|职工|员工|工友|战友|老乡|同乡|学生|校友|病友|未婚[夫妻]|男友|女友|室友|同学|老师|班主任)"
)
DOCTOR = r"(?:主任|教授|院长|所长|科长|组长|护士长|医生|医师|大夫|护士|护师|技师|技士|药师|助理|秘书|住院总|总住院|护士长|总值班|规培生?|进修生?|实习生?|研究生|博士|硕士|司机|村医|校医|厂医|军医|术者|一助|二助|助手|值班|二线|一线|三线)"
CALLED = r"(?:(?<=[，,、])名|我是|我叫|曾用名|原名|又名|别名|化名|本名|真名|小名|乳名|户名|全名|名叫|名字叫?|叫做|叫|名为|自称|自报|署名|落款|签名|签章|签字|盖章)"
_DID = r"(?:摄片|拍片|扫描|书写|审核|复核|报告|双签|打印|录入|登记|操作|核对|阅片|签发|记录|整理|转写|誊写|校对|初审|终审|送检|接诊|收治|首诊|经治|出诊|参会|列席|陪同|采样|穿刺|麻醉|主刀|编辑)"
TELL = r"(?:@|通知|告知|转告|知会|联系|致电|呼叫|请示|汇报给?|报告给?|转给|交给|发给|发送给|交予|交由|转交给?|委托|咨询|询问|答复|回复|抄送|转发给?|提醒|寄给|面告|口头告知|收件人|主送)"
_BY = r"(?:由|经|与|和|同|请|找|让|被|跟|向|给|及|@|是|系|为|对(?!方))"
ROLE_BEHIND = r"(?:(?:副?主任|主治|住院|主管|进修|实习|规培|见习|值班|责任|副)?(?:医师|医生|护师|技师|药师|护士|大夫)|副?主任|副?教授|先生|女士|老师|同志|院长|博士|护士长)"
ACT_BEHIND = (
    r"(?:主持|携|带|持片|尽快|按时|务必|前往|前来|参加|出席|书写|撰写|出具|审核|复核|审签|签发|审阅|阅片|读片|操作|会诊|陪同|陪伴|陪护|陪检|护送|送来|送检|送诊|介绍|接听|签收|签字|签名|签署|代签|代取|代领|取片|取走|领取|来电|来院|来诊|转诊|转来|打印|登记|扫描|摄片|拍片|录入|校对|记录|执刀"
    r"|主刀|讨论|沟通|联系|确认|核实|核对|核查|对接|协调|商议|商量|协商|完成|施行|实施|执行|负责|申请|开单|收治|接诊|查房|管床|家属|本人|要求|同意|报告|电话|手机|微信|处取|取得联系|转达|通话|交接|交代|谈话|之[父母子女妻夫兄弟姐妹]|知悉|已知|知晓|收到|回复|告知|提供|反映|代[诉述办为]|诉|及家属|等)"
)
_NAME = rf"[{HAN}]{{2,8}}?"
# What leads to a name and what must follow it; the first take what ends a run of characters too.
_STRONG = re.compile(
    rf"(?:{RELATION}|{DOCTOR}|{CALLED}|{TELL})(?:[(（]?(?:签名|签字|签章|盖章)[)）])?{_S}{{0,3}}[:：]?{_S}{{0,3}}[(（]?"
)
_LED: tuple[re.Pattern[str], ...] = (
    _STRONG,
    re.compile(
        rf"[(（【]{_S}?(?:签名|签字|签章|姓名|盖章|{RELATION}){_S}?[)）】]{_S}{{0,3}}[:：]?{_S}{{0,3}}"
    ),
)
# These lead to findings and drugs too: no given name that reports are written with.
_WEAKLY_LED = re.compile(
    rf"(?:(?:科|室|病区|中心|医院|部|门诊|床|\[编号\]|\[ID\]){_S}{{0,2}}|{_DID}{_S}{{0,2}}|(?<!诊断)(?<!结论)(?<!病史)(?<!病理)(?<!印象)(?<!考虑)(?<!建议)(?<!提示)(?<!所见)(?<!表现)(?<!症状)(?<!主诉)(?<!既往)(?<!用药)(?<!药物)(?<!过敏)(?<!史)[:：+＋&→>]{_S}{{0,3}}|[(（]|\[姓名\](?:[、/／和与及,，+＋]|以及){_S}?)"
)
_LED_AND_FOLLOWED = re.compile(
    rf"{_BY}{_S}{{0,2}}(?P<found>{_NAME})(?={ROLE_BEHIND}|{ACT_BEHIND}|{_S}?[(（](?:{_S}?\[|[男女]|\d|电话|手机|微信|工号|住院|门诊|检查|{RELATION}|本院|我院|外院))"
)
_END = re.compile(
    rf"{ROLE_BEHIND}|{ACT_BEHIND}|{RELATION}|片子|取|拿|[的于因已并将男女，,。；;：:、/|｜)）\]】\[【(（\s\d]|$|[A-Za-z]"
)
_FOLLOWED = re.compile(
    rf"(?:{ROLE_BEHIND}(?:{ACT_BEHIND}|[：:，,。)）\s]|$)|{ACT_BEHIND}"
    rf"|{_S}?[(（](?:住院号?|门诊号?|检查号?|影像号?|病历号?|病案号?|身份证|工号|床|ID|[男女][，,、 /)）]|\d{{1,3}}岁|电话|手机|微信|联系|{RELATION}|签名|签字|签章|代签|\[编号\]|\[电话\]|\[日期\]|\[ID\])"
    rf"|的(?:CT|片子|报告|家属|检查|影像|胸片|病历|号码|电话|床位))"
)
# 扎西顿珠，男，44岁: whoever stands before sex and age is a person, whatever the characters.
_SEX = re.compile(
    rf"(?:^|(?<=[\n，,。；;：:|｜/、\s(（【】\]]))(?:患者|病人|患儿|产妇|受检者|体检者|兹有|留学生|死者|新生儿)?(?:系|为|是)?(?P<found>[{HAN}]{{2,10}}(?:[·•・][{HAN}]{{1,10}}){{0,3}}){_S}{{0,4}}[，,、|｜/(（]?{_S}{{0,4}}"
    rf"(?:[男女]性?(?=[，,、|｜/;；)）\s]|\d|$)|[MF](?=[ /|,，]{{1,2}}\d))",
    re.MULTILINE,
)
NOBODY = re.compile(
    r"(?:患者|病人|患儿|受检者?|体检者|性别|年龄|姓名|客户|本人|老年|中年|青年|成年|中老年|婴幼?儿|儿童|产妇|孕妇|已婚|未婚|离异|丧偶|农民|工人|退休|职员|教师|干部|学生|无业|司机|汉族|[\u3400-\u9fff]{1,3}族"
    r"|.*[族籍员]|.*务工|.*(?:患者|病人|患儿|检查|病史|复查|平扫|增强|胸部|患病|门诊|住院|病房|诊断|急诊|体检|者|人|科))"
)
_CELL = re.compile(
    rf"(?:^|(?<=[\s|｜/／、→>，,；;：:【】()（）]))(?P<found>[{HAN}]{{2,8}})(?=[\s|｜/／、→，,；;：:。【】()（）]|$)",
    re.MULTILINE,
)
# A line of a form or a signature: an age, a sex, or something replaced already stands in it.
_FORM = re.compile(
    r"\[(?:姓名|编号|日期|电话|邮箱|NAME|ID|DATE|PHONE|EMAIL)\]|(?:^|[\s|｜/，,])[男女](?:[\s|｜/，,]|$)|\d{1,3}岁|\b[MF]\b[ /|，,]{0,2}\d{2,3}[Yy]?"
)
_FINDING = re.compile(r"[叶肺结胸膜淋巴骨心肝]|密度|[见示]")
_HEADER = re.compile(r"^[^\n]{0,60}?姓名[^\n]{0,120}$", re.MULTILINE)
_SEPARATOR = re.compile(r"[|｜\t]|[,，]|\s{1,4}")
_LATIN_WORD = r"(?!CT|MRI?|PET|HRCT|DR|CTA|COVID|Lung)[A-Z][A-Za-z'’\-]{1,24}"
_LATIN = rf"{_LATIN_WORD}(?:[ ](?:(?:van|von|der|den|de|la|bin|ibn|al|el)[ ]){{0,2}}[A-Z][A-Za-z'’.\-]{{0,24}}){{0,4}}"
_LATIN_NAMES: tuple[re.Pattern[str], ...] = (
    re.compile(
        rf"(?:患者|病人|客人|外宾|外籍|留学生|{RELATION}|{DOCTOR}|{CALLED}|{TELL}|姓{_S}?名|由|经|请)[】)）]?{_S}{{0,3}}[:：]?{_S}{{0,3}}(?P<found>{_LATIN})"
    ),
    re.compile(
        rf"(?<![A-Za-z'\-])(?P<found>{_LATIN}){_S}?(?={ROLE_BEHIND}|[，,]?{_S}?[(（]?[男女][，,、/)）\s]|{ACT_BEHIND})"
    ),
)
_OPENING = re.compile(
    rf"(?:^|(?<=[。；;，,\]）)]))(?P<found>[{HAN}]{{2,4}})(?=[:：、@])", re.MULTILINE
)
# 姓名，向红霞；性别，女: a colon that a scan of paper lost.
_COMMA = re.compile(rf"姓{_S}?名[，,、]{_S}?(?P<found>[{HAN}]{{2,4}})(?=[；;，,。])")
# 小王, 老周: as one speaks of somebody, never 小叶 and 老年.
_FAMILIAR = "王李张刘陈杨黄赵吴周徐孙马朱胡郭林罗郑梁谢宋唐许韩邓冯曹彭曾肖蒋蔡余杜吕魏苏丁卢姚崔钟谭陆范汪廖贾夏邹熊孟秦邱侯尹薛闫雷龙陶贺郝顾龚邵钱汤葛俞施樊洪庄殷倪童邢骆齐焦岳詹鲍费"
_NICKNAME = re.compile(
    rf"(?:(?<![{HAN}])|(?<=[由请给让找问和与同跟叫被])|(?<=告知)|(?<=通知)|(?<=联系)|(?<=转告)|(?<=转给)|(?<=交给)|(?<=技师)|(?<=护士)|(?<=医生)|(?<=医师)|(?<=同事)|(?<=家属)|(?<=家人)|(?<=患者)|(?<=邻居)|(?<=护工)|(?<=师傅)|(?<=司机))"
    rf"(?P<found>[小老][{_FAMILIAR}])(?={ACT_BEHIND}|{ROLE_BEHIND}|[已说称问讲反代陪帮送来去在也又今昨明的]|[，,：:；;。、！!/()（）\s]|$)"
    rf"|{RELATION}(?P<also>[小阿][{''.join(sorted(GIVEN_ZH))}])(?={ACT_BEHIND}|[，,：:；;。()（）\s]|$)"
)
_LIST = re.compile(rf"(?<![{HAN}])[{HAN}]{{2,4}}(?:、[{HAN}]{{2,4}}){{1,9}}(?![{HAN}])")
_RUN = re.compile(rf"[{HAN}]{{1,8}}")
CARET = re.compile(
    rf"(?<![\w^])(?:(?:[A-ZÀ-Þ][A-ZÀ-Þ'’.\-]{{0,20}}[ ]){{0,3}}[A-Za-zÀ-ÿ][A-Za-zÀ-ÿ'’.\-]{{0,30}}|[{HAN}]{{1,4}})\^(?:[A-Za-zÀ-ÿ'’.\-]{{0,30}}|[{HAN}]{{0,4}})(?:\^[A-Za-z'’.\-]{{0,20}}){{0,3}}(?:=[{HAN}^A-Za-z]{{1,12}})?"
)


def names_in_context(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each name that its surroundings show."""
    for rule in _LED:
        for lead in rule.finditer(text):
            end = _named(text, lead.end(), strong=rule is _STRONG)
            if end is not None:
                yield lead.end(), end
    for lead in _WEAKLY_LED.finditer(text):
        end = _named(text, lead.end(), strong=False)
        if end is not None and _is_given(text[lead.end() : end]):
            yield lead.end(), end
    for led in _LED_AND_FOLLOWED.finditer(text):
        if is_name(led["found"]):
            yield led.span("found")
    for follow in _FOLLOWED.finditer(text):
        start = _named_before(text, follow.start())
        if start is not None:
            yield start, follow.start()
    for sex in _SEX.finditer(text):
        found = sex["found"]
        strange = len(found) > 3 or is_name(found)
        if strange and not NOBODY.fullmatch(found) and not is_clinical(found):
            yield sex.span("found")
    for caret in CARET.finditer(text):
        yield caret.span()
    for comma in _COMMA.finditer(text):
        if is_name(comma["found"]):
            yield comma.span("found")
    for nickname in _NICKNAME.finditer(text):
        yield nickname.span("found" if nickname["found"] else "also")
    yield from _plain_names(text)
    yield from _openings(text)
    yield from _lists(text)
    yield from _cells(text)
    yield from _columns(text)
    for rule in _LATIN_NAMES:
        for latin in rule.finditer(text):
            if _latin(latin["found"]):
                yield latin.span("found")


def is_name(name: str) -> bool:
    """Whether Han characters are a surname and a given name, and no word of reports."""
    if not name or not all(map(_is_han, name)):
        return False
    if name[1:2] == "氏" and name[0] in VIETNAMESE and len(name) in (3, 4):
        return name[2] in GIVEN_ZH or name[2] not in CHARACTERS
    if 3 <= len(name) <= 8 and all(c in TRANSCRIBED for c in name):
        return not is_clinical(name) and name[-1] not in "的来"
    if name[-1] in "族籍":
        return False
    head = 2 if name[:2] in COMPOUND else 1
    if head == 1 and (name[0] not in SURNAMES or len(name) > 3 or name[1:] in COMPOUND):
        return False
    given = name[head:]
    if not 1 <= len(given) <= 2 or given in TITLES or name in NOT_NAMES or name[:2] in NOT_NAMES:
        return False
    if head == 1 and name[:2] in EVERYDAY and name[-1] not in GIVEN_ZH:
        return False
    if name[0] in WORDS_FIRST and len(name) < 3:
        return False
    if len(given) == 2 and given[1] == "来" and given[0] in GIVEN_ZH:
        given = given[0]  # 万福来
    return not is_clinical(name) and not any(c in NOT_IN_NAMES or c in FUNCTION for c in given)


def _is_given(name: str) -> bool:
    """Whether the given name is of characters that names have, or that no report has."""
    head = 2 if name[:2] in COMPOUND else 1
    if len(name) > 3 and head == 1:
        return True  # 乌云其木格, as `is_name` has seen
    likely = [c in GIVEN_ZH or c not in CHARACTERS or c in "一三四五六七八九" for c in name[head:]]
    return all(likely) if len(likely) < 2 else any(likely)


def repeated(text: str, names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where names that were found stand again; Latin ones also by one part of them."""
    han = {name for name in names if len(name) <= 10 and is_name(name)}
    lengths = sorted({len(name) for name in han})
    for start in range(len(text)) if han else ():
        for length in lengths:
            if text[start : start + length] in han and start + length <= len(text):
                yield start, start + length
    parts = {part for name in names for part in re.findall(r"[A-ZÀ-Þ][\w'’\-]{3,24}", name)}
    parts = {part for part in parts if part.isascii() is False or _unknown(part)}
    parts |= {part.upper() for part in parts}
    if parts:
        last = (-2, -2)
        for token in re.finditer(r"(?<![\w'’\-])[A-ZÀ-Þ][\w'’\-]{3,24}", text):
            if token[0] not in parts:
                continue
            joined = token.start() == last[1] + 1 and text[last[1]] == " "
            last = (last[0] if joined else token.start(), token.end())
            yield last


def _named(text: str, start: int, *, strong: bool) -> int | None:
    """Where the name that begins here ends, if something ends it."""
    run = _RUN.match(text, start)
    room = len(run[0]) if run else 0
    for length in range(room, 1, -1):
        end = start + length
        if is_name(text[start:end]) and _END.match(text, end):
            return end
    for length in (3, 2) if strong else ():
        name, next_pair = text[start : start + length], text[start + 2 : start + 4]
        if length <= room and is_name(name) and name[1] in GIVEN_ZH and next_pair not in PAIRS:
            return start + length
    return None


def _plain_names(text: str) -> Iterator[tuple[int, int]]:
    """A surname and two characters of given names, wherever they stand."""
    for start in range(len(text) - 2):
        if text[start] in PLAIN_SURNAMES and text[start + 1] in GIVEN_ZH:
            name = text[start : start + 3]
            around = text[max(0, start - 1) : start + 4]
            acted = _END.match(text, start + 2) is not None  # 周洋书写: the third one is no name's
            if (
                text[start + 2] in GIVEN_ZH
                and is_name(name)
                and not acted
                and not is_clinical(around)
            ):
                yield start, start + 3


def _named_before(text: str, end: int) -> int | None:
    """Where the name that ends here begins, if it begins a run of characters or follows a lead."""
    for length in range(min(8, end), 1, -1):
        start = end - length
        if start < 0 or not is_name(text[start:end]):
            continue
        before = text[start - 1 : start]
        if (
            not before
            or not _is_han(before)
            or before in "由经与和同请找让被跟向给及科室院床师生者人任总长员"
        ):
            return start
    return None


def _openings(text: str) -> Iterator[tuple[int, int]]:
    """沈腾：已看, 张三、李四同住: names that open a line before a colon or a list of names."""
    for opening in _OPENING.finditer(text):
        name = opening["found"]
        if name[0] in PLAIN_SURNAMES and is_name(name) and _is_given(name):
            yield opening.span("found")


def _lists(text: str) -> Iterator[tuple[int, int]]:
    """杨戬、黄天化: items that are all names, two at least."""
    for row in _LIST.finditer(text):
        items = list(re.finditer(r"[^、]+", row[0]))
        named = [item for item in items if is_name(item[0]) and _is_given(item[0])]
        if len(named) >= 2 and len(named) >= len(items) - 1:
            yield from ((row.start() + item.start(), row.start() + item.end()) for item in named)


def _cells(text: str) -> Iterator[tuple[int, int]]:
    """Names that fill a cell of a line that is a form's or a signature's."""
    for line in re.finditer(r"[^\n]+", text):
        for piece in re.finditer(r"[^。]+", line[0]):
            if not _FORM.search(piece[0]):
                continue
            start = line.start() + piece.start()
            for cell in _CELL.finditer(piece[0]):
                if (
                    is_name(cell["found"])
                    and _is_given(cell["found"])
                    and not _FINDING.search(cell["found"])
                ):
                    yield start + cell.start("found"), start + cell.end("found")


def _columns(text: str) -> Iterator[tuple[int, int]]:
    """The cells below 姓名 in a table: 姓名|性别 and the lines that follow."""
    for header in _HEADER.finditer(text):
        for mark in ("|", "｜", "\t", ",", "，"):
            labels = [label.strip(" 【】\u3000") for label in header[0].split(mark)]
            column = next((i for i, label in enumerate(labels) if label.endswith("姓名")), None)
            if len(labels) < 3 or column is None:
                continue
            for row in re.finditer(r"[^\n]*", text[header.end() + 1 : header.end() + 2000]):
                cells = row[0].split(mark)
                if len(cells) != len(labels):
                    continue
                value = cells[column]
                start = header.end() + 1 + row.start() + sum(len(c) + 1 for c in cells[:column])
                if value.strip() and not is_clinical(value.strip()):
                    left = len(value) - len(value.lstrip())
                    yield start + left, start + left + len(value.strip())


def _latin(found: str) -> bool:
    words = re.findall(r"[A-Za-zÀ-ÿ'’\-]+", found)
    if len(words) == 1:
        return _unknown(words[0]) and len(words[0]) > 3 and not words[0].isupper()
    return all(_unknown(word) for word in words if word[0].isupper())


def _unknown(word: str) -> bool:
    return not is_report_word(word)


def is_clinical(name: str) -> bool:
    """Whether two neighbours among the characters are neighbours in reports."""
    return any(name[i : i + 2] in PAIRS for i in range(len(name) - 1))


def _is_han(character: str) -> bool:
    return "\u3400" <= character <= "\u9fff" or "\U00020000" <= character <= "\U0003134f"
