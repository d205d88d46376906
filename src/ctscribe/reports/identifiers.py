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
    r"病人|患者|档案|工|短|内部|序列|取片|随访|入组|受试者|样本|蜡块|切片|会诊|转诊|病床|急救|流调|核酸|采样|联系|执业|资格|学|警|军|保单|订单|合同|个人|报告|预约|票据|发票"
)
_ID_LABEL = (
    rf"(?:(?:{_ID_OF})(?:证|卡|单)?(?:编号|编码|号码|号|ID)|身份证|(?<![序图])(?:编号|单号|卡号|条码)(?=[^A-Za-z0-9\n]{{0,8}}[A-Za-z0-9\-]{{3}})"
    r"|床位?号?(?=[ \t\u3000]{0,6}[:：])|床号|(?<![A-Za-z])ID(?![A-Za-z]))"
)
LABELLED_ID = re.compile(
    rf"{_ID_LABEL}{_GAP}(?:[:：=#|｜]|为|是|No\.?)?{_GAP}[(（]?(?P<found>{_CODE})", re.IGNORECASE
)
# （2024）胸字第1093号, and HKID: Y482913(6).
PAPER_NUMBER = re.compile(
    rf"[（(\[〔【](?:19|20)\d{{2}}[）)\]〕】][ ]?[{_HAN}]{{1,6}}?第?[ ]?\d{{1,6}}号"
    r"|(?<![A-Za-z0-9])[A-Z]{1,2}\d{6}[ ]?[(（][0-9A][)）]"
    rf"|[{_HAN}]字第?[ ]?\d{{4,9}}号"
    # CPF 123.456.789-09, NINO QQ 12 34 56 C, SSN 123-45-6789
    r"|(?<![\d.])\d{3}\.\d{3}\.\d{3}-\d{2}(?!\d)|(?<![A-Za-z])[A-CEGHJ-PR-TW-Z][A-Z][ ]\d{2}[ ]\d{2}[ ]\d{2}[ ][A-D](?!\w)"
)
# 就诊卡：6600 1923 0471, 登记号，O0O4412l9 as a scan was read, and numbers that it spread out.
CARD_NUMBER = re.compile(
    rf"(?:(?:{_ID_OF})(?:证|卡|单)?(?:编号|编码|号码|号)|(?:就诊|医保|社保|诊疗|健康|市民|就医|身份)[证卡]){_GAP}[:：=#|｜，,]?{_GAP}"
    r"(?P<found>\d{2,6}(?:[ ]\d{1,6}){2,5}(?![\w.年月×/\-])|(?<=[，,])(?=[A-Za-z]{0,3}\d)[A-Za-z0-9\-]{5,24}(?![\w.×/]))"
    r"|(?:就诊|医保|社保|诊疗|健康|市民|就医)卡[ ]{0,3}[:：][ ]{0,3}(?P<also>[A-Z]{0,3}\d{4,20}[A-Z]?)(?![\w.])"
    r"|\b(?i:SSN|SIN|TFN|NINO|IRD|DVA|CHI|NPI|Aadhaar|passport|licen[cs]e|medical[ ]record|med[ ]rec|MRN|hospital|chart|record|account|policy|member|medicare|NHS|patient|health[ ]card|insurance|visit)(?:[ ](?i:numbers?|no\.?|ID|card|#))?"
    r"(?:[ ]?[:=#]|[ ]is)?[ ]{1,3}(?P<third>\d{2,6}(?:[ ]\d{1,6}){2,5}(?:/\d(?!\d))?(?!\w|[×/\-]|\.\d)(?![ ](?:mm|cm|HU|years|days)))"
)
SPACED_ID = re.compile(
    r"(?<![\w.])(?:(?:\d[ ]){6,24}|(?:[A-Z][ ]){1,4}(?:\d[ ]){4,20})[\dX](?!\w|\.\d|[ ]?[年月日])"
    r"|(?<![\d.])(?!(?:19|20)\d\d[ ](?:19|20)\d\d)\d{4}[ ]\d{4}[ ]\d{4}(?!\w|\.\d)"
)
ID_BEFORE_LABEL = re.compile(
    # 王力（0091）: a number in brackets behind a person
    rf"(?<=\[姓名\])[（(](?P<also>[A-Z]{{0,3}}\d{{4,8}})[)）]|"
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
    rf"(?P<found>\d{{3}}[ -]\d{{2,3}}[ -]\d{{2,4}}(?!\d)|{_CODE})",
    re.IGNORECASE,
)
BED = re.compile(
    rf"床(?:位号?|号){_GAP}[:：|｜]?{_GAP}(?P<third>(?:[{_HAN}A-Za-z]{{0,6}}[-－]?)[0-9][0-9A-Za-z\-]{{0,6}}床?)|"
    r"(?<![A-Za-z\d.])(?P<found>(?:\d{1,3}-|加|[A-Z])?\d{1,3}[ ]?床)(?!旁|边|单)"
    r"|\b(?P<also>(?:[Bb]ed|BED)[ :#]{1,3}(?:[Nn]o\.? ?)?(?:\d{1,3}[A-Z]?|[A-Z]\d{1,3}))\b(?![ ]?(?:mm|cm|days?|deg|°|%))"
    r"|\b(?i:(?:room|rm|ward|bay)(?:/bed)?|bed)[ ]?[:#][ ]{0,3}(?P<fourth>(?=[A-Z0-9\-]{0,3}\d)[A-Z0-9]{1,4}(?:-[A-Z0-9]{1,5})?)\b(?![ ]?(?:mm|cm|days?|deg|°|%))"
)
_PLATE = "[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]"
# Nothing that is measured in a chest has seven digits.
LONG_NUMBER = re.compile(
    r"(?<![\dA-Za-z.])[A-Z]{0,4}-?\d{7,}+[A-Za-z]?(?![A-Za-z]|\.\d)"
    r"|(?<![\dA-Za-z.×xX*/])\d{6}(?![\dA-Za-z.%％×*/]|[ ]?(?:mm|cm|mL|ml|HU|/|[×x*]|个|枚|层|次|例))"
    rf"|(?<![\dA-Za-z.\-])[A-Z]{{1,6}}-?\d{{5,12}}(?:-?[A-Z0-9]{{1,4}})?(?![\w])"
    rf"|(?<![\dA-Za-z.\-])[A-Z]{{1,4}}-?\d{{2}}-\d{{4,8}}(?![\w\-])"
    rf"|(?<![\dA-Za-z.\-])[A-Z]{{1,4}}-?(?:19|20)\d{{2}}-\d{{2,4}}-\d{{2,6}}(?![\w\-])"
    rf"|(?<![\dA-Za-z.])(?:{_PLATE})[A-Z]·?[A-Z0-9]{{5,6}}(?![A-Za-z0-9])"
)
# 1.2.840.113619.2.55, a DICOM unique identifier.
UID = re.compile(r"(?<![\d.])(?=[\d.]{12})\d{1,3}(?:\.\d{1,39}){4,20}+(?![\d])")
# Cards and identity numbers that are written in groups.
GROUPED_NUMBER = re.compile(
    r"\b(?i:insurance|policy|member(?:ship)?|medicare|medicaid|health[ ]card|plan|subscriber|NHS)(?:[ ](?i:no\.?|number|id|card))?[:#]?[ ](?P<found>(?:[A-Z]{1,3}[ ]?)?\d{2,6}(?:[ \-]\d{2,6}){1,5}(?![\w.]))|"
    r"(?<![\d\-.])(?:\d{4}[ -]){3,4}\d{1,7}[Xx]?(?!\w)|(?<!\d)\d{6}[ -](?:19|20)\d{6}[ -]\d{3}[\dXx](?!\w)"
)
# 取片密码483920; 型号 and 信号 are no one's number.
ANY_LABEL = re.compile(
    rf"(?<![型信符图序层期型称句逗引])(?:号|号码|编码|密码|[\u3400-\u9fff](?<![编像数密代解])码|验证码|校验码|提取码|取件码|随机号|(?:门诊|住院|病历|病案|影像|登记|就诊|急诊)(?=[ ]?\d)|序列号|单号|账号|帐号|[（(]No\.?[)）]){_GAP}[:：=#]?{_GAP}"
    r"(?P<found>(?=[A-Za-z\-_]{0,8}\d)(?=[A-Za-z0-9\-_]{4})[A-Za-z0-9](?:[A-Za-z0-9_]|[-/](?=[A-Za-z0-9])){3,31})(?![A-Za-z0-9_.]|[ ]?(?:mm|cm))"
)
ANY_LABEL_EN = re.compile(
    r"\b(?!(?:image|images|im|img|series|se|slice|slices|fig|figure|lesion|nodule|rib|segment|level|station|grade|stage|type|phase"
    r"|window|zone|node|table|page|frame|view|model|kernel|version|group|class|category|lobe|vertebra|total|the|a|of|by|in|and)\b)"
    r"[A-Za-z]{2,20}\.?[ ]?(?:[Nn]o\.?|[Nn]umbers?|#|ID|[Cc]ode)(?:[ ]?[:=#]|[ ]is)?[ ]{0,2}"
    r"(?P<found>(?=[A-Za-z\-_]{0,8}\d)(?=[A-Za-z0-9\-_/]{3})[A-Za-z0-9](?:[A-Za-z0-9_]|[-/](?=[A-Za-z0-9])){2,31})(?![A-Za-z0-9_]|\.\d|[ ]?(?:mm|cm|HU))"
    r"|\b(?:[Ss]ubject|[Pp]articipant|[Pp]atient|Pt|[Dd]onor|[Rr]ecipient|[Vv]olunteer)[ ]#?(?P<third>[A-Z]{0,3}-?\d{3,9}(?:-\d{1,6})?)(?![\w.]|[ ]?(?:mm|cm|years))"
    r"|\b(?:[Pp]athology|[Hh]istology|[Cc]ytology|[Bb]iopsy|[Ss]pecimen|[Ss]erial|[Rr]ef(?:erence)?\.?|[Bb]arcode|[Ll]icen[cs]e|[Pp]asscode|[Pp]assword|PIN|[Ll]ot|[Bb]adge|[Ll]ocker|[Gg]roup|[Pp]late|[Rr]eg"
    r"|GMC|NPI|HPCSA|AHPRA|DEA|NMC|IC|NRIC|NIN|CPF|CURP|DNI|NIF|BSN|PESEL|KTP|CNIC|Aadhaar|HKID|PACS|RIS|HIS|CHI|HN|AN|VN|UHID|OPD|IPD)"
    r"(?:[ ](?:[Nn]o\.?|[Nn]umber|#|ID|[Ii]d))?[ ]?[:=#]?[ ]{0,2}(?P<also>(?=[A-Z\-_/]{0,8}\d)(?=[A-Za-z0-9\-_/]{3})[A-Z0-9](?:[A-Za-z0-9_]|[-/](?=[A-Za-z0-9])){2,31})(?![A-Za-z0-9_]|\.\d|[ ]?(?:mm|cm|HU))"
)
# Who types, and under which name: kb4471, gcarter_1977.
ACCOUNT = re.compile(
    r"\b(?i:by|typist|initials|operator|user|login|tech|scribe)(?:[ ]?:|[ ]ID)?[ ]{1,2}(?P<found>[A-Za-z]{1,12}[._]?\d{2,6})(?![\w/]|\.\d|[ ]?(?:mm|cm))"
    rf"|(?:(?i:\b(?:user[ ]?name|login(?:[ ]name)?|screen[ ]name|nickname|handle))|用户名|昵称|登录名|网名){_GAP}(?:[:：=]|is|是|为)?{_GAP}(?P<also>[A-Za-z0-9][A-Za-z0-9_.\-]{{2,30}})(?<![.\-])"
)
ROOM = re.compile(
    r"(?<!CT )(?<!MR )(?<!Scan )\b(?:Rm|Room|Bay|Cubicle)\.?[ ]?#?(?P<found>\d{2,4}-?[A-Z]?)\b(?![ ]?(?:mm|cm))"
)
# 报告者: libo, 审核: zhangwei01
LOGIN = re.compile(
    r"(?:医师|医生|技师|护士|报告[者人]|审核[者人]|记录[者人]|录入[者人]|操作[者员])[ ]?[:：][ ]{0,3}(?P<found>[a-z]{3,20}\d{0,6})(?![\w.@])"
)
HANDLE = re.compile(r"(?<![\w.@])[@＠][A-Za-z0-9_][A-Za-z0-9_.\-]{2,30}(?<![.\-])")
URL = re.compile(r"(?:https?://|www\.)[A-Za-z0-9\-._~:/?#@!$&*+,;=%]{4,200}(?<![.,;])")
DASHED_NUMBER = re.compile(
    r"(?<![\dA-Za-z.\-])(?:\d{3}-\d{2}-\d{4}|(?:19|20)\d{6}-\d{2,6}|[A-Z]{1,3}-\d{5,12})(?![\d\-])"
)
CHAT_ID = re.compile(
    rf"(?:微信|企微|QQ|We[Cc]hat|wechat|WeCom|Whats[Aa]pp|[Ss]kype|Telegram|\bLINE\b|\bLine(?= ?(?:ID|id|:))|Facebook|Instagram|\bIG\b|[Tt]witter|TikTok"
    rf"|Kakao(?:Talk)?|Viber|Zalo|Signal(?= ?(?:ID|id|:))|抖音|微博|小红书|钉钉|飞书|支付宝|快手|B站|知乎|公众号|账号|帐号){_GAP}(?:号码?|ID|[Ii]d|账号|handle|no\.?|number)?{_GAP}"
    rf"(?:[:：=]|是|为|is)?{_GAP}[@＠]?(?P<found>(?:live:)?(?=[A-Za-z.\-]{{0,30}}[0-9_.\-]|[A-Za-z]{{5}})[A-Za-z0-9][A-Za-z0-9_.\-]{{3,30}})(?<![.\-])"
)

# contacts ------------------------------------------------------------------------------------
_EXTENSION = r"(?:[ ]?(?:转|ext\.?|-)[ ]?\d{1,5})?"
PHONE = re.compile(
    r"(?<![A-Za-z\d.\-])(?:"
    r"(?:(?:\+|00)86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}"
    r"|(?:(?:\+|00)86[- ]?)?(?:[(（]0\d{2,3}[)）]|0\d{2,3})[- ]?\d{3,4}[- ]?\d{4}"
    r"|[48]00[- ]?\d{3}[- ]?\d{4}"
    r"|(?:\+?1[- .])?(?:\([2-9]\d{2}\)[ ]?|[2-9]\d{2}[- .])\d{3}[- .]\d{4}"
    r"|(?:\+|(?<!\d)00(?=[1-9]))\d{1,3}(?:[- .]?(?:\(\d{1,4}\)|\d{1,4})){2,6}"
    r"|(?:\(0\d{1,4}\)|0\d{1,4})(?:[ -]\d{2,4}){2,4}|(?:\(0\d{2,4}\)|0\d{2,4})[ -]\d{5,8}|0[1-9]\d{8,9}"
    r"|1[3-9]\d[- ]?\d{3}[- ]?\d{5}|1[3-9]\d{2}[- ]\d{3}[- ]\d{4}|1[3-9]\d{3}[- ]\d{6}"
    rf"){_EXTENSION}(?![A-Za-z\d])"
)
LABELLED_PHONE = re.compile(
    r"(?:电话|手机|热线|传真|联系方式|致电|拨打|来电|座机|固话|家电|号码|\bTel(?:ephone)?s?\b\.?|\b(?:tele)?phone|\bmobile|\bmob\b\.?|\bPh\b\.?"
    r"|\bcell(?:phone)?|\bhotline|\bfax(?:ed)?|\bpager|\bcontact|\bcall(?:ed|back)?|\b(?:tele)?phoned|\btexted|\bdial(?:l?ed)|\bpage|\bdial|\btext|\b(?:reach|reached|rung?|ring)(?:[ ](?:him|her|them|me|us))?[ ](?:at|on))"
    r"(?:号码?|[ ](?:no\.?|number|on|at|is|to))?(?:[（(][^\n()（）]{1,8}[)）])?"
    rf"{_GAP}(?:[:：=|｜]|为|是)?{_GAP}(?P<found>[+(（]?\d(?:[\d()（）]|[- .](?=[\d(])){{4,22}}\d{_EXTENSION})(?![A-Za-z\d])"
    rf"|(?:分机|内线|短号|小号|虚拟网|寻呼|\bext(?:ension|n)?\b\.?|\bpager|\bbleep|\bbeeper)(?:号码?|[ ](?:no\.?|number|is))?{_GAP}[:：#]?{_GAP}(?P<also>\d{{3,8}}|\d-\d{{4}})(?!\d)"
    rf"|(?:电话|手机|座机)(?:号码?)?{_GAP}[:：]?{_GAP}(?P<fifth>\d{{4,5}})(?![\d年月×]|[.:：\-/]\d|[ ]?(?:mm|cm|HU|ml))"
    r"|\b[xX](?P<third>\d{4,5})\b(?!\.)"
    # l38 1234 5678, as a scan of paper is read
    r"|(?:电话|手机|号码|\bTel|\bphone|\bmobile)[:：= ]{1,3}(?P<fourth>(?=(?:[lO\- ]{0,2}\d){6})[\dlO]{3}[- ]?[\dlO]{3,4}[- ]?[\dlO]{4}(?!\w))",
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
    rf"(?:住[ \u3000]{{0,4}}址|地[ \u3000]{{0,4}}址|家住|现住|居住地?|居住于|暂住|常住|出生地|祖籍|户籍(?:所在)?地?|通讯处|籍贯|工作单位){_GAP}(?:[:：]|于|在|为)?{_GAP}(?!不详|未知|同上|保密|不明|略)"
    rf"(?P<found>{_PLACE}{{2,60}}(?:[ ](?=[{_HAN}]{{1,8}}(?:市|区|县|镇|路|街|{_DOOR})|\d{{1,5}}(?:[ ]?(?:{_DOOR}|单元)|(?![A-Za-z\d.×/]|[ ]?(?:mm|cm|HU|ml|个|枚)))|(?:{_DOOR}|单元)){_PLACE}{{1,40}}){{0,12}})"
)
ADDRESS = re.compile(
    rf"(?:{_PROVINCE}(?:省|市|(?:维吾尔|壮族|回族)?自治区)?|(?<![{_HAN}])(?!家住|现住|住|由|[{_HAN}]{{0,6}}(?:{_PROVINCE}|[系往于在自]))[{_HAN}]{{2,7}}?(?:市|县)"
    rf"|(?<=[于在自住到为系往寄由])(?![往到在])[{_HAN}]{{2,7}}?(?:市|县))"
    rf"[{_HAN}]{{0,24}}?(?:区|县|市|镇|乡|村|旗|路|街|道|巷|弄|里|胡同)"
    rf"(?:[{_HAN}]{{0,12}}?\d{{1,5}}{_DOOR}{{1,2}}(?:[ ]?(?:\d{{1,5}}(?:{_DOOR}|单元){{1,2}}|单元)){{0,4}}(?:[ ]?\d{{1,5}}(?!\d|[ ]?(?:mm|cm|HU|ml|[.×])))?|[{_HAN}]{{0,12}}?村(?![{_HAN}]{{0,8}}\d))"
)
_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Way|Place|Pl|Square"
    r"|View|Grove|Gardens|Hill|Park|Row|Walk|Mews|Green|Quay|Wharf|Circle|Trail|Alley|Rise|Vale|Terrace|Crescent|Close|Highway|Parkway)"
)
POSTCODE = re.compile(
    rf"(?:邮政?编码?|\b(?i:post(?:al)?[ ]?code|zip(?:[ ]code)?)){_GAP}(?:[:：|｜]|为|是)?{_GAP}(?P<found>\d{{4,6}}(?:-\d{{4}})?)(?!\d)"
    r"|\b(?P<also>[A-Z]{1,2}\d[A-Z\d]?[ ]\d(?!HU|AM|PM)[ABD-HJLNP-UW-Z]{2})\b"
    r"|\b(?P<third>(?:A[LKZR]|C[AOT]|DE|FL|GA|HI|I[DLNA]|K[SY]|LA|M[EDAINSOT]|N[EVHJMYCD]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[TA]|W[AVIY])[ ]\d{5}(?:-\d{4})?)\b(?![ ]?(?:mm|cm|HU))",
)
_TOWN = r"[A-Z][A-Za-z.'\-]{1,20}(?:[ ][A-Z][a-z.'\-]{1,20}){0,3}"
ADDRESS_EN = re.compile(
    r"(?<![\w.])(?:(?:Flat|Unit|Apt\.?|Apartment|Room|Suite)[ ]#?\w{1,5},[ ])?"
    rf"(?:\d{{1,5}}[A-Z]?[ ](?:[NSEW]\.?[ ])?(?:(?:[A-Z][\w'\-]{{0,20}}|\d{{1,3}}(?:st|nd|rd|th))[ ]){{1,4}}{_STREET}\b(?:\.(?=,))?"
    r"|\d{1,5}[ ](?:[A-Z][\w'\-]{1,20}[ ,]{1,2}){1,8}?(?:(?:Apt|Unit|Suite|Ste|Floor)\.?[ ]#?\w{1,5},[ ])?(?:[A-Z][a-z'\-]{1,20}[ ,]{1,2}){0,3}(?=[A-Z]{2}[ ]\d{5}\b)"
    r"|P\.?O\.?[ ]Box[ ]\d{1,6})"
    r"(?:,?[ ](?:Apt|Unit|Flat|Suite|Apartment|Room)\.?[ ]#?\w{1,5})?"
    rf"(?:,[ ]{_TOWN}(?:,?[ ](?:[A-Z]{{2}}[ ]\d{{5}}(?:-\d{{4}})?|\d{{5,6}}|[A-Z]{{1,2}}\d[A-Z\d]?[ ]\d[A-Z]{{2}}))?"
    r"(?:,[ ][A-Z]{2}(?![A-Za-z])(?:[ ]\d{5}(?:-\d{4})?)?)?)?"
)
# 阳光花园3栋2单元501, 兴工北街九号401; what stands before it is read backwards by `deidentify`.
_NUMBER_ZH = r"(?:\d{1,5}|[一二三四五六七八九十百零〇]{1,5})"
DOOR = re.compile(
    rf"(?:路|街|大道|巷|弄|胡同|小区|庄|苑|公寓|花园|新村|屯|镇|乡|村|社区|大院|家属[院楼]|宿舍|坊|寨|堡|农场|林场|连队)"
    rf"[甲乙丙丁东西南北中段]{{0,2}}{_NUMBER_ZH}(?:[-－]{_NUMBER_ZH}){{0,4}}(?:号楼?院?|弄|幢|栋|座|室|组|楼|单元|社|队|巷|户)"
    rf"(?:[甲乙丙丁]?(?:{_NUMBER_ZH}|[A-Z])(?:[-－]\d{{1,5}}){{0,3}}(?:号楼?院?|弄|幢|栋|座|室|组|楼|单元|层|户)?){{0,5}}"
    rf"|{_NUMBER_ZH}(?:栋|幢|号楼|座){_NUMBER_ZH}(?:单元|室|-){_NUMBER_ZH}?(?:室|号|户)?"
)
# Two levels of places: 湖南省邵阳市隆回县, 那曲市色尼区.
AREA = re.compile(
    rf"(?:{_PROVINCE}(?:省|市|(?:维吾尔|壮族|回族)?自治区)?[{_HAN}]{{1,6}}?(?:市|州|地区|盟|县|区)(?:[{_HAN}]{{1,6}}?(?:区|县|市|旗|镇|乡)){{0,2}}(?:[{_HAN}]{{1,6}}?(?:街道|镇|乡|村)){{0,2}}(?:\d{{1,3}}组)?"
    rf"|(?:(?<=[住往到系])|(?<![{_HAN}]))(?![家现]?住|[于在往到系]|[{_HAN}]{{0,6}}[系住往自])[{_HAN}]{{2,5}}?(?:市|州|盟|县)[{_HAN}]{{1,5}}?(?:区|县|旗|镇|乡|街道)(?:[{_HAN}]{{1,6}}?(?:街道|镇|乡|村)){{0,2}}(?:\d{{1,3}}组)?)"
    rf"(?![{_HAN}]{{0,8}}?(?:医院|中心|卫生院))|(?<=[住在自])[{_HAN}]{{2,4}}区[{_HAN}]{{1,5}}?(?:镇|乡|街道)"
)
ADDRESS_BEGINS = re.compile(rf"[{_HAN}0-9\-－]{{0,40}}$")
ADDRESS_LEAD = re.compile(r".*(?:家住|现住|居住于|居住在|[住于在往至到为系址])(?!宅|院|洪区)|由")
LIVES_EN = re.compile(
    r"(?:\b(?:[Ll]iv(?:es|ing)|lived|[Rr]esid(?:es|ing)|resided|staying|stays)[ ](?:at|in|on)[ ]|\b(?:[Hh]ome|[Mm]ailing|[Pp]ostal|[Ss]treet|[Rr]esidential)[ ][Aa]ddress(?:[ ]is)?[ ])(?P<found>(?:Flat|Unit|Apt\.?|No\.?|[A-Z0-9][\w'’\-]{0,20})"
    r"(?:,?[ ](?:(?:St|Rd|Ave|No|Apt|Dr|Mt|Ft)\.|[A-Z0-9#][\w'’\-]{0,20}|of|on|the|de|la|upon)){0,14})(?<![.,])"
)
LABELLED_ADDRESS_EN = re.compile(
    r"\b(?:(?:Home |Mailing |Postal |Residential |Street )?Addr(?:ess)?\.?)[ \t]{0,2}[:=][ \t]{0,3}(?P<found>[^\n;；\t]{4,100}?)"
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
