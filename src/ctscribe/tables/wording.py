"""The words by which filters know advertising, contacts, personal data, regions and emptiness.

Patterns only; `filters.py` has the rules that use them. Chinese and English side by side.
"""

from __future__ import annotations

import re


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


ADVERTISING = _any(
    r"扫码|扫一扫|二维码|公众号|订阅号|小程序|加微信|微信[:：]",
    r"(?<![轻细稍略])微信(?:号(?!增|减|影|改|强)|搜索|关注|扫|咨询)",  # "轻微信号增高" is a finding
    r"(?<![A-Za-z])VX\s?(?:号|[:：]|[a-z0-9_]{5,})|加[Vv](?:信|[:：]|\s?[a-z0-9_]{5,})|[Vv]信",
    r"您身边的|健康专家|保驾护航|值得信赖|怎么办[?？]",
    r"微博|抖音|(?<!器)官网|官方网站|网址|客服|优惠|折扣|特价|促销|(?<!受)限时(?!间)|团购|代金券|套餐",
    r"免(?:费|挂号|门票)|赠送|招募.{0,6}(?:志愿者|患者|病友|受试者)|买一送一|新开[张业]",
    r"(?:打|享|低至)[\d一二三四五六七八九.]+折|[一二三四五六七八九]折(?=起|优惠|\W*$)",
    r"(?:加入?|进入?).{0,4}微信群|(?:患者|病友|交流|粉丝)群(?![体集])|病友",
    r"下载.{0,6}(?:APP|应用|客户端)|(?:APP|客户端).{0,4}(?:下载|查询|查看)",
    r"(?:查看|查阅|查询|获取|领取|下载|打印|浏览).{0,6}电子胶片|电子胶片.{0,6}(?:查询|获取|领取|下载|链接|服务)",
    r"祝您|欢迎(?:您|各位|再次)?(?:前来|来院|来我院)?(?:来我院|预约|来电|咨询|致电|关注|莅临|就诊|拨打|访问|光临|转发)",
    r"竭诚|专家(?:一对一|在线|解读|团队)|一对一|详询|垂询|详情请?(?:咨询|见|访问|询问)|广告",
    r"(?:我|本)(?:院|中心|科)(?:全?新|特色|现已|已)?(?:引进|开展|推出|开设|专业)|权威专家",
    r"https?://|www\.|[a-z0-9-]\.(?:com|cn|net|org)\b|[a-z0-9]@[a-z0-9-]+\.[a-z]{2,}|QQ\s?(?:群|号|[:：]|\d)|邮箱[:：]|乘车路线|(?:地址|院址)[:：]",
    r"\bQR\b|\bfollow us\b(?!-| guid)|\bwechat\b|\bwhatsapp\b|\bfacebook\b|\bvisit (?:us|our)\b",
    r"\d ?% (?:off|discount)|\bdiscounts? (?:on|for|price)",
    r"\b(?:limited|special)[ -](?:time )?offer",
    r"\bfree (?:consultations?|check-?ups?|screenings?|second opinion)",
    r"\b(?:coupons?|vouchers?)\b|\bsubscribe\b|\bnewsletter",
    r"\bpromo(?:tion)?\b",
    r"\bdownload (?:our|the) app\b|\bhealth check packages?\b|\bbook (?:online|now|today|your)\b",
    r"\bour (?:new|award-winning|state-of-the-art) \w+|\bcall (?:us|now)\b|\bcustomer service\b",
)
# What may be of the patient, so that no edit may take it along with a contact: broad on purpose.
CLINICAL = _any(
    r"肺|(?<!开)胸|结节|纵隔|气管|气道|(?<!中)心(?:影|脏|包|腔)|影(?!像|院)|病?灶|病变|积液|积气|气肿|实变|未见",
    r"淋巴|肋|骨|胸膜|密度|纹理|复查|复诊|随访|随诊|扫描|增强|活检|穿刺|癌|炎|肿|钙化|感染|结核|转移|[良恶]性",
    r"动脉|静脉|血管|夹层|栓塞|血栓|食管|疝|囊|瘤|狭窄|梗[死阻]|坏死|出血|大疱|乳腺|甲状腺|肝|胆|脾|胰|肾|椎",
    r"[左右双两]侧|[左右](?![右边键])|[上中下]叶|[前后尖背舌]段|支架|导管|引流|置管|强化|变化|同前|相仿|稳定|正常",
    r"塌陷|排除|图像|切片|闭气|鈣化|動脈|(?<![A-Za-z])[RL][UML]L(?![A-Za-z])|公分|公厘|[前上]次|去年|追踪|[判研]读|异常|增[大多厚]|缩小|减[少小]|吸收|进展|好转|残留|纤维|新[发出]|边[界缘]|待[排查定]|除外|考虑|可能|术后|比较",
    r"对[比照]|[前旧]片|磨玻璃|实性|分叶|毛刺|空洞|光[整滑]|压缩|破裂|不张|愈合|伪影|屏气|位于|[少中大]等?量|量少",
    r"[多单]发|程度|部位|征(?!集|求)|呈|超声|结合临床|处理|手术|吸烟|病史|咳|\bMT\b|(?<![A-Za-z])(?:IM|SE)\s?\d|\d\s?(?:mm|cm|毫米|厘米)",
    r"\blungs?\b|\blob(?:e|ar)|nodul|pleura|effusion|emphysema|pneumo|consolidat|opacit|mediastin|atelecta",
    r"heart|cardi|\bribs?\b|\bbones?\b|lymph|\bnodes?\b|airway|trachea|bronch|\bmass|\bno(?:t|ne|r)?\b|normal|\bscar",
    r"\baort|dissect|embol|thromb|hernia|\bcyst|aneurysm|stenos|thyroid|liver|hepat|kidney|\brenal|adrenal|spleen",
    r"\b(?:left|right|both|bilateral\w*|upper|middle|lower|apex|apic\w+|bas(?:e|al|es)|mild|moderate|severe)\b",
    r"\b(?:solid|small|large|new|trace|contrast|smok\w+|pack-years?|cough|imaging|seen|prior|previous|tube|wall)\b",
    r"ground-glass|compar|compatible|consist|consider|respectively|lingul|concern|guideline|advised|recommend|malignan|carcinoma|adenoma|benign",
    r"similar|stable|unchanged|improv|worse|increas|decreas",
    r"\bPET\b|\bTB\b|pulmonary|dependent|basal",
    r"resol|infect|inflam|suspicious|lesion|fluid|rule out|mosaic|attenuat",
    r"breast|spine|vertebr|fracture|abnormal|follow-?up",
    r"\bCT\b (?:in|after|chest)|biopsy|calcif|\bimages? \d",
)
# And with these a clause that advertises says what was seen.
FINDING = _any(
    r"\d\s?(?:mm|cm|毫米|厘米)",
    r"[左右双两]侧?(?:肺|胸腔?|胸膜|[上中下]叶|肺门|主支气管|肋骨).{0,12}?(?:见|影|变|灶|液|结节|肿|厚|张|炎|癌|气胸)",
    r"未见|(?:较前|未)[^，]{0,4}(?:增大|缩小|吸收|进展|好转)|纵隔.{0,6}(?:淋巴结|移位|增宽)",
    r"积液|气胸|实变|气肿|磨玻璃|钙化|骨折|不张|增厚|[上中下]叶|同前|考虑|除外",
    r"nodul|opacit|effusion|consolidat|pneumothora|atelecta|emphysem|fracture|\bscar|embol|lymphaden|\blobes?\b",
    r"\b(?:left|right|bilateral)\b|\b(?:lungs?|heart) (?:is|are)\b|unchanged|\bstable\b|malignan",
)
# Whose a number is, what it is for, what is offered: without the contact it says nothing.
CONTACT = _any(
    r"医[师生]|护士|主任|家属|联系|咨询|取片|科|[室台处站]|姓名|签名|(?<!初步)报告|编?号|备注|随时|疑问|问题",
    r"先到先得|立减|分享|名医|邮编|早筛|关注我们|体检季|查[询看]|在线|下载|领取",
    r"如[有需]|需要?|请(?!结合)|速来|通知|客[户服]|工作日|^\W*(?:患者|病人)\W*$",
    r"\b(?:contact|please(?! co[rm])|questions?|call|ring|dial|appointment|reading room|radiologist"
    r"|physician|dr|pager?|ward|phoned|reported|result|ext|e-?mail|fax)\b",
)
# What leads up to a contact, and means nothing without it.
LEAD_IN = _any(
    r"^\s*(?:\d[.、]\s?)?(?:如|若)(?:有|需|您)|^\s*(?:更多|详情|温馨提示|备注)|^\s*有?(?:任何)?(?:疑问|问题)",
    r"^\s*(?:any )?questions\b|^\s*(?:for|if) (?:any|you|more|further)\b|^\s*contact\b",
)

# Mobile numbers of China begin with 13 to 19; so may the number of a study: see IDENTIFIER.
_NUMBER = (
    r"(?<![A-Za-z\d.\-])(?:(?:\+|00)?86[- ]?)?"
    r"(?:1[3-9]\d[- ]?\d{4}[- ]?\d{4}|\(?0\d{2,3}\)?[- ]\d{3,4}[- ]?\d{4}(?:[-转]\d{1,5})?"
    r"|[48]00[- ]?\d{3}[- ]?\d{4})(?![A-Za-z\d])"
    r"|(?:\b(?:at|on|via)\s)?\([2-9]\d{2}\) ?\d{3}-\d{4}(?!\d)"
)
PHONE = re.compile(_NUMBER)
PHONE_LABEL = (
    r"(?:(?:联系|咨询|预约|家属|服务|值班|办公)?(?:电话|手机|热线|传真)(?:号码?|预约)?|联系方式|致电|拨打|来电"
    r"|\bTel(?:ephone)?\b\.?|\b(?:contact )?(?:tele)?phone(?: number| no\.?)?"
    r"|\bmobile|\bhotline|\bfax"
    r"|\b(?:please )?(?:call|dial)|\bring (?:us )?(?:on )?(?=[+0])|\bcell(?: phone|(?=:)))"
)
LABELLED_PHONE = re.compile(  # or what stands for one where texts were de-identified
    # Spaces last, and never up to a number that counts or measures: "电话87654321 12mm".
    rf"{PHONE_LABEL}\s?[:：]?\s?"
    rf"(?:(?:{_NUMBER}|[+(]?\d[\d\-()]{{5,}}\d(?![\d-])"
    r"|[+(]?\d[\d\- ()]{5,}\d(?!\d|\.\d|[*x×/~+-]| ?(?:mm|cm|HU|x |×|[年月岁枚个处])))"
    r"(?:,?\s?(?:转|ext\.?|分机)\s?\d{1,5})?(?![A-Za-z\d])"
    r"|\[(?:电话|PHONE)\])"
    r"|(?<![肺膜体])(?:内线|分机|短号)(?:号码?|电话)?\s?[:：]?\s?\d{3,6}(?![\d.]|\s?(?:mm|cm|HU))",
    re.IGNORECASE,
)
# "随访护士电话：…" and "CT室…": whose it is, in words that are clinical elsewhere.
PHONE_OWNER = re.compile(
    r"(?!\W*(?:建议|请|转))[\s(（]*[\u4e00-\u9fff]{0,6}(?:护士|医[师生]|科|室|台|处|站|中心|组)[\s)）。，；]*"
)
# A number after one of these is the study's or the patient's, and no phone number.
IDENTIFIER = re.compile(
    r"(?:(?<!电话)(?<!手机)(?<!热线)(?<!传真)(?<!联系)(?<!微信)(?<!值班)号|(?<![话机线真])号码|编码|条形?码|批次"
    r"|\bID|\bMRN|\bNo\.?|(?<!phone )\bnumber|\baccession|\bstudy|\bserial"
    r"|\b(?:lot|batch|barcode|order|case|exam|report))"
    r"\s?(?:为|is)?\s?[:：#(（]?\s?$",
    re.IGNORECASE,
)

_PERSON = r"(?:患者|病人|患儿|受检者|被检者|体检者)"
# "3个月前" and "65岁以上" are no age of the patient.
_AGE = (
    r"\d{1,3}\s?(?:周岁|岁(?:半|零?\d{1,2}个?月)?|个月大?(?!复查|随访)|Y(?![A-Za-z\d]))"
    r"(?!以?[上下前后余来内时起间])(?:左右)?"
)
_MALE = r"(?:[男女]性?|[MF](?![A-Za-z\d]))"
_AFTER = r"[，,。；;、\s]*"
_SEX_EN = r"(?:sex|gender)\s?[:=]\s?(?:male|female|[mf])\b\s?[.,;/]?\s*"
_AGE_EN = r"age\s?[:=]\s?\d{1,3}\s?(?:y(?:ears?|rs?|/?o)?\b(?: old)?)?(?!\w)[.,;]?\s*"
SEX_AGE = _any(
    rf"(?:{_PERSON}[，,:：的]?\s?)?[性姓]别\s?[:：为]?\s?{_MALE}{_AFTER}"
    rf"(?:(?:年龄\s?[:：为]?\s?约?\d{{1,3}}(?:\s?(?:周?岁|Y(?![A-Za-z\d])))?|{_AGE}){_AFTER})?",
    rf"年龄\s?[:：]\s?约?\d{{1,3}}(?!\d)\s?(?:周岁|岁|Y(?![A-Za-z\d]))?{_AFTER}"
    rf"(?:(?:[性姓]别\s?[:：]?\s?)?{_MALE}(?=\W){_AFTER})?",
    rf"(?:性别\s?[/／]\s?年龄|年龄\s?[/／]\s?性别)\s?[:：]?\s?(?:{_MALE}\s?[/／]\s?\d{{1,3}}\s?[岁Y]?"
    rf"|\d{{1,3}}\s?[岁Y]?\s?[/／]\s?{_MALE}){_AFTER}",
    rf"(?<![A-Za-z\d/])(?:[MF男女]性?\s?[/／]\s?{_AGE}|{_AGE}\s?[/／]\s?[MF男女]性?)(?![A-Za-z\d]){_AFTER}",
    rf"[(（]\s?[男女]性?\s?[，,、/／\s]?\s?{_AGE}\s?[)）]|(?<=年龄)\s?[(（]\s?{_AGE}\s?[)）]",
    rf"年龄{_AGE}{_AFTER}(?:(?:[性姓]别[:：]?\s?)?[男女]性?(?=\W){_AFTER})?",
    rf"(?:{_PERSON}[，,:：为]?\s?)?(?<![\u4e00-\u9fff])(?:{_PERSON}[，,:：为]?)?[男女]性?(?:{_PERSON})?\s?[，,、/\s]\s?{_AGE}"
    rf"(?:{_PERSON})?{_AFTER}",
    rf"{_PERSON}[，,:：为]?\s?[男女]性?[，,、/\s]?\s?(?:年龄)?{_AGE}{_AFTER}",
    rf"(?:{_PERSON}[，,:：为]?\s?)?{_AGE}\s?[，,、/]?\s?的?(?:老年|中年|青年)?[男女]性?(?:{_PERSON})?(?=[，,。；;\s]|$){_AFTER}",
    rf"(?:{_PERSON}[，,:：为]?\s?)?(?:中老年|老年|中年|青年|成年)[男女]性(?:{_PERSON})?(?=[，,。；;]){_AFTER}",
    rf"{_PERSON}[，,:：为]?\s?[男女]性?(?=[，,。；;]){_AFTER}",
    rf"{_PERSON}[，,:：]?\s?(?:现年|今年|年龄)?{_AGE}(?=[，,。；;]){_AFTER}",
    r"(?:\b(?:the )?patient is an? |\b(?:a|an|this|the) |\b)\d{1,3}[- ]?(?:years?[- ]old|y/?o)\s"
    r"(?:\w+\s)?(?:man|woman|males?|females?|gentleman|lady|patient)\b(?: patient)?[.,;:]?\s?",
    rf"\b{_SEX_EN}(?:{_AGE_EN})?",
    r"\b(?:age\s?/\s?(?:sex|gender)|(?:sex|gender)\s?/\s?age)\s?[:=]?\s?"
    r"(?:\d{1,3}\s?y?\s?/\s?[mf]|[mf]\s?/\s?\d{1,3}\s?y?)\b[.,;]?\s*",
    rf"\b{_AGE_EN}(?:{_SEX_EN})?",
    r"(?:\bpatient:? )?\b(?:male|female|man|woman)(?: patient)?,? (?:aged? )?\d{1,3}"
    r"(?:[- ]years?(?:[- ]old| of age)?| ?y(?:/?o|\.o\.?)?)?[.,;]\s?",
    r"\b(?:an? )?(?:elderly|middle-aged|young) (?:man|woman|male|female)(?: patient)?[.,;]\s?",
)

# Regions that a chest CT does not show, or shows the edge of.
OTHER_REGION = _any(
    r"头颅|颅(?!侧)|(?<!电)脑|上颌|副?鼻|[额蝶筛]窦|基底节|丘脑|眼|咽|扁桃体|腮腺|甲状腺|颈(?!胸)|肝|胆|胰|脾|肾",
    r"腹(?!侧)|肠|阑尾|输尿管|(?<!反)胃|盆|子宫|卵巢|附件区|前列腺|膀胱|腰|骶|髋|膝|踝|腕|肘|四肢|股骨",
    r"\bbrain|\bskull|\bhead CT|CT (?:of the )?head\b|cerebr|intracran",
    r"basal gangli|sinusitis|maxillary|\bthyroid|\bneck\b|\bliver|hepat",
    r"gallbladder|gallston|cholelith|cholecyst|pancrea|spleen|splen|kidney|\brenal|nephrolith|urete|adrenal",
    r"abdom|bowel|\bcolon|append[ie]|duoden|stomach|pelvi|uter(?:us|ine)|ovar|prostat|bladder|lumbar|\bhip\b|\bknee",
)
# Why the patient was scanned, and no finding of that region: "肝癌术后，双肺多发转移瘤".
HISTORY = _any(
    r"术后|切除|手术|病史|[放化]疗|移植|透析|功能不全|衰竭|治疗后",
    r"status post|\bs/p\b|post-?op|history of|transplant|dialysis|failure|\bknown\b",
)
THORAX = _any(
    r"肺|胸|纵隔|(?<!中)心(?!理)|气管|隆突|肋|乳[腺房]|腋|食[管道]|主动脉|冠状?动?脉|头臂|[上下]腔静脉|奇静脉",
    r"膈|肩胛|锁骨|[上中下]叶|叶间|气肿|(?<![A-Za-z\d])T\d{1,2}(?:[/、-]T?\d{1,2})?\s?椎",
    r"\blungs?\b|pulmon|\blob(?:e|ar)|chest|thora|pleura|mediastin|\bheart|cardiac|pericard|airway|trachea",
    r"bronch|\bribs?\b|breast|axill|esophag|oesophag|aort|diaphragm|scapul|clavic|emphysema|pneumo|coronary",
    r"(?<!renal )(?<!splenic )\bhil(?:ar|um|a)\b|lingula",
    r"\bapical|\bapices|\bbasal\b(?! gangl| cist)|brachioceph",
    r"carina|vena cava|thym(?:us|ic|oma)|azygos|hiat(?:al|us)",
    r"bochdalek|morgagni|kerley|agatston|\bT(?:\d|1[0-2])\b(?!-| ?w)",
)
# Lesions that a lung has, in a text that names no place at all: "磨玻璃结节，8mm".
LESION = _any(
    r"结节|磨玻璃|实变|斑片|渗出|空洞|树芽|网格|蜂窝|间质|积液|条索|索条|纤维|病灶|肿块|淋巴结|结核|感染|异常",
    r"nodul|ground[- ]glass|opacit|consolidat|atelecta",
    r"interstiti|honeycomb|cavit|bulla|effusion|tree-in-bud",
    r"\bmass(?:es)?\b(?! effect)|\bnodes?\b|adenopathy|tubercul|infecti|abnormal",
)

# What makes two reports of the same words different ones.
CARRIER = re.compile(
    r"\d+(?:\.\d+)?|[左右双两]|[上中下]叶|[前后尖背舌][基外内]?段|[未无没]|不(?!大)|增大|缩小|吸收|进展"
    r"|[少中大]量|[轻中重]度|单发|多发|实性|磨玻璃|混合|良性|恶性|癌|炎|感染|结核|转移|肉芽肿|结节|肿块|占位"
    r"|实变|积液|积气|气胸|气肿|不张|空洞|钙化|骨折|栓塞|毛刺|分叶|扩张|狭窄"
    r"|[厚薄高低粗细新旧欠]|规则|毛糙|光整|模糊|均匀|急性|慢性|弥漫|散在|局限|卫星|囊|斑|条索|网格"
    r"|\b(?:left|right|both|bilateral|upper|middle|lower|no|not|without|new|larger|smaller|small|moderate|large"
    r"|mild|severe|solid|part-solid|ground-glass|benign|malignan\w+|suspicious|cancer|carcinoma|metasta\w+"
    r"|infect\w+|inflammat\w+|granuloma\w*|nodul\w+|mass\w*|effusion\w*|consolidation\w*|pneumothora\w+"
    r"|atelecta\w+|emphysema\w*|fracture\w*|embol\w+|calcif\w+|spiculat\w+|lobulat\w+|thick\w*|thin\w*|smooth|irregular|acute|chronic|old|diffuse|focal"
    r"|central|peripheral|increas\w+|decreas\w+|resol\w+|cyst\w*|cavit\w+)\b"
)
# Words that two writings of one report differ by.
EMPTY = _any(
    r"[可]?见|约|呈|可|其|之|的|了|一[枚个处]|随[诊访]|请|结合临床|检查",
    r"\b(?:the|an?|is|are|was|seen|present|noted|there|approximately|about|please)\b",
)
MEASURE = re.compile(r"\d\s?(?:mm|cm|毫米|厘米)", re.IGNORECASE)
# A report that says nothing is made of these words alone: what stands in none of them may be a
# finding, and there is no list of all findings. What is asked for ("未见肺栓塞") is an answer too.
_NEUTRAL = (
    r"胸[部廓膜腔]?|双侧?|两侧?|肺[野部门内]?|心[脏影包]?|大血管|纵隔|横?膈肌?|支?气管|各叶段?|骨[质骼]|肋骨|软组织"
    r"|纹理|透[亮光]度|形态|大小|位置|走行|结构|轮廓|淋巴结|影像学?|CT|平扫|扫描|检查|报告|所[示见]|表现|征象|改变"
    r"|目前|[及和与或均的示呈]|明显|明确|确切|显著|大致|基本|特殊"
    r"|\b(?:the|an?|is|are|of|in|on|and|or|this|there|both|bilateral|chest|thorax|thoracic|lungs?|fields?"
    r"|pulmonary|heart|cardiac|cardiopulmonary|mediastin\w+|pleural?|airways?|ct|scan|study|exam(?:ination)?"
    r"|findings?|appearances?|size|significant|acute|seen|detected|identified|noted|evident)\b"
)
_DENIED = (
    r"异常|病[变灶]|实变|渗出|占位性?|结节|肿[块物大]|斑片状?|阴?影(?!像)|密度|积[液气]|气胸|增厚|狭窄|发现"
    r"|[活动器质实急阳]+性|疾病|问题"
    r"|\b(?:abnormal\w*|active|focal|evidence|disease|process|patholog\w+|nodules?|mass(?:es)?|effusions?"
    r"|consolidations?|pneumothorax|infiltrates?|enlarged|lymph|nodes?)\b"
)
NOTHING_ABNORMAL = _any(
    rf"(?:未(?:见|发现|查见|探及)|没有|无|\b(?:no|nothing|without)\b)(?:{_DENIED}|{_NEUTRAL}|[、\s])*",
    r"(?<!不)(?:正常|清晰|清楚|通畅|对称|完整|自然|居中|光整|良好|阴性)|不大|无殊",
    r"\b(?:normal(?:ly)?|within normal limits|unremarkable|clear|negative|none)\b",
)
NEUTRAL = _any(r"^\s*\d[.、．)）]", _NEUTRAL)
FILLER = _any(
    r"请|建议|必要时|定期|随[诊访]|复查|结合|临床|病史|体检|观察|[每半一1]年|年度|\d+个?月后?",
    r"\b(?:please|correlat\w+|clinical(?:ly)?|routine|annual|follow-?up|screening|recommended|advised?|is|in"
    r"|with|as|needed|\d+ (?:months?|years?))\b",
)
