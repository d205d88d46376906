"""Slips of dictation and typing in the words that are read: "右肺上页", "积夜", "effussion".

Taiwan's and Hong Kong's characters and words are put into those of the mainland's reports. A
Chinese slip is a character that sounds the same; an English one is one letter more, fewer, wrong,
or two that have changed places, inside a word of the list.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache

from ctscribe.reports.schema import Language

# Characters as Taiwan and Hong Kong write them, of the words that are read and those around them.
_SIMPLE = str.maketrans(
    "葉兩雙側見結節腫塊積氣脹張實變質纖維鈣擴縱臟脈動狀彌顆個數約釐較顯無並沒減縮穩與於內後圓"
    "邊緣類腎轉陳舊斷層電腦檢議對應發現壓單處網樣間條團細徑長點陰損術離鄰圍漸進復複續殘餘總計"
    "為從請臨診論據異屬僅還來過時開關門頸體線紋織組經終編縫頂懷態慮採掃擬攝構橢機橫歷淺測準滲"
    "滿濃環產當療癒確種範簡純級緻繞聯腸膽藥號裝裡規視觀訊記許訴評認誤軟輕轄輪遠銳鎖閉闊階際隨"
    "雜難飽癥靜強劑區麼連顱殼狹",
    "叶两双侧见结节肿块积气胀张实变质纤维钙扩纵脏脉动状弥颗个数约厘较显无并没减缩稳与于内后圆"
    "边缘类肾转陈旧断层电脑检议对应发现压单处网样间条团细径长点阴损术离邻围渐进复复续残余总计"
    "为从请临诊论据异属仅还来过时开关门颈体线纹织组经终编缝顶怀态虑采扫拟摄构椭机横历浅测准渗"
    "满浓环产当疗愈确种范简纯级致绕联肠胆药号装里规视观讯记许诉评认误软轻辖轮远锐锁闭阔阶际随"
    "杂难饱症静强剂区么连颅壳狭",
)
# Each as long as what it replaces.
_ZH: list[tuple[re.Pattern[str], str]] = [
    (re.compile(wrong), right)
    for wrong, right in (
        (r"(?<=[右左双两]肺[上中下])[页夜业]|(?<=[右左双两]侧肺[上中下])[页夜业]", "叶"),
        (r"(?<=[右左双两][上中下])[页夜业]", "叶"),
        (r"(?<=肺舌)[页夜业]", "叶"),
        (r"积[夜叶业页]", "积液"),
        (r"(?:节结|结接|洁节)(?!核)", "结节"),
        (r"[磨毛](?:波璃|玻离|玻漓|波离)", "磨玻璃"),
        (r"实[行型形](?=(?:小|微)?结节|成分|肿块)", "实性"),
        (r"气(?:兄|凶)", "气胸"),
        (r"肺(?:汽|企)肿", "肺气肿"),
        (r"肺大[炮包饱]", "肺大疱"),
        (r"淋巴[节接]", "淋巴结"),
        (r"胸[模摸]", "胸膜"),
        (r"心胞", "心包"),
        (r"(?<=支气管)(?:扩涨|括张|扩帐)", "扩张"),
        (r"钙[华话]", "钙化"),
        (r"斑[篇偏](?=状|影)", "斑片"),
        (r"空动", "空洞"),
        (r"骨拆", "骨折"),
        (r"甲状线", "甲状腺"),
        (r"肾上线", "肾上腺"),
        (r"未[间件]", "未见"),
        (r"(?<=[膜壁隔])增后", "增厚"),
        (r"实便", "实变"),
        (r"肺不涨", "肺不张"),
        (r"相访", "相仿"),
        (r"(?<=[前后背底舌尖内外侧])断(?=[^层面端裂离续])", "段"),
        # Taiwan's and Hong Kong's words, in those of the mainland's reports.
        (r"纵[膈]", "纵隔"),
        (r"肋膜", "胸膜"),
        (r"(?<=心包)积水", "积液"),
        (r"淋巴腺", "淋巴结"),
        (r"部份", "部分"),
        (r"心包膜腔", "心包腔内"),
        (r"心包膜", "心包内"),
        (r"实心(?=[性的小微]|结节|部分|成分|肿块)", "实性"),
        (r"[未没]有(?=[^吸消完])", "未见"),
        (r"之(?!一|[前后间外内中下上](?![段叶侧基舌肺]))", "的"),
    )
]
_EN = frozenset(
    re.findall(
        r"\w+",
        """
    right left upper middle lower bilateral lingula segment anterior posterior superior lateral
    medial apical basal nodule nodules nodular consolidation consolidations consolidative effusion
    effusions pleural pericardial pneumothorax emphysema emphysematous opacity opacities infiltrate
    infiltrates fibrosis fibrotic scarring bronchiectasis bronchiectatic bronchial atelectasis
    atelectatic calcification calcifications calcified cavity cavitary cavitation bullae bullous
    septal interlobular thickening mosaic attenuation cardiomegaly coronary lymphadenopathy
    adenopathy hiatal hernia fracture fractures thyroid adrenal hepatic kidney mediastinal
    unchanged stable increased decreased enlarged resolved previously identified evidence
    without measuring measures approximately ground glass solid moderate
    """,
    )
)
# Words as near to one of these as a slip, but words.
_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    interior ulterior stale staple staples muddle septum
    stables modular lavatory measured measurement septic pleurae basil
    medical radical solids fractured opacify bilaterally laterally medially
    """,
    )
)
_EN_WORD = re.compile(r"[A-Za-z]{4,20}")


def respelled(text: str, language: Language) -> tuple[str, Callable[[int], int]]:
    """(the text with slips put right, where a position in it lies in `text`)."""
    if language == "zh":
        text = text.translate(_SIMPLE)
        for wrong, right in _ZH:
            text = wrong.sub(right, text)
        return text, lambda position: position
    pieces: list[str] = []
    starts, shifts = [0], [0]  # from starts[i] on a position is shifts[i] behind the text's
    done = length = 0
    for match in _EN_WORD.finditer(text):
        meant = _meant(match.group().lower())
        if meant is None:
            continue
        pieces += [text[done : match.start()], meant]
        length += match.start() - done + len(meant)
        done = match.end()
        starts.append(length)
        shifts.append(done - length)
    if not pieces:
        return text, lambda position: position
    return "".join([*pieces, text[done:]]), (
        lambda position: position + shifts[bisect_right(starts, position) - 1]
    )


@lru_cache(4096)
def _meant(word: str) -> str | None:
    """The word of the list that another is a slip of; None if of none, or if it is one."""
    if word in _EN or word in _WORDS:
        return None
    return next((meant for meant in sorted(_EN) if _is_slip(word, meant)), None)


def _is_slip(word: str, meant: str) -> bool:
    if word[0] != meant[0] or abs(len(word) - len(meant)) > 1:
        return False
    begin = 0
    while begin < min(len(word), len(meant)) and word[begin] == meant[begin]:
        begin += 1
    end = 0
    while end < min(len(word), len(meant)) - begin and word[-1 - end] == meant[-1 - end]:
        end += 1
    wrong, right = word[begin : len(word) - end], meant[begin : len(meant) - end]
    if len(wrong) == len(right) == 2:
        return wrong == right[::-1]
    if not end or len(wrong) > 1 or len(right) > 1:
        return False
    # "stale", "light": short words have many neighbours, so that only a double letter is a slip.
    longer, letter = (meant, right) if right else (word, wrong)
    doubled = not (wrong and right) and letter == longer[begin - 1]
    return doubled or len(meant) >= 6
