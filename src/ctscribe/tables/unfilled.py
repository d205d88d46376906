"""Template placeholders: a report that nobody finished says of nodules what nobody saw."""

from __future__ import annotations

import re

from ctscribe.tables.text import HEADING

_UNIT = r"(?:mm|cm|HU|毫米|厘米|个月)"
# After one of these a mask stands for a person's name, which somebody took out on purpose.
_PERSON = re.compile(
    r"(?:医[师生]|姓名|患者|病人|受检者|签[名字]|审核者?|报告者|技师|技术员"
    r"|\bDr\.?|\bname|\bsign(?:ature|ed by)|\bradiologist|\bpatient)\s?[:：]?\s?$",
    re.IGNORECASE,
)
_RULE = re.compile(r"^\s*[*_=#xX×\-]{4,}\s*$", re.MULTILINE)  # a line drawn between parts
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_MASK = re.compile(
    rf"_{{2,}}|＿+|\*{{3,}}|\*{{2}}(?=\s?{_UNIT})|(?<![A-Za-z])[xX]{{3,}}(?![A-Za-z])|×{{2,}}"
    rf"|(?<![A-Za-z])[xX]{{1,2}}(?:\s?[×xX*]\s?[xXyY]{{1,2}})*\s?(?={_UNIT}(?![A-Za-z]))"
    r"|(?<=[肺叶段肋椎侧约第见])[xX]{1,2}(?=[\u4e00-\u9fff])|[○〇◯](?=[叶段肺侧肋]|mm|cm)"
    r"|(?<=[肺第])…+(?=[叶段])|(?<=[\u4e00-\u9fff])_(?=[\u4e00-\u9fff])|(?<=[\u4e00-\u9fff])_(?=\s?mm|\s?cm)"
)
_ASKED = re.compile(
    r"[\[【(（<＜{]\s*[\]】)）>＞}]"
    r"|\{\{[^{}\n]*\}\}|\$\{[^{}\n]*\}|\{[A-Za-z_\u4e00-\u9fff\d]{0,24}\}|@@+|@[A-Za-z_]+@"
    r"|##|#[A-Za-z_\u4e00-\u9fff]{1,16}#|%[A-Za-z_]{3,}%|\$[a-z_]+\$|<+[a-z]+_[a-z_]+>+"
    r"|<[\u4e00-\u9fff]{1,8}>|年\s*月\s*日|\bfill me in\b|^please complete\W*$"
    r"|请(?:在此)?(?:输入|填写|录入|点击|选择(?!性))|(?:此处|这里|在此)(?:输入|填写|录入|插入)"
    r"|[\[【(（<]\s?(?:待[填补录]\w{0,4}|必填|选填|可选|数值|内容|描述|大小|部位|侧别|具体\w{0,4})\s?[\]】)）>]"
    r"|\b(?:insert|enter|type|fill in|specify) (?:the |your |a )?"
    r"(?:text|description|findings?|size|measurements?|date|impression|side|location|value|number)s?"
    r"(?: here)?\b"
    r"|[\[<](?:insert|enter|select|choose|specify|fill|your|free text)\b[^\]>\n]*[\]>]"
    r"|\bclick (?:here )?to (?:enter|edit|add|select)\b|\blorem ipsum\b|\bTBD\b|\btext here\b"
    r"|\[[^\]|\n]{1,30}(?:\|[^\]|\n]{1,30})+\]"
    r"|(?:大小|直径|长径|短径|径线?|约为?|厚|见|值|(?<![A-Za-z])[×*])[:：]?\s*(?:约为?)?\s*(?:×|…+|\.{3,}|[?？])?\s*"
    r"(?:mm|cm|HU|毫米|厘米)(?![A-Za-z级])"
    r"|(?:(?<!…)…+|(?<!\.)\.{3,}|(?<![\w）)])[?？])\s*(?:mm|cm|毫米|厘米)(?![A-Za-z级])"
    r"|\bmeasur(?:es|ing) (?:up to |about |approximately )?(?:_+ ?)?(?:x ?_* ?)?(?:mm|cm)\b",
    re.IGNORECASE,
)
# With a capital at most: [DATE] is what stands for a date that was taken out.
_FIELD = re.compile(
    r"\[(?:[Ss]ide|[Dd]ate|[Ss]ize|[Ll]ocation|[Ll]obe|[Nn]umber|[Ff]indings?|[Mm]easurements?|[Dd]escribe"
    r"|[Cc]omparison|[Tt]ext|[Vv]alue|[Ll]aterality)\b[^\]\n]*\]"
)
# Choices of which one was to stay. Lists such as 上/下叶 or 肺门/纵隔 are meant as both.
_OPPOSITES = re.compile(
    r"左侧?\s?[/／|]\s?右侧?(?:\s?[/／|]\s?双侧?)?(?!心|室|房|主?支气管|肺动脉|比)"
    r"|右侧?\s?[/／|]\s?左侧?(?:\s?[/／|]\s?双侧?)?(?!心|室|房|主?支气管|肺动脉|比)"
    r"|[有无][\]】)）]?\s?[/／]\s?[\[【(（]?[无有]|双侧?\s?[/／]\s?单侧?|单侧?\s?[/／]\s?双侧?"
    r"|通畅\s?[/／]\s?(?:狭窄|不畅|阻塞)|光滑\s?[/／]\s?(?:分叶|毛刺)|[是否]\s?[/／]\s?[否是]|可见\s?[/／]\s?未见|未见\s?[/／]\s?可见"
    r"|增大\s?[/／]\s?(?:缩小|减小)|缩小\s?[/／]\s?增大|增多\s?[/／]\s?减少|清晰?\s?[/／]\s?(?:模糊|不清|欠清)"
    r"|光滑\s?[/／]\s?(?:毛糙|不光滑)|存在\s?[/／]\s?不存在|良性?\s?[/／]\s?恶性(?!鉴别|待|难|不|尚)"
    r"|\b(?:left\s?/\s?right|right\s?/\s?left)\b(?!.?(?:ventric|atri|heart|ratio|shunt))"
    r"|\byes\s?/\s?no\b|\bpresent\s?/\s?absent\b|\bincreased\s?/\s?decreased\b|\bis\s?/\s?is not\b"
    r"|\b(?:enlarged|abnormal)\s?/\s?normal\b"
    r"|\bnormal\s?/\s?(?:enlarged|abnormal)\b|\bis\s?/\s?are\b|\bsmooth\s?/\s?spiculated\b",
    re.IGNORECASE,
)
_BOX = re.compile(r"[□☐]")
_TICKED = re.compile(r"[☑☒√✓✔■]")
_OPTION = (
    r"[左右双上中下](?:侧|肺|叶|份)?|有|无|清晰|模糊|光滑|毛糙|实性|磨玻璃"
    r"|[少中大]量|[轻中重]度?"
)
_BRACKETED = re.compile(rf"[(（\[【](?:{_OPTION})(?:\s?[/／|、]\s?(?:{_OPTION}))+[)）\]】]")


def unfilled(text: str) -> str | None:
    """The first placeholder of a template that is left in a report, or None."""
    plain = _BOLD.sub(r"\1", _RULE.sub("", text))
    found = [m for p in (_ASKED, _FIELD, _OPPOSITES, _BRACKETED) for m in p.finditer(plain)]
    # Beside a box that is ticked, the others were meant to stay empty.
    unticked = [m for m in re.finditer(r"[^；。;\n]+", plain) if not _TICKED.search(m[0])]
    found += [m for part in unticked for m in _BOX.finditer(plain, *part.span())]
    found += [m for m in _MASK.finditer(plain) if not _PERSON.search(plain[: m.start()])]
    if HEADING.search(plain) and not any(map(str.isalnum, HEADING.sub("", plain))):
        return plain.split("\n")[0]
    return min(found, key=lambda m: m.start())[0].strip() if found else None
