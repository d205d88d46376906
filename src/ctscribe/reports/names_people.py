"""Chinese names in sentences: behind 患者, 其母 or 技师, before 的片子, and whoever has sex and age.

`names_context` asks for an end behind a name; here a sentence may go on. A surname and the
characters behind it are taken as far as they are likelier a name than words. Where both sides
speak of a person (患者X，男; 审核：X; X签字), whatever stands between them is one.
"""

# ruff: noqa: SIM905, E501 - patterns and lists of words are read in one piece
from __future__ import annotations

import re
from collections.abc import Iterator

from ctscribe.reports.everyday import EVERYDAY
from ctscribe.reports.names_context import (
    ACT_BEHIND,
    CALLED,
    DOCTOR,
    NOBODY,
    RELATION,
    ROLE_BEHIND,
    TELL,
    is_clinical,
)
from ctscribe.reports.report_words import CHARACTERS, PAIRS
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
    TITLES,
    TRANSCRIBED,
    WORDS_FIRST,
)

_S = r"[ \t\u3000]"
_RUN = re.compile(rf"[{HAN}]{{1,10}}")
_ANY = SURNAMES | MORE_SURNAMES
# Names of other peoples: with more characters, and syllables that only they have.
_FOREIGN = TRANSCRIBED | frozenset(
    "牛奴妮蕾莱阔柯不都孜敖音纽伦荪措央宗木江提热孙赛明发洪合甫素娅青增索朗久嘎边益登强顺宝音琴高娃朝鲁和雅罗玉"
)
_WIDE = _FOREIGN | frozenset(
    "莎丝喀夫诺万奥罗沃弗赫鲁柏彼谢佐芬恩琳莉露茜黛德森约翰逊默肯蒂妲黎凡薇"
)
_FOREIGN_SYLLABLES = re.compile(
    r"阿牛|贡布|古丽|买买提|买提|木江|尔江|拉提|别克|吐尔逊|吐逊|阿依|努尔|艾山|艾合|阿卜|阿不|卓玛|次仁|扎西|平措|顿珠|多吉|旺堆|旺姆|拉姆|央金|达瓦|尼玛|格桑|桑吉|次旦|其其格|巴特尔|格日|娜仁|乌日|乌云|敖登|图雅|木子木|阿呷|图麦|吉克|莫日|力克|热合|帕提|巴哈尔|哈斯|尔洪|合塔|塔尔|罗布|热孜|依明|依布拉|艾尼|艾则|吾尔|帕夏|玉素甫|亚森|哈力|麦麦|艾买|斯坎|萨比|孜亚|米吉|巴雅|苏和|其木格|斯琴|高娃|托娅|阿拉坦|布和|朝鲁|宝音|那顺|额尔|恩和|萨仁|特木|孟和|苏日|哈丹|日格|旺久|旺扎|次央|拉珍|嘉措|加措|益西|土登|阿旺|强巴"
)
# Two syllables of which a whole name may be.
_TIBETAN = re.compile(
    r"贡布|德吉|央金|卓玛|次仁|扎西|多吉|尼玛|达瓦|边巴|旺姆|平措|顿珠|曲珍|卓嘎|白玛|拉姆|洛桑|丹增|索朗|仁青|央宗|格桑|桑吉|旺堆|次旦|古丽|买买提"
)
_PATIENT = r"(?:患者|新生儿|患婴|留学生|外籍患者|病人|患儿|病员|病患|产妇|孕妇|伤员|伤者|死者|逝者|客人|村民|居民|(?:受检|被检|体检|就诊|参保|受种)[者人]|旅客|游客|老师|师傅)"
_KIN = rf"(?:{RELATION}|[我你他她其](?:爸|妈|哥|姐|弟|妹|叔|姑|姨|舅|伯|爷|奶|岳父|岳母|老公|老婆|媳妇|对象|娘|爹|嫂)|弟妹|嫂子|姐夫|妹夫|表[哥姐弟妹]|堂[哥姐弟妹]|姨[妈夫]|姑[妈父]|舅妈|婶婶|伯[父母]|叔叔|媳妇|小孩|孩子|长辈|陪同(?:者|人员?)?|陪护(?:者|人员?)?|代办人)"
_DOER = (
    r"(?:报告|审核|复核|复查|诊断|检查|记录|录入|登记|打印|操作|扫描|书写|核对|校对|签发|阅片|申请|送检|接听|接收|通知|汇报|执行|值班|更正|修改|制表|审签|转交|取片|领取|复述|注射|穿刺|采样|麻醉|主刀|参与|主持|会诊|随访|预约)"
    r"(?:者|人员?|医师|医生|技师|护士(?!站))"
)
_STAFF = rf"(?:护士站|{_DOER}|{DOCTOR}|护工|技术员|登记员|导医|前台|保安|民警|警官|翻译|律师|介绍人|管床|主诊|公司|学校|工地|[夜白中]班|[交接]班|登记(?!号)|归档|冲洗|取材|包埋|陪检|质控|随访(?!时)|回访|转发自|发送[至给]|上级医师|住院医(?![师生])|主治(?!医)|规培(?!医)|进修(?!医)|实习(?!医)|查房)"
_CALL = rf"(?:{TELL}|请问|麻烦|帮忙(?:看下|看看|看一下|查下|把)|看[看下]|看一下|查[一下]{{1,2}}|问[下问]|找|把|兹有|兹介绍|介绍|联系到|对比|较|感谢|谢谢|尊敬的|此致|确认是|还是|有劳|辛苦)"
_GAP = rf"(?:[(（]?(?:签名|签字|签章|盖章)[)）]?)?{_S}{{0,3}}[:：]?{_S}{{0,3}}"
# Behind these a name may begin, whatever follows it.
_LEAD = re.compile(
    rf"(?:{_PATIENT}(?:系|为|是|叫|名叫|即)?(?:[我本]院)?(?:职工|员工)?|{_KIN}(?:系|是|叫|为)?|{_STAFF}(?:为|是|系)?|{CALLED}|{_CALL}|[0-9号]床(?:的|患者)?|同名(?:患者|者)?|(?:兹)?证明|检查时|(?<![{HAN}])[父母夫妻子女兄弟姐妹因]|[男女]婴){_GAP}(?=[{HAN}])"
)
# With what a sentence goes on behind a person.
_GOES_ON = re.compile(
    rf"(?:{ACT_BEHIND}|{ROLE_BEHIND}|{RELATION}|性别|年龄|姓名|医[师生]|主任|说|称|述|自[述诉行觉]|否认|表示|反映|提出|想|想要|希望|昨|今|明[天日早晚]|现|目前|近|既往|平素|因|于|在|自|由|从|与|和|及|的|曾|已|将|拟|系|为|是|有|无|未|不|行|到|来|去|住|做|拍|查|取|拿|打|签|注|操|摆|定位|更正|修改|补充|留|换|左|右|双|两|胸|肺|咳|咯|发热|高热|痰|气促|死|患|入|出|术|放|帮|躁|配合|转|不能|未能|本人|手术|邮箱|微信|大量|少量|手机|本次|上次|此次|身份|屏|复|陪|能否|能|可|是否|之[父母子女妻夫]|家|还|又|再|也|就|会|要|给|向|对|把|被|让|叫|告|咨|描|认|建议)"
)
_PERSON_NEXT = re.compile(r"家属|之[父母子女妻夫兄弟姐妹]|本人|女士|先生|同志")
_STATED = rf"(?:[男女]性?(?=[，,、|｜/;；。)）\s\d年岁]|$)|\d{{1,3}}{_S}?岁|[{HAN}]{{1,4}}族[，,、 ]{{1,2}}[男女])"
# 苗条，女，28岁: whoever has sex and age stands before them, whatever the characters.
_SEX_AGE = re.compile(
    rf"(?:^|(?<=[\n，,。；;：:|｜/、\s(（【】\]]))(?:{_PATIENT}(?:系|为|是|叫)?{_S}?|患{_S}者{_S}{{1,3}}|姓{_S}?名{_S}?|兹有|介绍|死者)?(?:本?[{HAN}]{{0,2}}(?:村民|职工))?(?P<found>[{HAN}]{{2,5}}|[{HAN}](?:{_S}[{HAN}]){{1,3}}){_S}{{0,4}}[，,、|｜/(（:：]?{_S}{{0,4}}"
    rf"(?:[{HAN}]{{1,4}}[族籍][，,、 ]{{1,2}})?[男女]性?[，,、|｜/ \t\u3000]{{0,3}}(?:[{HAN}]{{1,4}}[族籍][，,、 ]{{1,2}})?(?:年龄[:：]?)?\d(?:{_S}?\d){{0,2}}{_S}?(?:周?岁|个?月|[Yy]|[，,、|｜/ ]|$)",
    re.MULTILINE,
)
_PATIENT_SEX = re.compile(
    rf"{_PATIENT}(?:系|为|是|叫)?{_S}?(?P<found>[{HAN}]{{2,4}}){_S}?(?:[，,(（]{_S}?)(?:{_STATED})"
)
_LATIN_SEX = re.compile(
    rf"(?:{_PATIENT}|姓名[:：]?|外宾|^){_S}?(?P<found>[A-Z][A-Za-z'’\-]+(?:,?[ ·][A-Z][A-Za-z.'’\-]*){{1,3}}){_S}?[，,（(、 ]{{1,2}}(?:[{HAN}]{{1,4}}[族籍][，,、 ])?[男女](?=性?[，,、 /)）\d])",
    re.MULTILINE,
)
_STAFF_LEAD = re.compile(rf"(?:护士站|{_DOER}|{DOCTOR}){_S}?$")
# 将“晁盖”误为“晁益”
_QUOTED = re.compile(rf"[“「‘](?P<found>[{HAN}]{{2,3}})[”」’]")
# 二线：方行: a role, a colon, and one word that ends.
_ROLE_CELL = re.compile(
    rf"(?:(?:[{HAN}]{{1,4}}[者人员]|参会(?:人员|者)?|出席(?:人员|者)?|归档|冲洗|取材|包埋|参加(?:人员|者)?|[一二三]线|[一二三]助|助手|主刀|麻醉(?:师|者)?|术者|录入|校对|终审|初审|审签|审核|复核|复审|报告|书写|记录|操作|扫描|摆位|摄片|拍片|注射|穿刺|采样|打印|登记|送检|申请|签发|签字|签名|签章|签收|接听|接收|汇报|通知|带教(?:老师)?|导师|联系人|家属|陪同|陪护|收件人|寄件人|取片人|委托人|值班|主诊|主管|经治|管床|首诊|{_DOER}|{_PATIENT}|{_KIN}|{DOCTOR})"
    rf"(?:签名|签字|签章|姓名)?{_S}{{0,3}}[:：]{_S}{{0,4}}|(?<![{HAN}])姓[ \t\u3000]{{0,6}}名{_S}{{0,3}}[:：]\s{{0,6}})(?:{_KIN}(?:系|是)?)?(?P<found>[{HAN}]{{2,4}}?|[{HAN}](?:{_S}{{1,2}}[{HAN}]){{1,3}})(?=[\s；;，,。、/／|｜)）(（\[【]|$|(?:副?主任|主治|住院|主管)?(?:医师|医生|护师|技师))(?!{_S}?[:：])"
)
_ITEM = re.compile(
    rf"(?:{ROLE_BEHIND}|医[师生])?{_S}?[、/／]{_S}?(?P<found>[{HAN}]{{2,4}}?)(?=[、/／，,。；;\s)）]|$|{ROLE_BEHIND}|均|二人|两[人位]|等|[三四五]位)"
)
# 姓名：扎西\n平措\n民族: a name that a line's end divides.
_BROKEN = re.compile(
    rf"姓{_S}{{0,6}}名{_S}{{0,3}}[:：]{_S}{{0,4}}(?P<found>[{HAN}]{{1,4}}\n[{HAN}]{{1,4}})(?![{HAN}]|{_S}{{0,3}}[:：])(?=\s|$)"
)
_NAMED = re.compile(
    rf"姓{_S}?名(?P<found>[{HAN}]{{2,4}}?)(?=性别|年龄|[，,]?[男女]|{_S}|检查|科室|住院|门诊|电话|$)"
)
# 甘露签字, 高密摆位: one word between a beginning and what only people do.
_DOES = re.compile(
    rf"(?:^|(?<=[\n，,。；;：:|｜、\s])|(?<=[由请经]))(?P<who>[{HAN}]{{0,6}}?(?:{_STAFF}|{_PATIENT}|{_KIN}))?(?P<found>[{HAN}]{{2,4}}?)"
    r"(?=签[字名收署]|核对|摆位|定位|操作|更正|修改|审[核签阅]|书写|带教|复[核阅]|[留置]针|留置|注药|注射|推药|陪[同护]|来电|来访|来取|代[取领签诉](?!为)|复述|接听|汇报|你好|您好|老师|收(?=[，,。；;\s]|$)|大[爷妈姐哥叔婶娘]|阿姨|先生|女士)",
    re.MULTILINE,
)
# 阿依古丽你好, 左立新的片子, 农海生(住院号...
_OF = re.compile(
    rf"(?P<found>[{HAN}]{{2,12}}?)(?=的(?:[胸旧老平新]?片|CT|CTA|DR|MR|报告|结果|检查|增强|肺窗|纵隔窗|图像?|影像|家属|家人|病历|薄层|号|电话|床|检|穿刺|预约|病理|女儿|儿子|老[公婆伴]|妻子|丈夫)|(?:[你您]好|之[父母子女妻夫兄弟姐妹]|老师|大夫|本人|不能[屏配]|未能|躁动|手术记录|邮箱|微信|自[述诉]|复查时间)|{_S}?[(（](?:住院|门诊|检查|影像|病历|ID|\[编号\]|\[ID\]|[男女][，,、 )）]))"
)
_OF_LEAD = re.compile(
    rf".*(?:{_CALL}|{_PATIENT}|{_KIN}|{_STAFF}|同名|混淆|[与和及跟请将把把看给替帮问查找为由是的了说：下])"
)
# 请曾铁鸥于
_ASKED = re.compile(
    rf"(?:[由请让给帮替]|发送?[至给])(?P<found>[{HAN}]{{2,3}}?)(?=[于在](?:\[|\d|今|明|本|下)|做[的了检增]|拍[的了片]|开[的了单]|预约|尽快|按时|务必|[取拿]片|带[片好])"
)
# 小敖, 老薛: as one speaks of somebody.
_FAMILIAR = re.compile(
    rf"(?:(?<![{HAN}])|(?<=[由请给让找问和与同跟叫被]))[小老](?P<found>[{''.join(sorted(PLAIN_SURNAMES | set('敖边龙高石金方江白万段文麻')))}])(?=说|的(?:片|CT|报告|号|床|病人)|[，,]?(?:你|您)|来|去|让|叫|帮|看|已|那|值班|哥|姐|师傅|老师)"
)
_TITLED = re.compile(
    rf"(?<![{HAN}])(?P<lead>[{HAN}]{{0,12}}?)(?P<found>[{HAN}]{{1,4}})(?P<title>(?:副?主任|主治|住院)?(?:医师|医生)|住院医|大夫|副?主任(?![医护])|教授|老师|师傅|工程师|护士长?|先生|女士|小姐|同志|院长|[姐哥叔姨嫂](?=[，,：:！!您你]))(?=[您你，,。；;：:、！？!?)）\s]|$|[意要会建说已请阅看来报查审核更在以对和与参读电口回复主任随签咨诊执处陪无提帮开收])"
)
_DEPARTMENT = re.compile(r"(?:临床|[科室诊院区部站组线班知系报请与和由经应意告让给向]|值班)$")
# Words before a title that are no surname: 上级医师, 女医生.
_NO_SURNAME = frozenset(
    "管任级诊科室床班修培习术者断告核查签治方地地院本该此各某每全诸他她我你您贵另位名男女老小大新前后现原首头线助手属患人家友学同外内上下导责副正代总区站门部儿中西护麻超病理射经及和与或由请让被对向的了是为有无未不也在"
)
# Rare characters with which words of medicine begin.
_RARE_WORDS = frozenset(
    "颅髋髂哮嗜眩罹亟鼾呃疱疣痤瘀痰颌颧腭髓骶胫腓踝肱桡肘掖胯痫痴癫癔瘫疝痈疽疖痂痼瘢瘘睾羟酐嘌嘧喹噻唑嗪哌吡铂钆氟氩腱胛膈腋腮腘胼脘鞘跖趾颞颏颚鼻呋啰嗳噎噗咯咳喘嚏唾涎糜袢蹼踵蹲蜷蜿螺蠕蛔蛲螨疟疥瘙瘰瘿癃癀癍皲皴眦睑睫瞳眶睛羸脐胝脓膝膻苷荨茎萎葡蔓藻褐褥褪诶譬谵躁躯逾迄遏郁酰酚酮醛醇醚釉钇铋铱锶镓锝镧镥镫髌骺骸骼龈龋龛畸嵌弥蓦溃浸潴淤渗泌"
)
# Surnames that stand for verbs and the like far oftener.
_VERBS = frozenset("由有来回随种支干折招买过经上后喜化修能应须查计解都通要能尚强易")
_SOFT = frozenset("有来为从向可自主行前经")
_LENIENT = frozenset(
    "不无没有我你他她问说答叫做让给对从往于因为所以如果而且并第号楼区段叶行之得非采列多未可和与前后上下左右两各全自来去好主为向双"
)
_NEVER = NOT_IN_NAMES - GIVEN_ZH | frozenset("们诉说称炎症")
# Made once: each is asked for every candidate.
_WORDS = NOT_NAMES | EVERYDAY
_SURE = SURNAMES - _VERBS
_NEVER_FIRST = NOT_IN_NAMES - _ANY
_NEVER_LAST = CHARACTERS | _NEVER
_SELDOM = MORE_SURNAMES | WORDS_FIRST
_CLINICAL = frozenset(
    "肺癌瘤咳嗽痰痛症炎病灶肿胸腔骨检查诊术患侧膜脉淋溃疡血肝肾胃肠胰腹脑皮肤疹热烧闷悸泻瘫伤裂窄缩密影囊结节积液"
)
_DEEDS = frozenset(
    "初写 初步 初审 终审 强烈 补充 应当 应该 应予 解释 安排 计划 施行 全部 查看 通知 马上 连续 明确 平扫 及时 时间 后续 后再 方可 方能 时予 能否 解除".split()
)
_ENDS = (*TITLES, "医师", "住院医", "患者", "病人", "家属", "本人", "临床", "科室", "性别", "年龄")
_STATUS = frozenset(
    "通过 完成 同意 正常 成功 无误 待审 未审 已审 已签 合格 顺利 全麻 局麻 静脉 不详 未知 待定 见上 如下 同上 本人 家属 父子 母子 母女 夫妻 无人 电话 驳回 良好 取消 平扫 增强 急诊 阴性 阳性 患者 医师 医生 技师 护士 主任 性别 年龄 日期 时间 科室 部位 胸部 签名 签字 盖章 电子 拒绝 保密 匿名 男性 女性 仰卧 俯卧 已阅 已知 自动 手动 是否 见下 另附 门诊 住院 体检 自费 医保 儿子 女儿 丈夫 妻子 父亲 母亲 现场 口头 当面 微信 短信 紧急 一般 普通 常规 暂无 双方 各方 当班 值班 上课 有无 没有 未见".split()
)


def people(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each person that a sentence speaks of."""
    for lead in _LEAD.finditer(text):
        end = _end(text, lead.end())
        if end is None and _STAFF_LEAD.match(lead[0]):
            end = _staff(text, lead.end())
        if end is not None:
            yield lead.end(), end
            yield from _listed(text, end)
    for pattern in (_SEX_AGE, _PATIENT_SEX, _NAMED, _ROLE_CELL, _DOES, _ASKED, _QUOTED):
        for match in pattern.finditer(text):
            who = bool(match.groupdict().get("who"))
            if _anybody(match["found"], pattern, who=who):
                yield match.span("found")
                if pattern is _ROLE_CELL:
                    yield from _listed(text, match.end("found"))
    for broken in _BROKEN.finditer(text):
        yield broken.span("found")
    for of in _OF.finditer(text):
        start = _start(text, *of.span("found"))
        if start is not None:
            yield start, of.end("found")
    for familiar in _FAMILIAR.finditer(text):
        yield familiar.span("found")
    for latin in _LATIN_SEX.finditer(text):
        yield latin.span("found")
    yield from _titled(text)
    yield from _of_other_peoples(text)


def _staff(text: str, start: int) -> int | None:
    """技师明亮、护士甘甜: behind staff, a word that ends at once is a name, whatever it means."""
    run = _RUN.match(text, start)
    name = run[0] if run else ""
    known = name in _STATUS or name in _DEEDS or name.endswith(_ENDS)
    if len(name) != 2 or known or not _led(name) or name[0] in _VERBS:
        return None
    if any(c in _CLINICAL or c in FUNCTION or c in "左右双高低" for c in name):
        return None
    return start + 2


def _listed(text: str, end: int) -> Iterator[tuple[int, int]]:
    """The names that stand behind another: 、杨逍、范遥."""
    while item := _ITEM.match(text, end):
        name = item["found"]
        if not _led(name) or name in _STATUS or is_clinical(name) or name[:2] in _WORDS:
            return
        yield item.span("found")
        end = item.end()


def _anybody(found: str, rule: re.Pattern[str], *, who: bool) -> bool:
    """Whether a whole word beside what only people have or do can be a name."""
    name = "".join(found.split())
    if name in _STATUS or NOBODY.fullmatch(name) or len(name) < 2 or name.endswith(_ENDS):
        return False
    if rule in (_SEX_AGE, _PATIENT_SEX, _NAMED):
        strange = any(c in GIVEN_ZH or c not in CHARACTERS for c in name) and len(name) < 4
        foreign = all(c in _WIDE for c in name)
        if any(c in _CLINICAL for c in name):
            return False
        return _led(name) or strange or foreign or name[0] == name[1]
    if rule in (_DOES, _ASKED):
        given = all(c in GIVEN_ZH for c in name[1:])
        if not _led(name) or name[:2] in _DEEDS or (name[0] in _VERBS and not given):
            return False
    if rule is _QUOTED:
        word = name[:2] in NOT_NAMES or name[:2] in EVERYDAY or is_clinical(name)
        named = name[0] in _SURE and _possible(name[1:])
        return named and _likely(name[-1]) and not word
    if (
        who
        and name[0] not in _VERBS
        and not is_clinical(name)
        and not any(c in _NEVER for c in name[2:])
    ):
        return True
    if rule is _ROLE_CELL and _led(name) and not is_clinical(name):
        return True
    if is_clinical(name) and _explained(name):
        return _led(name) and len(name) == 2 and name in _WORDS and name[0] not in "左右双"
    return (
        (_led(name) or not set(name) <= CHARACTERS)
        and not any(c in NOT_IN_NAMES or c in "们" for c in name[1:])
        and name[0] not in _NEVER_FIRST
        and name[:2] not in _DEEDS
    )


def _led(name: str) -> bool:
    return _head(name, 0) > 0


def _explained(name: str) -> bool:
    """Whether every character is of reports and two neighbours stand in one."""
    return is_clinical(name) and all(c in CHARACTERS for c in name)


def _head(text: str, start: int) -> int:
    """How many characters the surname has that may begin here."""
    if text[start : start + 2] in COMPOUND:
        return 2
    first = text[start : start + 1]
    return int(first in _ANY or (first != "" and first not in _RARE_WORDS and _rare(first)))


def _likely(character: str) -> bool:
    return character in GIVEN_ZH or character not in CHARACTERS


def _possible(given: str) -> bool:
    """Whether names hold the characters; 有 and 来 only before one that is likely in a name."""
    if given in TITLES:
        return False
    if given[0] in _SOFT:
        return len(given) == 2 and given[1] in GIVEN_ZH
    if given[0] in FUNCTION and given[0] not in GIVEN_ZH:
        return len(given) == 2 and given[1] not in _NEVER_LAST
    return not any(c in _NEVER for c in given)


def _end(text: str, start: int) -> int | None:
    """Where the name ends that begins here, if one does."""
    run = _RUN.match(text, start)
    if run is None:
        return None
    foreign = _foreign(text, start, run.end(), _WIDE)
    if foreign is not None:
        return foreign
    head = _head(text, start)
    if not head:
        return None
    room = run.end() - start
    lengths = [
        n for n in (head + 2, head + 1) if n <= room and _possible(text[start + head : start + n])
    ]
    if text.startswith(_ENDS, start + head):
        return None
    if room in (head + 1, head + 2) and _alone(text[start : run.end()], head):
        return run.end()
    lengths = [
        n for n in lengths if n < head + 2 or text[start + n - 1] not in "于在因与及至由向从是的"
    ]
    lengths = [n for n in lengths if not _word(text, start, n, head)]
    for length in lengths:
        last = start + length
        closed = last == run.end() and room == length
        fits = closed or length == head + 1 or _likely(text[last - 1]) or head + 1 not in lengths
        if fits and (closed or _GOES_ON.match(text, last)):
            return last
    for length in lengths:
        joined = text[start + length - 1 : start + length + 1] in PAIRS
        sure = text[start] in PLAIN_SURNAMES and text[start + head] in GIVEN_ZH
        if (_likely(text[start + length - 1]) or sure) and not joined:
            return start + length
    # Nothing tells how long it is: as long as no word of reports or of every day begins in it.
    if text[start] in _VERBS or (head == 1 and text[start] not in SURNAMES):
        return None
    for length in lengths:
        last = start + length
        pair = text[last - 1 : last + 1]
        begins = pair in PAIRS or pair in EVERYDAY or _GOES_ON.match(text, last - 1)
        if length == head + 1 or not begins:
            return last
    return None


def _alone(name: str, head: int) -> bool:
    """Whether a word that fills its run behind 患者 or 护士 can only be a name."""
    functional = head == 1 and (name[0] in _VERBS or name[0] in FUNCTION)
    return not (
        functional
        or is_clinical(name)
        or name in _STATUS
        or name[:2] in NOT_NAMES
        or name[:2] in _DEEDS
        or (head == 1 and name[:2] in EVERYDAY)
        or name.endswith(_ENDS)
        or (len(name) > 2 and name[-1] in "于在因与及至由向从是的")
        or any(c in _NEVER and c not in _LENIENT for c in name[head:])
    )


def _word(text: str, start: int, length: int, head: int) -> bool:
    """Whether what begins here is a word rather than a name."""
    name = text[start : start + length]
    if head == 2:
        return False
    closed = not _RUN.match(text, start + length) or _PERSON_NEXT.match(text, start + length)
    both = length == 3 and (name[1] in GIVEN_ZH or name[1] in "大小") and name[2] in GIVEN_ZH
    numbered = length == 3 and name[1] == "老" and name[2] in "大二三四五六七八九幺"
    if name[:2] in NOT_NAMES or name in NOT_NAMES:
        return True
    if name[0] in _VERBS and not (both or numbered or (closed and name[2:] in GIVEN_ZH)):
        return not (closed and length == 2 and name[1] not in CHARACTERS and name not in EVERYDAY)
    if is_clinical(name):
        return not (length == 3 and name[:2] not in PAIRS and both) and _explained(name)
    if name[:2] in EVERYDAY:
        rare = length == 3 and name[2] not in CHARACTERS and _GOES_ON.match(text, start + 3)
        return not (both or rare or (closed and length == 2 and name[1] in GIVEN_ZH))
    return False


def _foreign(text: str, start: int, stop: int, letters: frozenset[str] = _FOREIGN) -> int | None:
    """Where a name of another people ends: 敖登格日勒 before 来电."""
    end = start
    while end < stop and text[end] in letters:
        end += 1
    for last in range(end, start + 2, -1):
        name = text[start:last]
        if (
            is_clinical(name)
            or name in NOT_NAMES
            or text[last - 1 : last + 1] in PAIRS
            or name[-1] in "的不"
        ):
            continue
        if last in (stop, end) or _GOES_ON.match(text, last):
            if _GOES_ON.match(text, last - 1) and _RUN.match(text, last) and last - start > 2:
                continue
            syllable = _FOREIGN_SYLLABLES.search(name) is not None
            if syllable or (text[start] not in PLAIN_SURNAMES and last - start > 2):
                return last
    return None


def _start(text: str, begin: int, end: int) -> int | None:
    """Where the name that ends here begins, in the run of characters that does."""
    lead = _OF_LEAD.match(text, begin, end - 1)
    for start in (lead.end() if lead else begin, begin):
        name = text[start:end]
        foreign = _foreign(text, start, end)
        if foreign == end:
            return start
        head = _head(text, start)
        if head and len(name) in (head + 1, head + 2) and _possible(name[head:]):
            word = name[:2] in NOT_NAMES or (name[:2] in EVERYDAY and len(name) < 3)
            if not word and not is_clinical(name):
                return start
    start = end - 3
    if start >= begin and text[start] in _ANY and all(c in GIVEN_ZH for c in text[start + 1 : end]):
        return start if text[start : start + 2] not in NOT_NAMES else None
    return None


def _titled(text: str) -> Iterator[tuple[int, int]]:
    """The name before a title: the longest that is one, else the surname alone."""
    for match in _TITLED.finditer(text):
        end = match.end("found")
        for length in (4, 3, 2, 1):
            start = end - length
            if start < match.start("lead"):
                continue
            name = text[start:end]
            head = _head(text, start)
            free = start == match.start("lead")
            if length == head:
                usual = name in COMPOUND or (name not in _NO_SURNAME and (free or name in SURNAMES))
                led = _DEPARTMENT.search(text, max(0, start - 4), start) is not None
                if name in _SELDOM:
                    usual = free or led
                if usual and (free or led or not _joined(text[start - 1 : end])):
                    yield start, end
                    break
            if not head and length == 1 and free and _rare(name):
                yield start, end
            if name[1:] in COMPOUND:
                continue
            if not head or length not in (head + 1, head + 2) or name in TITLES:
                continue
            given = name[head:]
            led = free or _DEPARTMENT.search(text, max(0, start - 4), start) is not None
            sure = (
                (all(_likely(c) for c in given) or (led and _likely(given[0])))
                and _possible(given)
                and name[:2] not in NOT_NAMES
            )
            sure |= free and length == head + 2 and _alone(name, head)
            if sure and not is_clinical(name) and not (length == 2 and name in EVERYDAY):
                yield start, end
                break


def _joined(pair: str) -> bool:
    return pair in PAIRS or pair in EVERYDAY or pair in BEFORE_TITLE


def _rare(character: str) -> bool:
    """Whether a character is none of the commonest 3,755, which the first level of GB 2312 holds."""
    code = character.encode("gb2312", "ignore")
    return not code or code[0] >= 0xD8


def _of_other_peoples(text: str) -> Iterator[tuple[int, int]]:
    """哈力木拉提 wherever it stands: characters of which names are transcribed, with a known syllable."""
    for match in _TIBETAN.finditer(text):
        yield match.span()
    for match in _FOREIGN_SYLLABLES.finditer(text):
        start, end = match.span()
        while (
            start > 0
            and text[start - 1] in _FOREIGN - frozenset("的当不发明提")
            and not is_clinical(text[start - 1 : start + 1])
        ):
            start -= 1
        stop = end
        while stop < len(text) and text[stop] in _FOREIGN:
            stop += 1
        found = _foreign(text, start, stop)
        if found is not None and found >= end:
            yield start, found
