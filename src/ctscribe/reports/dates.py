"""Patterns of calendar dates and clock times, in every spelling that reports use.

Every repetition is bounded, so that a search stays linear in the length of the text. The group
`found` of a pattern, where it has one, is what is personal; else the whole match is. A year alone
is no date: the Safe Harbor rule of HIPAA (45 CFR 164.514(b)(2)) lets it stand.
"""

# ruff: noqa: E501 - patterns are read in one piece
from __future__ import annotations

import re

_GAP = r"[ \t\u3000]{0,6}"
_Y, _M, _D = r"(?:19|20)\d{2}", r"(?:1[0-2]|0?[1-9])", r"(?:3[01]|[12]\d|0?[1-9])"
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?"
    r"|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?|JAN(?:UARY)?|FEB(?:RUARY)?|MAR(?:CH)?|APR(?:IL)?|MAY"
    r"|JUNE?|JULY?|AUG(?:UST)?|SEPT?(?:EMBER)?|OCT(?:OBER)?|NOV(?:EMBER)?|DEC(?:EMBER)?)"
)
_WEEKDAY = r"(?:Mon(?:day)?|Tue(?:s(?:day)?)?|Wed(?:nesday)?|Thu(?:r(?:s(?:day)?)?)?|Fri(?:day)?|Sat(?:urday)?|Sun(?:day)?)"
_CLOCK = (
    r"(?:(?:[01]?\d|2[0-3])[:：][0-5]\d(?:[:：][0-5]\d(?:\.\d{1,6})?)?(?:[ ]?(?:[AaPp][Mm]\b|[AaPp]\.[Mm]\.))?"
    r"|(?:[01]?\d|2[0-3])[时点](?:[0-5]?\d分?(?:[0-5]?\d秒)?)?)(?!\d)"
)
_TIME = rf"(?:(?:T|,?[ ]{{0,3}}(?:at[ ]|上午|下午|晚上?|凌晨|[(（][^\s()（）]{{1,3}}[)）])?[ ]{{0,2}}){_CLOCK}Z?)?"
_UNIT_AFTER = r"(?![ ]?(?:mm|cm|HU|ml|%|[肋椎个枚级]))"
_ORDINAL = r"(?:st|nd|rd|th)?"
_SHORT_YEAR = r"(?:['’]\d{2}(?!\d))"
_EN_YEAR = rf"(?:{_Y}|{_SHORT_YEAR})"
DATE = re.compile(
    rf"(?:\b{_WEEKDAY}\.?,?[ ](?=\d|[A-Z]))?(?<![\d.\-/])(?:"
    rf"{_Y}[ ]?年[ ]?{_M}[ ]?月(?:[ ]?{_D}(?!\d)[ ]?[日号]?)?"
    rf"|{_Y}[ ]?(?P<sep>[-/.．])[ ]?{_M}[ ]?(?P=sep)[ ]?{_D}(?!\d)"
    rf"|{_Y}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)"
    rf"|{_M}[ ]?月[ ]?{_D}[ ]?[日号]|{_M}月{_D}(?![\d个次枚周天岁例处组余.%％mMcC/×\-])"
    rf"|(?<![A-Za-z第])(?:{_D}(?P<sep2>[-/.]){_M}|{_M}(?P<sep3>[-/.]){_D})(?:(?P=sep2)|(?P=sep3)){_Y}(?!\d)"
    rf"|(?<![A-Za-z第])(?:\d{{2}}/{_M}/{_D}|{_D}/{_M}/\d{{2}}|{_M}/{_D}/\d{{2}})(?!\d|[/.\-×x*]\d|[×x*]){_UNIT_AFTER}"
    rf"|\b{_D}(?P<sep4>[-/.]){_MONTH}(?P=sep4)(?:{_Y}|\d{{2}})(?!\d)"
    rf"|\b{_MONTH}\.?[ -]{_D}{_ORDINAL}(?:,?[ -]{{1,2}}{_EN_YEAR})?(?!\d|[.:]\d){_UNIT_AFTER}"
    rf"|\b{_D}{_ORDINAL}[ -]?(?:day[ ])?(?:of[ ])?{_MONTH}\.?(?:,?[ -]?{_EN_YEAR})?(?![\da-z])"
    rf"|\b{_MONTH}\.?,?[ ](?:of[ ])?{_Y}(?!\d)"
    # 14/Feb/2023, 2023-Feb-14, 14.Feb.23, Mar-2021, Feb '21, spring 2019
    rf"|\b{_Y}[-/. ]{_MONTH}(?:[-/. ]{_D})?(?![\da-z])"
    rf"|\b{_MONTH}(?:[-/]{_EN_YEAR}|[ ]{_SHORT_YEAR})"
    rf"|\b(?:[Ss]pring|[Ss]ummer|[Aa]utumn|[Ff]all|[Ww]inter)(?:[ ]of)?[ ]{_Y}(?!\d)"
    rf"|\b(?:Christmas(?:[ ](?:Day|Eve))?|New[ ]Year'?s(?:[ ](?:Day|Eve))?|Easter|Thanksgiving)(?:[ ]{_Y})?(?!\w)"
    # 14. Januar 2022, 3 de marzo de 2021, 12 mars 2023
    rf"|\b{_D}\.?[ ](?:de[ ])?(?:Januar|Februar|März|Mai|Juni|Juli|Oktober|Dezember|janvier|février|mars|avril|juin|juillet|août"
    r"|septembre|octobre|novembre|décembre|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre"
    rf"|gennaio|febbraio|aprile|maggio|giugno|luglio|settembre|ottobre|dicembre)[ ](?:de[ ]|del[ ])?{_Y}(?!\d)"
    # 2022-05, 05/2022, 06年7月, 23.12.04, 24-1-15
    rf"|{_Y}(?:-(?:1[0-2]|0?[1-9])|[/.](?:1[0-2]|0[1-9]))(?!\d|[-/.×x*]\d|[×x*]){_UNIT_AFTER}"
    rf"|(?<![A-Za-z])(?:1[0-2]|0[1-9])[-/.](?:19[3-9]\d|20[0-4]\d)(?!\d|[.×x*/]\d|[×x*]){_UNIT_AFTER}"
    rf"|(?<![A-Za-z第/])[1-9]/(?:19[3-9]\d|20[0-4]\d)(?!\d|[.×x*/]\d|[×x*]){_UNIT_AFTER}"
    rf"|(?<![史烟病约近达余已共程龄压症炎喘咳痛])(?:['’]?\d{{2}})年[ ]?{_M}[ ]?月(?!余|的)(?:[ ]?{_D}(?!\d)[ ]?[日号]?)?"
    rf"|(?<![A-Za-zv第])(?<!版本)(?<!版本 )(?:\d{{2}}\.{_M}\.{_D}|{_D}\.{_M}\.\d{{2}}|{_M}\.{_D}\.\d{{2}})(?!\d|\.\d|[×x*%])(?!\d|[-/×x*]\d){_UNIT_AFTER}"
    rf"|(?<![A-Za-z第])(?:\d{{2}}-{_M}-{_D}|(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])-\d{{2}}|(?:0[1-9]|[12]\d|3[01])-(?:0[1-9]|1[0-2])-\d{{2}})(?!\d|[-.×x*/]\d|[×x*]){_UNIT_AFTER}(?![肺肋层])"
    # 去年8月
    rf"|(?<=[今去前当同]年){_M}月(?![\d余])"
    rf")(?:[ ]?[(（]?(?:星期|周|礼拜)[一二三四五六日天][)）]?)?(?:,?[ ]?[(（]?{_WEEKDAY}\b[)）]?)?{_TIME}"
)
# 3/1 and 3.12 are dates only where something says so; else they are shares, ratios and sizes.
_AFTER_DAY = r"(?:复查|外院|本院|我院|来院|入院|出院|手术|术后|行|片|旧片|老片|前片|CT(?!值)|DR|MRI?|胸片|X线|平扫|增强|拍|检查|通知|住院|门诊|日|号|晨|上午|下午|晚)"
_SHARE = r"(?!(?:1/[2-6]|2/[35]|3/[45]|4/5|5/6)(?!\d))"  # 1/3 of a lung
DAY = re.compile(
    rf"(?<![\d.\-/])(?<![A-Za-z约见各占])(?:{_SHARE}|(?=\d/\d[ ]?(?:复查|外院|本院|我院|来院|入院|出院|{_CLOCK})))(?P<found>{_M}/{_D})(?=[ ]?{_AFTER_DAY}|[ ]{_CLOCK})(?![ ]?行程)"
    rf"|(?:[于较自从与和比]|前片|旧片|日期|时间|对比|比较|随访|末次|上次|术后|手术|CT|胸片|{_M}/{_D}[、和及，,～~—至到])[:：（( ]?(?P<also>{_SHARE}{_M}/{_D})(?!\d|[/.]\d|[ ]?(?:肺|的肺|以|左右|层|mm|cm|HU|ml|%|[肋椎个枚级量处]))"
    rf"|(?:[于较自从与和比]|前片|旧片|日期|对比|比较|随访|末次|上次)[:：（( ]?(?P<third>{_M}[.-]{_D})(?=[ ]?{_AFTER_DAY}|[ ]{_CLOCK})"
    rf"|(?<![A-Za-z约见各占])(?<!Im )(?<!mage )(?<!ages )(?<!im )(?<!eries )(?<!Se )(?<!lice )(?<!ment )(?<!图像)(?<!层面)(?<!率)(?<!率为)(?P<ninth>0[1-9]/(?:0[1-9]|[12]\d|3[01])|(?:1[0-2]|[12]\d|3[01])/0[1-9])(?!\d|[/.]\d|[ ]?(?:mm|cm|HU|%|层|枚|个))"
    rf"|(?:^|(?<=[，。；;(（\n]))(?P<sixth>{_M}(?:/{_D}|\.(?:[12]\d|3[01]|0[1-9])))(?=复查|外院|本院|我院|来院|入院|出院|手术|行|CT(?!值)|胸片)"
    rf"|(?:[于自至在从（(到较与]|20\d{{2}}\.(?:1[0-2]|[1-9])[-~～—至、])(?P<seventh>(?:19|20)\d{{2}}[./](?:1[0-2]|0?[1-9]))(?![\d.]|[ ]?(?:mm|cm|HU|%|[×x*]))"
    rf"|(?i:\b(?:notes?|visit|study|films?|scans?|exam|report|CT|MRI|PET|radiographs?|x-?rays?|CXR|labs?|clinic|imaging)[ ](?:of|from|dated|on)[ ])(?P<eighth>{_SHARE}{_M}/{_D})(?!\d|[/.]\d|[ ]?(?:mm|cm|HU|%|of\b))"
    rf"|(?i:\b(?:on|since|dated|done|performed|taken|obtained|acquired|date|seen|scanned|admitted|discharged|born|until|before|after|study[ ]of|from|prior|due|Mon(?:day)?|Tue(?:s(?:day)?)?|Wed(?:nesday)?|Thu(?:r(?:s(?:day)?)?)?|Fri(?:day)?|Sat(?:urday)?|Sun(?:day)?|booked|scheduled(?:[ ]for)?|exam|scan|ct|mri|cxr|x-?ray|film|surgery|op|d/c|f/u))"
    rf"[:( ]{{1,2}}(?P<fourth>{_SHARE}(?:(?:1[0-2]|0?[1-9])/{_D}|{_D}/(?:1[0-2]|0?[1-9])))(?!\d|[/.]\d|[ ]?(?:mm|cm|HU|ml|%|of\b|lobes?|levels?|ribs?|nodules?|lung|[层图肺肋椎个枚处]))"
    # 6.21拍的, 今日7/15, 申请者[姓名] 6/3, 4/2 with Dr
    rf"|(?<![\d.\-/A-Za-z约径])(?P<eleventh>(?:{_M}[.]{_D}|{_M}/{_D}))(?=(?<=[T片的查][（(]\d[./]\d\d)[)）]|(?<=[T片的查][（(]\d\d[./]\d\d)[)）]|[ ]?(?:做的|拍的|照的|查的|做过|那次|那天|号的))"
    rf"|(?<=[今昨明当前][日天早晚])[ ]?(?P<twelfth>{_M}[./]{_D})(?![\d/.×x*%]|[ ]?(?:mm|cm|HU|ml|肺|以|左右|层))"
    rf"|(?<=\[姓名\])[ ，,]{{1,3}}(?P<thirteenth>{_M}/{_D})(?=[ \t]*(?:$|[，,。；;）)]))"
    rf"|(?<![\d./A-Za-z-])(?P<fourteenth>{_SHARE}(?:1[0-2]|0?[1-9])/{_D})(?=[ ](?:with[ ](?:Dr|Mr|Ms|Mrs|Prof|Miss|\[NAME)|at[ ](?:\d|\[))|[ ]?(?:appt|appointment|visit|clinic)\b)"
    # 10-09拔管: no range has a leading zero
    rf"|(?<![\d.\-/A-Za-z第列像层图幅帧位])(?<!(?i:se|im)[ ])(?<!(?i:ries|ages|ices|vels)[ ])(?P<tenth>(?:0[1-9]|1[0-2])-(?:0[1-9]|(?:[12]\d|3[01])(?=[ ]?(?:拔|置|{_AFTER_DAY}))))(?=[ ]?[\u3400-\u9fff])(?![ ]?[层肋椎级个枚号次组区段岁年月周天图幅帧])"
    rf"|(?<=[与较于比])(?P<fifth>{_M}月份?)(?=的?(?:CT|片|胸片|旧片|老片|检查|外院|本院|我院))",
    re.MULTILINE,
)
# 2 0 2 4年1 0月8日 and 2O24年l0月, as a scan of paper is read
_SPREAD_DAY = r"(?:3[ ]?[01]|[12][ ]?\d|0?[ ]?[1-9])(?!\d)"
SPACED_DATE = re.compile(
    rf"(?<![A-Za-z\d.])(?:[1lI][ ]?9|2[ ]?[0Oo])[ ]?[\dOolI][ ]?[\dOolI][ ]?(?:年[ ]?(?:[1lI][ ]?[0-2OolI]|[0Oo]?[ ]?[1-9lI])[ ]?月(?:[ ]?(?:{_SPREAD_DAY}|[0-3OolI][ ]?[\dOolI]|[lI])[ ]?[日号]?)?"
    rf"|(?P<dash>[-/.])[ ]?(?:1[ ]?[0-2]|0?[ ]?[1-9])[ ]?(?P=dash)[ ]?{_SPREAD_DAY})"
)
# 二〇二四年三月五日, 贰零贰叁年拾月, 三月五日, 廿三
_N = "〇○零Oo０一二三四五六七八九壹贰弍叁肆伍陆柒捌玖"
_TEN = "十拾廿卅初正元冬腊"
HAN_DATE = re.compile(
    rf"(?:农历|阴历|公历)?(?:(?<![{_N}])[{_N}]{{2,4}}[ ]?年[ ]?[{_N}{_TEN}]{{1,3}}[ ]?月份?(?:[ ]?[{_N}{_TEN}]{{1,4}}[ ]?[日号]?)?"
    rf"|(?<![{_N}{_TEN}第])[{_N}{_TEN}]{{1,3}}月(?:[{_N}{_TEN}]{{1,4}}[日号]|[初廿][{_N}十]{{1,2}})"
    rf"|(?<=[今去前当同]年)[{_N}{_TEN}]{{1,3}}月(?:[{_N}{_TEN}]{{1,4}}[日号])?"
    rf"|(?:农历|阴历)(?:{_M}|[{_N}{_TEN}]{{1,3}})月[{_N}{_TEN}]{{1,4}})"
)
_DAY_WORD = (
    r"(?:(?:twenty|thirty)[- ](?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)|first|second|third|fourth|fifth|sixth"
    r"|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth"
    r"|twentieth|thirtieth)"
)
_NUMBER_WORD = (
    r"(?:nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|two|and|oh|one|three|four|five|six|seven"
    r"|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen)"
)
_WORD_YEAR = (
    rf"(?:,?[ ](?:{_Y}(?!\d)|(?:nineteen|twenty|two[ ]thousand)(?:[- ]{_NUMBER_WORD}){{0,4}}))"
)
WORDED_DATE = re.compile(
    rf"\b(?:(?:the[ ])?{_DAY_WORD}[ ](?:day[ ])?(?:of[ ])?{_MONTH}{_WORD_YEAR}?"
    rf"|{_MONTH}[ ](?:the[ ])?{_DAY_WORD}{_WORD_YEAR}?|{_MONTH}{_WORD_YEAR})\b",
    re.IGNORECASE,
)
CLOCK = re.compile(
    r"(?<![\d.:：比])(?<!ratio )(?:(?:[01]\d|2[0-3])[:：][0-5]\d(?:[:：][0-5]\d)?(?:[ ]?[AaPp]\.?[Mm]\b)?"
    r"|(?:1[0-2]|[1-9]):[0-5]\d[ ]?[AaPp]\.?[Mm]\b)(?![\d:.])"
)
LABELLED_DATE = re.compile(
    rf"(?:日期|时间|生日|出生(?:于|年月日?)?|\bDOB|\bD\.O\.B\.?|\bdate of birth|\bborn(?:[ ](?:on|in))?|\b(?:exam |study )?dated?|\bbirth[ ]?date)"
    rf"{_GAP}[:：|｜]?{_GAP}(?P<found>\d{{2,4}}[-/.]\d{{1,2}}[-/.]\d{{1,4}}(?!\d){_TIME}|\d{{1,2}}[ ]\d{{1,2}}[ ](?:19|20)\d{{2}}(?!\d)|\d{{1,2}}[ -]{_MONTH}[ -]\d{{2}}(?!\d)|(?:19|20)\d{{2}}[ ]\d{{1,2}}[ ]\d{{1,2}}(?!\d)|\d{{6}}(?!\d)|{_Y}年?(?![\d]))",
    re.IGNORECASE,
)
