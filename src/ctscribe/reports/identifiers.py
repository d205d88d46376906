"""Patterns of numbers, dates, contacts and places that point at a person, in both languages.

Every repetition is bounded, so that a search stays linear in the length of the text. The group
`found` of a pattern, where it has one, is what is personal; else the whole match is.
"""

# ruff: noqa: E501 - patterns are read in one piece
from __future__ import annotations

import re

_GAP = r"[ \t\u3000]{0,6}"
_HAN = r"\u3400-\u9fff〇"
# Letters and digits with at least one digit among the first.
_CODE = (
    r"(?=[A-Za-z\-_]{0,8}\d)[A-Za-z0-9](?:[A-Za-z0-9_]|[-/](?=[A-Za-z0-9])){0,31}(?![A-Za-z0-9_])"
)

# ids -----------------------------------------------------------------------------------------
_ID_OF = (
    r"身份证|证件|护照|军官证|通行证|医保|社保|医疗保险|参保|住院|门诊|急诊|病历|病案|检查|影像|放射|登记|"
    r"申请单?|就诊|体检|挂号|诊疗|条形?码|流水|设备|胶片|CT|MRI?|DR|X线|X光|PACS|RIS|HIS|病理|标本|病员|"
    r"病人|患者|档案|工|学|警|军|保单|订单|合同|个人|报告|预约|票据|发票"
)
_ID_LABEL = (
    rf"(?:(?:{_ID_OF})(?:证|卡|单)?(?:编号|编码|号码|号|ID)|身份证|(?<![序图])(?:编号|单号|卡号|条码)"
    r"|床位?号?(?=[ \t\u3000]{0,6}[:：])|床号|(?<![A-Za-z])ID(?![A-Za-z]))"
)
LABELLED_ID = re.compile(
    rf"{_ID_LABEL}{_GAP}(?:[:：=#|｜]|为|是|No\.?)?{_GAP}[(（]?(?P<found>{_CODE})", re.IGNORECASE
)
ID_BEFORE_LABEL = re.compile(
    rf"(?<![A-Za-z0-9_.])(?P<found>{_CODE})(?=[（(](?:{_ID_OF})(?:证|卡|单)?(?:编号|编码|号码|号|ID)[）)])"
)
_NUMBER_WORD = r"(?:ID|No\b\.?|Numbers?|Num\b\.?|#|Code)"
LABELLED_ID_EN = re.compile(
    r"\b(?:(?:MRN|SSN|NHS|URN|Accession|Acc\b|Medical[ ]Record|Med[ ]Rec|Social[ ]Security|Passport"
    r"|Insurance|Health[ ]card|Medicare|Driver'?s[ ]licen[cs]e)"
    rf"[ \t]{{0,2}}{_NUMBER_WORD}?"
    r"|(?:Patient|Pt|Hospital|Chart|Study|Exam(?:ination)?|Case|Account|Visit|Encounter|Order"
    r"|Requests?|Policy|Member|Registration|Record|File|Specimen|Report|Episode|Unit)[ \t]{0,2}"
    rf"{_NUMBER_WORD}|ID|Identification)[ \t]{{0,2}}{_NUMBER_WORD}?[ \t]{{0,2}}(?:[:#=|]|is)?[ \t]{{0,3}}"
    rf"(?P<found>\d{{3}}[ -]\d{{2,3}}[ -]\d{{4}}(?!\d)|{_CODE})",
    re.IGNORECASE,
)
BED = re.compile(
    r"(?<![A-Za-z\d.])(?P<found>(?:加|[A-Z])?\d{1,3})[ ]?床(?!旁|边|单)"
    r"|\b[Bb]ed[ :#]{1,3}(?:[Nn]o\.? ?)?(?P<also>\d{1,3}[A-Z]?|[A-Z]\d{1,3})\b(?![ ]?(?:mm|cm|days?))"
)
# Nothing that is measured in a chest has seven digits.
LONG_NUMBER = re.compile(r"(?<![\dA-Za-z.])[A-Z]{0,4}-?\d{7,}+[Xx]?(?![A-Za-z]|\.\d)")
DASHED_NUMBER = re.compile(
    r"(?<![\dA-Za-z.\-])(?:\d{3}-\d{2}-\d{4}|(?:19|20)\d{6}-\d{2,6}|[A-Z]{1,3}-\d{5,12})(?![\d\-])"
)
CHAT_ID = re.compile(
    rf"(?:微信|QQ|We[Cc]hat|wechat|WhatsApp){_GAP}(?:号码?|ID|id)?{_GAP}[:：]?{_GAP}"
    r"(?P<found>[A-Za-z0-9][A-Za-z0-9_\-]{4,30})"
)

# dates ---------------------------------------------------------------------------------------
_Y, _M, _D = r"(?:19|20)\d{2}", r"(?:1[0-2]|0?[1-9])", r"(?:3[01]|[12]\d|0?[1-9])"
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?"
    r"|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?|JAN(?:UARY)?|FEB(?:RUARY)?|MAR(?:CH)?|APR(?:IL)?|MAY"
    r"|JUNE?|JULY?|AUG(?:UST)?|SEPT?(?:EMBER)?|OCT(?:OBER)?|NOV(?:EMBER)?|DEC(?:EMBER)?)"
)
_CLOCK = (
    r"(?:(?:[01]?\d|2[0-3])[:：][0-5]\d(?:[:：][0-5]\d(?:\.\d{1,6})?)?(?:[ ]?(?:[AaPp][Mm]\b|[AaPp]\.[Mm]\.))?"
    r"|(?:[01]?\d|2[0-3])[时点](?:[0-5]?\d分?(?:[0-5]?\d秒)?)?)(?!\d)"
)
_TIME = rf"(?:(?:T|,?[ ]{{0,3}}(?:at[ ]|上午|下午|晚上?|凌晨|[(（][^\s()（）]{{1,3}}[)）])?[ ]{{0,2}}){_CLOCK})?"
_UNIT_AFTER = r"(?![ ]?(?:mm|cm|HU|ml|%|[肋椎个枚级]))"
_ORDINAL = r"(?:st|nd|rd|th)?"
DATE = re.compile(
    rf"(?<![\d.\-/])(?:"
    rf"{_Y}[ ]?年[ ]?{_M}[ ]?月(?:[ ]?{_D}(?!\d)[ ]?[日号]?)?"
    rf"|{_Y}[ ]?(?P<sep>[-/.．])[ ]?{_M}[ ]?(?P=sep)[ ]?{_D}(?!\d)"
    rf"|{_Y}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)"
    rf"|{_M}[ ]?月[ ]?{_D}[ ]?[日号]"
    rf"|(?<![A-Za-z第])(?:{_D}(?P<sep2>[-/.]){_M}|{_M}(?P<sep3>[-/.]){_D})(?:(?P=sep2)|(?P=sep3)){_Y}(?!\d)"
    rf"|(?<![A-Za-z第])(?:\d{{2}}/{_M}/{_D}|{_D}/{_M}/\d{{2}}|{_M}/{_D}/\d{{2}})(?!\d|[/.\-×x*]\d|[×x*]){_UNIT_AFTER}"
    rf"|\b{_MONTH}\.?[ -]{_D}{_ORDINAL}(?:,?[ -]{{1,2}}{_Y})?(?!\d|[.:]\d){_UNIT_AFTER}"
    rf"|\b{_D}{_ORDINAL}[ -]?(?:of[ ])?{_MONTH}\.?(?:,?[ -]?{_Y})?(?![\da-z])"
    rf"|\b{_MONTH}\.?,?[ ](?:of[ ])?{_Y}(?!\d)"
    rf"){_TIME}"
)
CLOCK = re.compile(
    r"(?<![\d.:：比])(?<!ratio )(?:(?:[01]\d|2[0-3])[:：][0-5]\d(?:[:：][0-5]\d)?(?:[ ]?[AaPp]\.?[Mm]\b)?"
    r"|(?:1[0-2]|[1-9]):[0-5]\d[ ]?[AaPp]\.?[Mm]\b)(?![\d:.])"
)
LABELLED_DATE = re.compile(
    rf"(?:日期|时间|生日|出生(?:于|年月日?)?|\bDOB|\bdate of birth|\bborn|\b(?:exam |study )?date)"
    rf"{_GAP}[:：]?{_GAP}(?P<found>\d{{2,4}}[-/.]\d{{1,2}}[-/.]\d{{1,4}}(?!\d){_TIME}|{_Y}年?(?![\d]))",
    re.IGNORECASE,
)

# contacts ------------------------------------------------------------------------------------
_EXTENSION = r"(?:[ ]?(?:转|ext\.?|-)[ ]?\d{1,5})?"
PHONE = re.compile(
    r"(?<![A-Za-z\d.\-])(?:"
    r"(?:(?:\+|00)86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}"
    r"|(?:(?:\+|00)86[- ]?)?[(（]?0\d{2,3}[)）]?[- ]?\d{3,4}[- ]?\d{4}"
    r"|[48]00[- ]?\d{3}[- ]?\d{4}"
    r"|(?:\+?1[- .])?(?:\([2-9]\d{2}\)[ ]?|[2-9]\d{2}[- .])\d{3}[- .]\d{4}"
    r"|\+\d{1,3}(?:[- .]?\(?\d{2,4}\)?){2,5}"
    rf"){_EXTENSION}(?![A-Za-z\d])"
)
LABELLED_PHONE = re.compile(
    r"(?:电话|手机|热线|传真|联系方式|致电|拨打|来电|分机|\bTel(?:ephone)?\b\.?|\b(?:tele)?phone|\bmobile"
    r"|\bcell|\bhotline|\bfax|\bpager|\bext\.|\bcall)(?:号码?|[ ](?:no\.?|number))?"
    rf"{_GAP}[:：]?{_GAP}(?P<found>[+(（]?\d(?:[\d()（）]|[- .](?=[\d(])){{4,22}}\d{_EXTENSION})(?![A-Za-z\d])",
    re.IGNORECASE,
)
EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9._%+\-]{1,64}[@＠][A-Za-z0-9\-]{1,63}(?:\.[A-Za-z0-9\-]{1,63}){1,4}"
)

# places --------------------------------------------------------------------------------------
_PROVINCE = (
    r"(?:北京|天津|上海|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南"
    r"|四川|贵州|云南|陕西|甘肃|青海|台湾|内蒙古|广西|西藏|宁夏|新疆)"
)
_PLACE = rf"[{_HAN}A-Za-z0-9\-－#]"
_DOOR = r"[号弄幢栋室组楼院委座层村]"
LABELLED_ADDRESS = re.compile(
    rf"(?:住址|地址|家住|现住|居住地?|户籍(?:所在)?地?|通讯处|籍贯|工作单位){_GAP}(?:[:：]|于|在|为)?{_GAP}"
    rf"(?P<found>{_PLACE}{{2,60}}(?:[ ](?=[{_HAN}]{{1,8}}(?:市|区|县|镇|路|街)){_PLACE}{{2,40}})*)"
)
ADDRESS = re.compile(
    rf"(?:{_PROVINCE}(?:省|市|(?:维吾尔|壮族|回族)?自治区)?|(?<![{_HAN}])(?!家住|现住|住|[{_HAN}]{{0,6}}(?:{_PROVINCE}|[系往于在自]))[{_HAN}]{{2,7}}?(?:市|县)"
    rf"|(?<=[于在自住到为系往寄])(?![往到在])[{_HAN}]{{2,7}}?(?:市|县))"
    rf"[{_HAN}]{{0,24}}?(?:区|县|市|镇|乡|村|旗|路|街|道|巷|弄|里|胡同)"
    rf"(?:[{_HAN}]{{0,12}}?\d{{1,5}}{_DOOR}{{1,2}}(?:[ ]?\d{{0,5}}(?:{_DOOR}|单元){{0,2}}){{0,4}}\d{{0,5}}|[{_HAN}]{{0,12}}?村(?![{_HAN}]{{0,8}}\d))"
)
_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Way|Place|Pl|Square"
    r"|Terrace|Crescent|Close|Highway|Parkway)"
)
_TOWN = r"[A-Z][A-Za-z.'\-]{1,20}(?:[ ][A-Z][a-z.'\-]{1,20}){0,3}"
ADDRESS_EN = re.compile(
    r"(?<![\w.])(?:(?:Flat|Unit|Apt\.?|Apartment|Room|Suite)[ ]#?\w{1,5},[ ])?"
    rf"(?:\d{{1,5}}[A-Z]?[ ](?:[NSEW]\.?[ ])?(?:(?:[A-Z][\w'\-]{{0,20}}|\d{{1,3}}(?:st|nd|rd|th))[ ]){{1,4}}{_STREET}\b(?:\.(?=,))?"
    r"|P\.?O\.?[ ]Box[ ]\d{1,6})"
    r"(?:,?[ ](?:Apt|Unit|Flat|Suite|Apartment|Room)\.?[ ]#?\w{1,5})?"
    rf"(?:,[ ]{_TOWN}(?:,?[ ](?:[A-Z]{{2}}[ ]\d{{5}}(?:-\d{{4}})?|\d{{5,6}}|[A-Z]{{1,2}}\d[A-Z\d]?[ ]\d[A-Z]{{2}}))?"
    r"(?:,[ ][A-Z]{2}[ ]\d{5}(?:-\d{4})?)?)?"
)
LABELLED_ADDRESS_EN = re.compile(
    r"\b(?:Home |Mailing |Postal )?Address[ \t]{0,2}[:=][ \t]{0,3}(?P<found>[^\n;；\t]{4,100}?)"
    r"(?=[\n;；\t]|[ ]{2}|\.[ ][A-Z]|[ ](?:Phone|Tel)|\.?$)",
    re.IGNORECASE | re.MULTILINE,
)

# hospitals -----------------------------------------------------------------------------------
INSTITUTION = re.compile(
    rf"(?P<found>[{_HAN}]{{2,16}}?(?:医院|卫生院|卫生服务[中站]心?|诊所|医学中心|(?:体检|影像)中心))(?![{_HAN}]{{0,2}}感染)"
)
# What comes before a hospital's name in a sentence is no part of it.
INSTITUTION_LEAD = re.compile(
    r".*(?:[到在于从往至赴由经为与]|外院|就诊|转入|转自|来自|曾|转诊?|建议)"
)
INSTITUTION_EN = re.compile(
    r"\b(?:(?:[A-Z][\w'’\-]{0,20}|St\.)[ ]){1,5}(?:Hospital|Clinic|Infirmary|(?:Medical|Health|Cancer|Imaging)[ ]Cent(?:er|re))\b"
    r"(?:[ ]of[ ][A-Z]\w{1,20})?"
)
GENERIC_INSTITUTION = re.compile(
    r"(?:我|本|外|他|该|当地|上级|下级|基层|社区|各级|专科|综合|三甲|大型|某|县级?|市级?|省级?)*(?:医院|卫生院|诊所|医学中心|(?:体检|影像)中心)"
    r"|(?:The|This|Our|Another|Outside|Local|Referring) (?:Hospital|Clinic)"
)
