"""Chinese names in free sentences: what a run of characters is likelier to be, words or a name.

Each run is cut into words, names and titles so that the product of their probabilities is largest:
words by how often the language uses them, names by surname and given characters. What leads to a
person and what people do make a name likelier; anatomy and findings in the clause make it far less
likely, and no two neighbours that stand in reports are ever in one. The counts in
assets/chinese_words.txt are from the dictionary of jieba 0.42.1 (MIT, beside it), by
benchmarks/chinese_words.py: rows of length, twice the log10 of the count, and words; 0 are
characters of given names, 9 are words that may be somebody's name behind a role.
"""

# ruff: noqa: E501, SIM905 - patterns and lists of words are read in one piece
from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files

from ctscribe.reports.everyday import EVERYDAY
from ctscribe.reports.names_context import (
    ACT_BEHIND,
    CALLED,
    DOCTOR,
    RELATION,
    ROLE_BEHIND,
    TELL,
    is_clinical,
)
from ctscribe.reports.report_words import PAIRS
from ctscribe.reports.surnames import (
    BEFORE_TITLE,
    COMPOUND,
    FUNCTION,
    GIVEN_ZH,
    HAN,
    MORE_SURNAMES,
    NOT_IN_NAMES,
    NOT_NAMES,
    PLAIN_SURNAMES,
    SURNAMES,
    WORDS_FIRST,
)

_S = r"[：:]"
_RUN = re.compile(rf"[{HAN}]+")
_CLAUSE = re.compile(r"[^，。；：！？,;!?\n()（）【】\[\]“”\"]+")
# Whoever bears one is called by the surname before it.
TITLE = re.compile(
    r"(?:副|总)?(?:主任|教授|院士|院长|所长|医生|医师|大夫|主治|住院|护士长?|护师|技师|药师|专家|博导|导师|老师|校长|园长|博士|硕士|研究员"
    r"|政委|首长|司令员?|军长|师长|旅长|团长|营长|连长|排长|班长|指导员|参谋|干事|股长|科长|处长|局长|厅长|部长|省长|市长|县长|区长|镇长|乡长|村长|站长|队长|组长|书记|支书|主席|董事长?|总裁|经理|老板|总监|总工|秘书|主管|会计|律师|法官|警官|警员|所|记者|编辑"
    r"|师傅|师母|师兄|师姐|师妹|师弟|司机|护工|保安|保洁|阿姨|阿婆|阿公|阿伯|阿嫂|阿哥|叔叔|大叔|伯伯|大伯|伯父|伯母|婶婶?|大婶|大娘|大妈|大嫂|大姐|大哥|大爷|爷爷|奶奶|姥姥|姥爷|外婆|外公|嬷嬷|婆婆|公公|叔|伯|姨|嫂|哥|姐|爷|工(?!作|龄|人|伤|地|种|业)|总(?!之|体|是|的|计|共|数)|老(?!年)|导(?!管|致)|[局队处](?=[的说让要给来打电批指亲，。：])"
    r"|先生|女士|小姐|太太|夫人|同志|同学|氏夫妇|家(?:父子|母子|母女|兄弟|姐妹|媳妇|大儿子|小儿子|儿子|女儿))"
)
_ROLE = rf"(?:{RELATION}|{DOCTOR}|{CALLED}|(?:规培|进修|实习|轮转|师傅|护工|阿姨|保洁|保安|门卫|民警|辅警|干警|警官|队长|班长|排长|连长|战士|学员|运动员|教练|村民|村医|乡医|[支文]书|书记|主席|园长|弟子|徒弟|徒|住持|活佛|法师|居士|阿訇|道长|同名|发件人|收件人|抄送|附件[是为]?|对方自称|核实为|[误实更]为|大名|小名|昵称|网名|乳名|外号|患者|患儿|病人|病友|产妇|孕妇|伤者|死者|主播|记者|作者|歌手|演员|专家|志愿者|义工|社工|保姆|月嫂|陪客|陪人|翻译|快递员|老?党员|战友|外卖员|送货员|乘客|驾驶员|售票员|老板娘?|房东|租客|物业|前台|登记员|文员|胸外科?|肿瘤科?|放疗科?|放射科?|呼吸科?|病理科?|介入科?|影像科?|麻醉科?|急诊科?|检验科?|主持人|主持|记录|[二三大小堂表][叔伯姑姨舅哥姐弟妹]|媳妇|孙子|孙女|外孙女?|同车的?|隔壁的?|对门的?|跟台的?|值班的?|夜班的?|[两三几四]位))"
_PEOPLE = re.compile(_ROLE)
_KINSHIP = re.compile(RELATION)
_BY_ROLE = re.compile(
    rf"{_ROLE}(?=[{HAN}])|\[姓名\](?:(?:主刀|书写|审核|操作|{ROLE_BEHIND})?[、和与及跟同/]|以及)(?=[{HAN}])"
)
_LEAD = re.compile(rf"(?:{TELL}|[由请让找跟和与同替给为是系叫问谢及])(?=[{HAN}])")
# What stands alone behind one of these is a name, whatever words it is made of: 袋上写着盛开来.
_SLOT = re.compile(
    rf"(?:{CALLED}|写着|写的是|标的是|印着|印的是|核实为|[误实更]为|登记[为的]是?|发件人|收件人|大名|对方自称)(?={_S}?(?P<slot>[{HAN}]{{2,3}})(?![{HAN}]))"
)
_SAYS = re.compile(
    r"的(?:[胸旧老平]?片|CT|报告|化验|结果|病历|家属|胶片|名字|薄层)|[说称讲问诉]|代诉|自述|反映|提醒|回报|汇报|指出|负责|协助|搀|推[着轮床]|抱[着来]|背[着来]|扶[着他她]|陪[同着护]|哄|过来|过去|路过|替班|休息|带[教他她队]|阅片|复核|审核|书写|签[字名]|代[取签领]|写[的了]|改[的了]|录入|登记|操作|扎的|发现|认[得识为]|[一两二三四]人|本人|来电|回电|转告"
)
_NEXT = re.compile(
    rf"{ACT_BEHIND}|{ROLE_BEHIND}|{RELATION}|{_SAYS.pattern}|[答没扶均都也的于在因把将被已曾又拟领拿取送来去打发转看改写做帮陪推抱背等]|一人|[两二三]人|[两三]位|未能|不能|拒绝|否认"
)
# Words of medicine and places that are longer than those of the list; nothing in them is a name.
_NO_NAME = re.compile(
    rf"[{HAN}]{{1,3}}(?:(?:综合)?征(?![求得兵询])|氏(?=[{HAN}](?<![家夫]))|样(?![本品子])|性(?![别格情命子])|环(?=[，、。]|征)|试验|分[级型期](?!由)|单抗|霉素|[替]尼|沙星|西林|头孢|磷酰|珠(?=单)|康唑|洛韦|他汀|沙坦|地平|普利|洛尔|拉唑|铂|滨|泊苷|曲塞|清瘟|白药|胶囊|颗粒|口服液)"
    rf"|[^来去在到往于的送\W]{{2,3}}(?=医院|大学|学院|中学|小学|公司|集团|卫生院|卫生室|诊所|药[店房厂])"
    r"|[\u3400-\u9fff]氏(?![夫家])|车司机|胡桃|牛黄|[\u3400-\u9fff]丸|夏科|莱登|余天|隆突|苏木|马尔尼菲|[念隐曲毛链球杆]菌|阿司匹林|华法林|强的松|雷公藤|泼尼松|地塞米松|利妥昔|曲妥|英夫利昔|信迪利|贝伐|帕博利|纳武利|尤单|卡瑞利|替雷利|特瑞普利|度伐利|阿替利|安罗|厄洛|奥希|吉非|克唑|阿来|恩沙|尼达尼布|吡非尼酮|紫杉醇|多西他赛|利奈|卡泊|米卡|奥司他韦|异烟肼|利福平|贝达|沙班|达比加群|氯吡|胺碘酮|羟氯喹|美罗培南|韦格纳|霍奇金|何杰金|卡波西|马凡|桥本|白塞|干燥|高分辨|金标准"
)
_NOTHING = frozenset("的了在是不有我他她你它这那就都也还又再很没把被让给对从向往")
_KIN = frozenset("姐叔婶姨嫂爷奶妈哥伯总工局队处老")
_BODY = re.compile(
    r"[肝肾脾胰脑颈肋骨膜叶癌灶脉腔腺淋囊菌毒虫酶酸疹疱]|[肺胸](?![片外科透]|CT)|影(?!像|科)|管(?![床理])|肿(?!瘤[科内外])|(?<!肿)瘤|核(?![对实])|炎|结节|密度|纵隔|积液|钙化|[mc]m\b|毫米|厘米|病变|实变|磨玻璃|斑片|条索|右[上中下侧]|左[上下侧]|[双两]侧|未见|可见|气[管胸肿]|抗[生感凝]|药|剂|片\b"
)
# log10 of how likely a name is where one token may stand.
_PRIOR, _IN_FINDINGS, _BESIDE_FINDINGS, _LED, _FOLLOWED, _EDGE, _BESIDE_A_NAME = (
    -1.6,
    -2.8,
    -1.0,
    1.2,
    0.8,
    0.4,
    1.0,
)
_TITLED, _SHORT_TITLE, _FAMILIAR = 1.0, -0.5, -0.9
_TOTAL = 7.78  # log10 of the tokens that the dictionary was counted on
_UNKNOWN = -7.0
_ALL = frozenset("所有人 全体成员 全体 大家 本人 自己 家属 全科".split())
# What a role may stand before without naming anybody: 胸外科门诊, 战友单位.
_PLACES = frozenset(
    "门诊 病房 公寓 官方 农村 单位 国家 公司 党委 全家 全体 居家 常规 方面 广场 商场 马路 公路 全程 水平 时间 年级 年龄 路口 楼上 楼下 门口 门外 官兵 祖籍 祖上 原籍 国籍 通道 车间 车上 班级 班车 武警 部门 农场 林场 费用 车祸 方案 计划 全部 全责 安全 平安 健康 康复 高龄 高危 高血 家属 家庭 怀孕 危重 危急 意外 阳性 阴性 咸鱼 喜好 习惯 毛病 宿舍 边境 路边 后果 宗教 信仰 农活 农忙 容貌 宗族 左手 右手 双手 双腿 双眼".split()
)
_SURNAMES: dict[str, float] = {
    **dict.fromkeys(MORE_SURNAMES, -4.3),
    **dict.fromkeys("来随由有里去次白过经上后支招操修回归折锁承看红", -6.0),
    **dict.fromkeys(SURNAMES, -3.4),
    **dict.fromkeys("官操承楼智展隽鹿玄侍银种英", -3.5),
    **dict.fromkeys(WORDS_FIRST, -4.2),
    **dict.fromkeys(PLAIN_SURNAMES, -2.7),
    **dict.fromkeys(
        "徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文",
        -2.3,
    ),
    **dict.fromkeys("王李张刘陈杨赵黄周吴", -1.3),
    **dict.fromkeys(COMPOUND, -3.0),
}


_TOGETHER = re.compile(
    rf"(?:(?<![{HAN}])|(?<=[由请经晚天晨早午是的]))(?P<row>[{HAN}](?:[、和与][{HAN}]){{1,4}})(?=(?:[两二三四]位|[两三]个?)?{TITLE.pattern}|[两二三四][位人]|均(?!匀))"
)
# 患儿豆豆, 孙女习习, 媳妇翠花说: given names alone.
_GIVEN_ONLY = re.compile(
    rf"{_ROLE}(?P<found>(?![常偶时往渐仅刚频屡慢天明偏稍轻微略多少恰历恒每纷连匆急早晚默统处种])(?P<one>[{HAN}])(?P=one)|[{''.join(sorted(GIVEN_ZH))}]{{2}})(?={_SAYS.pattern}|[哭闹，,。（(、一二三四五]|的(?:片|报告|CT))"
)
_CALLED_AT = re.compile(rf"@(?P<found>[{HAN}]{{2,4}})(?=[\s，,：:；;。@]|$)")


@cache
def _lexicon() -> tuple[dict[str, float], dict[str, float], frozenset[str]]:
    """log10 of the probability of each word, and of each character in a given name."""
    words: dict[str, float] = {}
    given: dict[str, float] = {}
    nouns: set[str] = set()
    text = (files("ctscribe") / "assets" / "chinese_words.txt").read_text(encoding="utf-8")
    for row in text.splitlines():
        length, level, rest = row.split(" ", 2)
        if length == "0":
            given |= dict.fromkeys(rest, int(level) / 2)
            continue
        if length == "9":
            nouns |= {
                row[0] + c
                for row in rest.split(" ")
                for c in row[1:]
                if c not in "人员者师工民长友客士生"
            } - NOT_NAMES
            continue
        value = int(level) / 2 - _TOTAL
        if length == "1":
            words |= dict.fromkeys(rest, value)
        elif length == "2":
            words |= {row[0] + c: value for row in rest.split(" ") for c in row[1:]}
        else:
            words |= dict.fromkeys(rest.split(" "), value)
    for word in EVERYDAY | NOT_NAMES | BEFORE_TITLE:
        words[word] = max(words.get(word, -9.0), 2.5 - _TOTAL)
    for pair in PAIRS:
        words[pair] = max(words.get(pair, -9.0), 3.0 - _TOTAL)
    given |= {c: max(given.get(c, -9.0), -3.3) for c in GIVEN_ZH}
    return words, given, frozenset(nouns - _PLACES)


def lattice_names(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each name that a run of characters is cut into."""
    for match in _SLOT.finditer(text):
        found = match["slot"]
        named = found[0] in SURNAMES or found[:2] in COMPOUND
        if named and not is_clinical(found) and found[:2] not in NOT_NAMES and found not in _ALL:
            yield match.span("slot")
    for row in _TOGETHER.finditer(text):
        letters = row["row"][::2]
        if all(c in SURNAMES or c in MORE_SURNAMES for c in letters):
            yield from (
                (row.start() + i, row.start() + i + 1) for i in range(0, len(row["row"]), 2)
            )
    known = _lexicon()[0]
    for pattern in (_GIVEN_ONLY, _CALLED_AT):
        for match in pattern.finditer(text):
            found = match["found"]
            if not (is_clinical(found) or found in known or found in _ALL):
                yield match.span("found")
    text = _NO_NAME.sub(lambda match: " " * len(match[0]), text)
    led = {match.end() for match in _LEAD.finditer(text)}
    roles = {match.end() for match in _BY_ROLE.finditer(text)}
    led |= roles
    followed = {match.start() for match in _NEXT.finditer(text)}
    for sentence in re.finditer(r"[^。\n]+", text):
        finds = _BODY.search(sentence[0]) is not None
        for clause in _CLAUSE.finditer(text, sentence.start(), sentence.end()):
            yield from _clause(text, clause, finds, (led, followed, roles))


def _clause(
    text: str, clause: re.Match[str], finds: bool, beside: tuple[set[int], set[int], set[int]]
) -> Iterator[tuple[int, int]]:
    said = _IN_FINDINGS if _BODY.search(clause[0]) else _BESIDE_FINDINGS if finds else 0.0
    for run in _RUN.finditer(clause[0]):
        start = clause.start() + run.start()
        yield from _cut(text, start, start + len(run[0]), _PRIOR + said, *beside)


def superseded(text: str, start: int, end: int, cut: Sequence[tuple[int, int]]) -> bool:
    """Whether one of cut (in order) says better than another rule's (start, end) how far a name reaches.

    耿直推荐 is 耿直, for 推荐 is a word; 问过汤阿姨 is 汤, for 阿姨 is a title.
    """
    words, given, _ = _lexicon()
    last = text[end - 1]
    if _KINSHIP.fullmatch(text, start + 1, end):
        return True  # 母亲和姐姐
    near = cut[bisect_left(cut, (start - 4, 0)) : bisect_left(cut, (end, 0))]
    beside = any(start < b for _, b in near)
    if end - start == 2 and not beside and text[end - 1 : end + 1] in words:
        return last not in GIVEN_ZH and given.get(last, -9.0) < -3.5  # 患者曾呕吐
    for a, b in near:
        if not (start <= a and b <= end and b - a < end - start <= 6):
            continue
        title = TITLE.match(text, b)
        if b - a == 1:
            # 黎叔 may go whole, 贺工看 may not; 石老三 is a name.
            if (
                title
                and b <= end
                and (
                    end <= title.end()
                    if len(title[0]) > 1
                    else end > title.end() and title[0] != "老"
                )
            ):
                return True
            continue
        goes_on = b == end or (
            (_NEXT.match(text, b) and not any(c in GIVEN_ZH for c in text[b:end]))
            or text[end - 1 : end + 1] in words
            or (text[b:end] in words and end - b > 1)
            or (title is not None and end == title.end())
        )
        begins = (
            a == start
            or _PEOPLE.fullmatch(text, start, a)
            or text[start:a] in words
            or text[start - 1 : a] in words
        )
        if goes_on and begins:
            return True
    return False


def _cut(
    text: str,
    first: int,
    last: int,
    prior: float,
    led: set[int],
    followed: set[int],
    roles: set[int],
) -> Iterator[tuple[int, int]]:
    words, given, nouns = _lexicon()
    size = last - first
    best = [0.0] + [-1e9] * size
    back: list[tuple[int, bool]] = [(0, False)] * (size + 1)

    def offer(start: int, end: int, value: float, named: bool) -> None:
        if best[start] + value > best[end]:
            best[end] = best[start] + value
            back[end] = start, named

    for start in range(size):
        at = first + start
        offer(start, start + 1, words.get(text[at], _UNKNOWN), False)
        for length in (2, 3):
            if start + length <= size:
                word = words.get(text[at : at + length])
                if word is not None:
                    offer(start, start + length, word, False)
        head = 2 if text[at : at + 2] in COMPOUND else 1
        surname = _SURNAMES.get(text[at : at + head])
        counted = start == 0 and first > 0 and text[first - 1].isdigit()  # 10余天, 1周晨起
        if surname is None or start + head > size or counted:
            continue
        before = _LED if at in led else _EDGE if start == 0 else 0.0
        if at in led:
            before -= min(prior - _PRIOR, 0.0) / 2
        if at in roles and text[at - 1] in "、和与及同/":
            before += _BESIDE_A_NAME
        title = TITLE.match(text, at + head, last)
        if title and not (start and text[at - 1 : at + head] in words):
            short = len(title[0]) < 2 and start > 0 and at not in led
            offer(
                start,
                start + head,
                surname + (_SHORT_TITLE if short else _TITLED) + (prior - _PRIOR) / 2,
                True,
            )
        near = start == 1 or at - 1 in led or prior == _PRIOR
        if start and text[at - 1] in "小老阿" and near:
            offer(start, start + head, surname + _FAMILIAR + (prior - _PRIOR) / 2, True)
        for length in (1, 2):
            end = start + head + length
            if end > size:
                break
            name = text[at : first + end]
            value = prior + surname + before + (-0.2 if length == 2 else -0.7)
            for c in name[head:]:
                value += given.get(c, -5.5 if c not in NOT_IN_NAMES else -9.0) - 2.0 * (
                    c in FUNCTION and c not in GIVEN_ZH
                )
            if is_clinical(name) or name[-1] in _NOTHING or (length == 1 and name[-1] in _KIN):
                continue
            if TITLE.match(text, first + end, last) and at not in led:
                value += _FOLLOWED - min(prior - _PRIOR, 0.0) / 2
            elif first + end in followed:
                value += _FOLLOWED
            elif end == size:
                value += _EDGE
            says = _SAYS.match(text, first + end) is not None
            # 研究生蓝天负责测量
            alone = at in roles and end == size and text[at - 1] not in "科外射瘤理疗部诊"
            if name in nouns and surname > -5.0 and (alone or (at in led and says)):
                value = max(value, words.get(name, _UNKNOWN) + 0.3)
            offer(start, end, value, True)
    end = size
    while end:
        start, named = back[end]
        if named:
            yield first + start, first + end
        end = start
