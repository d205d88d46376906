"""The words by which filters know advertising, contacts, personal data, regions and emptiness.

Patterns only; `filters.py` has the rules that use them. Chinese and English side by side.
"""

from __future__ import annotations

import re


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


ADVERTISING = _any(
    r"扫码|扫一扫|二维码|公众号|订阅号|小程序|微信(?:号|搜索|关注|扫|咨询)|加微信|微信[:：]",
    r"微博|抖音|官网|官方网站|网址|客服|优惠|折扣|特价|促销|限时|团购|代金券|套餐|免(?:费|挂号|门票)|赠送|招募|买一送一|新开[张业]",
    r"(?:打|享|低至)[\d一二三四五六七八九.]+折|[一二三四五六七八九]折(?=起|优惠|\W*$)",
    r"(?:加入?|扫码进?|进).{0,6}群(?!集)|(?:患者|病友|交流)群|病友",
    r"下载.{0,6}(?:APP|应用|客户端)|(?:APP|客户端).{0,4}(?:下载|查询|查看)|电子胶片",
    r"欢迎(?:您|各位)?(?:前来|来院|来我院)?(?:来我院|预约|来电|咨询|致电|关注|莅临|就诊|拨打|访问|光临|转发)",
    r"竭诚|专家(?:一对一|在线|解读|团队)|一对一|详询|垂询|详情请?(?:咨询|见|访问|询问)|广告",
    r"(?:我|本)(?:院|中心|科)(?:全?新|特色|现已|已)?(?:引进|开展|推出|开设|专业)|权威专家",
    r"https?://|www\.|[a-z0-9-]\.(?:com|cn|net|org)\b|[a-z0-9]@[a-z0-9-]+\.|QQ\s?(?:群|号|[:：]|\d)|邮箱[:：]|乘车路线|(?:地址|院址)[:：]",
    r"\bQR\b|\bfollow us\b|\bwechat\b|\bwhatsapp\b|\bfacebook\b|\bvisit (?:us|our)\b",
    r"\d ?% (?:off|discount)|\bdiscounts? (?:on|for|price)",
    r"\b(?:limited|special)[ -](?:time )?offer",
    r"\bfree (?:consultations?|check-?ups?|screenings?|second opinion)",
    r"\b(?:coupons?|vouchers?)\b|\bsubscribe\b|\bnewsletter",
    r"\bpromo(?:tion)?\b",
    r"\bdownload (?:our|the) app\b|\bhealth check packages?\b|\bbook (?:online|now|today|your)\b",
    r"\bour (?:new|award-winning|state-of-the-art) \w+|\bcall (?:us|now)\b|\bcustomer service\b",
)
# A sentence with one of these is about the patient's chest: only what matches is taken out of it.
CLINICAL = _any(
    r"肺|(?<!开)胸|结节|纵隔|气管|(?<!中)心(?:影|脏|包|腔)|影(?!像|院)|病?灶|积液|积气|气肿|实变|未见",
    r"淋巴|肋|骨|胸膜|密度|纹理|复查|随访|随诊|扫描|增强|活检|穿刺|癌|炎|肿|钙化",
    r"\blungs?\b|\blob(?:e|ar)|nodul|pleura|effusion|emphysema|pneumo|consolidat|opacit|mediastin",
    r"\bheart|cardiac|\bribs?\b|\bbones?\b|lymph|airway|trachea|bronch|\bmass|\bno\b|normal",
    r"follow-?up|\bCT\b (?:in|after)|biopsy|calcif|\d\s?(?:mm|cm|毫米|厘米)",
)
# What leads up to a contact, and means nothing without it.
LEAD_IN = _any(
    r"^\s*(?:\d[.、]\s?)?(?:如|若)(?:有|需|您)|^\s*(?:更多|详情|温馨提示|备注)|^\s*有?(?:任何)?(?:疑问|问题)",
    r"^\s*(?:any )?questions\b|^\s*(?:for|if) (?:any|you|more|further)\b|^\s*contact\b",
)

# Mobile numbers of China begin with 13 to 19; so may the number of a study: see IDENTIFIER.
PHONE = re.compile(
    r"(?<![A-Za-z\d.\-])(?:(?:\+|00)?86[- ]?)?"
    r"(?:1[3-9]\d[- ]?\d{4}[- ]?\d{4}|\(?0\d{2,3}\)?[- ]\d{3,4}[- ]?\d{4}(?:[-转]\d{1,5})?"
    r"|[48]00[- ]?\d{3}[- ]?\d{4})(?![A-Za-z\d])"
)
PHONE_LABEL = (
    r"(?:(?:联系|咨询|预约|家属|服务|值班|办公)?(?:电话|手机|热线|传真)(?:号码?|预约)?|联系方式|致电|拨打|来电"
    r"|\bTel(?:ephone)?\b\.?|\b(?:contact )?(?:tele)?phone(?: number| no\.?)?"
    r"|\bmobile|\bhotline|\bfax"
    r"|\b(?:please )?(?:call|dial))"
)
LABELLED_PHONE = re.compile(  # or what stands for one where texts were de-identified
    rf"{PHONE_LABEL}\s?[:：]?\s?"
    rf"(?:[+(]?\d[\d\- ()]{{5,}}\d(?:转\d{{1,5}})?(?![A-Za-z\d])|\[(?:电话|PHONE)\])",
    re.IGNORECASE,
)
# A number after one of these is the study's or the patient's, and no phone number.
IDENTIFIER = re.compile(
    r"(?:(?:检查|影像|放射|登记|住院|门诊|病历|病案|申请单?|CT|就诊|条码|序列|流水|设备|胶片|条形码)(?:编?号码?|编码)"
    r"|编号|单号|序号|\bID|\bMRN|\bNo\.?|\bnumber|\baccession|\bstudy|\bserial)\s?(?:为|is)?\s?[:：#(（]?\s?$",
    re.IGNORECASE,
)

_PERSON = r"(?:患者|病人|受检者|被检者|体检者)"
_AGE = r"\d{1,3}\s?(?:周岁|岁|个月大?)"
_AFTER = r"[，,。；;、\s]*"
_SEX_EN = r"(?:sex|gender)\s?[:=]\s?(?:male|female|[mf])\b\s?[.,;/]?\s?"
_AGE_EN = r"age\s?[:=]\s?\d{1,3}\b(?: years?(?: old)?)?[.,;]?\s?"
SEX_AGE = _any(
    rf"[性姓]别[:：]?\s?[男女]性?{_AFTER}(?:(?:年龄[:：]?\s?\d{{1,3}}(?:\s?周?岁)?|{_AGE}){_AFTER})?",
    rf"年龄[:：]\s?\d{{1,3}}\s?(?:周岁|岁)?{_AFTER}(?:(?:[性姓]别[:：]?\s?)?[男女]性?(?=\W){_AFTER})?",
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
    rf"\b{_AGE_EN}(?:{_SEX_EN})?",
    r"(?:\bpatient:? )?\b(?:male|female|man|woman)(?: patient)?,? (?:aged? )?\d{1,3}"
    r"(?:[- ]years?(?:[- ]old| of age)?| ?y(?:/?o)?)?[.,;]\s?",
    r"\b(?:an? )?(?:elderly|middle-aged|young) (?:man|woman|male|female)(?: patient)?[.,;]\s?",
)

# Regions that a chest CT does not show, or shows the edge of.
OTHER_REGION = _any(
    r"头颅|颅|脑|鼻|眼|甲状腺|颈(?!胸)|肝|胆|胰|脾|肾|腹|肠|(?<!反)胃|盆|子宫|卵巢|前列腺|膀胱",
    r"腰|骶|髋|膝|踝|腕|肘|四肢|股骨",
    r"\bbrain|\bskull|\bthyroid|\bneck\b|\bliver|hepat|gallbladder|pancrea|spleen|kidney|\brenal|adrenal",
    r"abdom|bowel|stomach|pelvi|uter(?:us|ine)|prostat|bladder|lumbar|\bhip\b|\bknee",
)
THORAX = _any(
    r"肺|胸|纵隔|(?<!中)心(?!理)|气管|肋|乳腺|腋|食管|主动脉|膈|肩胛|锁骨|[上中下]叶|气肿",
    r"\blungs?\b|pulmon|\blob(?:e|ar)|chest|thora|pleura|mediastin|\bheart|cardiac|pericard|airway|trachea",
    r"bronch|\bribs?\b|breast|axill|esophag|oesophag|aort|diaphragm|scapul|clavic|emphysema|pneumo|coronary",
)

# What makes two reports of the same words different ones.
CARRIER = re.compile(
    r"\d+(?:\.\d+)?|[左右双两]|[上中下]叶|[前后尖背舌][基外内]?段|[未无不没]|增大|缩小|吸收|进展"
    r"|\b(?:left|right|both|bilateral|upper|middle|lower|no|not|without|new|larger|smaller)\b"
)
MEASURE = re.compile(r"\d\s?(?:mm|cm|毫米|厘米)", re.IGNORECASE)
NORMAL = _any(
    r"未见|未发现|未查见|未探及|没有|正常|清晰|通畅|对称|完整|自然|居中|不大|光整|良好|无殊|阴性|(?<!有)无(?!名)",
    r"\bno\b|\bnothing\b|\bnormal|unremarkable|\bwithout\b|\bclear\b|\bnegative\b",
    r"\bnot (?:seen|enlarged)|\bnone\b|within normal",
)
# Said of a finding that is there ("结节边界清晰", "较前未见变化"), so no statement of normality.
ABNORMAL_BEFORE = _any(
    r"结节|肿块|阴影|密度影|斑片|条索|实变|积液|气胸|气肿|钙化|[病]?灶|增厚|扩张|较前|术后|骨折|不张",
    r"nodul|\bmass|opacit|lesion|effusion|consolidat|emphysema|pneumothorax|fracture|\bpost|atelecta|scar",
)
CHANGE = _any(
    r"较前|变化|复发|转移|吸收|进展|强化|术后|变异|除.{1,20}外",
    r"\bchange|variant|interval|stable|recurren|compar|except|other than|apart from|enhanc",
    r"post-?op",
)
FILLER = _any(
    r"^(?:\d[.、]\s?)?(?:请|建议|必要时)?(?:随诊|随访|定期|复查|结合临床|体检|观察|临床)",
    r"^请|^建议|^胸部CT(?:平扫)?$",
    r"correlat|follow-?up|recommend|routine|please|advised?\b",
)
