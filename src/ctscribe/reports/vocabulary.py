"""The wider words that `statements` reads: thirty findings, segments, change, doubt, other organs.

Built on `lexicon`, whose rules stay for what both read. What `lexicon` skips so that it is not
taken for one of the five ("甲状腺结节", "心包积液") is a finding of its own here. `wide_tokens`
reads by these rules; alternatives in order: what must not be misread comes first.
"""

from __future__ import annotations

import re

from ctscribe.reports import lexicon
from ctscribe.reports.schema import Language, Observation
from ctscribe.reports.segments import CODE, EN_SEGMENT, ZH_SEGMENT

PLEURA: frozenset[Observation] = frozenset({"effusion", "pneumothorax", "pleural-thickening"})
# Side only where one alone is named: their words lie beside the lungs' own places.
SIDED: frozenset[Observation] = frozenset(
    [
        *("lymphadenopathy", "fracture", "rib-lesion", "kidney-cyst"),
        *("thyroid-nodule", "breast-nodule", "adrenal-nodule"),
    ]
)
PLACELESS: frozenset[Observation] = SIDED | {
    *("pericardial-effusion", "cardiomegaly", "coronary-calcification", "aortic-calcification"),
    *("hiatal-hernia", "liver-cyst", "liver-lesion"),
}
SIZED: frozenset[Observation] = frozenset(
    [
        *("nodule", "consolidation", "ground-glass-opacity", "opacity", "cavity", "bulla"),
        *("calcification", "lymphadenopathy", "hiatal-hernia", "rib-lesion", "thyroid-nodule"),
        *("breast-nodule", "adrenal-nodule", "liver-cyst", "liver-lesion", "kidney-cyst"),
    ]
)
AMOUNTED: frozenset[Observation] = frozenset({"effusion", "pneumothorax", "pericardial-effusion"})

_IN = r"[^，,。；;、肺]"  # inside one clause, and not about a lung
_LEVELS = r"[上中下](?:[、及和与]?[上中下])*"
_SIDE = r"(?:[右左双两]侧?)?"
# "与前片相比，左侧胸腔积液增多": a change as the verb of the finding itself.
_OF_FINDING = (
    r"(?:(?<=积液)|(?<=气胸)|(?<=结节)|(?<=肿块)|(?<=实变)|(?<=病灶)|(?<=病变)|(?<=炎症)|(?<=影)|(?<=成分)|(?<=范围))"
    r"(?:范围)?(?:较前)?(?:明显|略有?|稍有?|轻度|有所|逐渐)?"
)
_ZH_STABLE = (
    r"(?:较(?![大小厚高])[^，,。；;无未新]{0,14})?(?:未见|无|没有)(?:明显|显著|明确|确切|确定|著)?的?"
    r"(?:变化|改变|增大|缩小|进展|增多|减少|差异|增厚(?=$))"
)
_ZH_FIRST: list[tuple[str, str]] = [
    (
        "skip",
        r"体积(?:明显|略有?|稍|轻度)?(?:缩小|减小|增大)|(?:皮下|胸壁|纵隔)[^，,。；;]{0,4}积气"
        r"|(?<!腔)内(?:可?[见有])?(?:[少微]量|少许)(?:积气|气体|气泡)",
    ),
    (
        "skip",
        r"(?:并非|不是)(?:无|没有|未见|不存在)|无症状|无痛|无创|(?:未见|无)[^，,。；;]{0,2}强化",
    ),
    (
        "skip",
        r"结节病|结节状增厚|(?:皮下|胸壁)[^，,。；;肺影]{0,8}(?:结节|肿块|气肿)|(?:纵隔"
        r"|软组织)(?:少量|积?)?气肿",
    ),
    ("skip", r"(?:腹腔|盆腔|关节腔?|鼻窦|声带)[^，,。；;]{0,4}(?:积液|结节)|气肿泡"),
    (
        "doubt",
        r"(?:不|未)(?:能|可|予)?(?:完全)?(?:除外|排除)(?:有|存在)?|(?:难以"
        r"|无法)(?:完全)?(?:除外|排除)"
        r"|不能(?:认为|说)(?:无|没有)|待[排查]|考虑|疑似|可疑|怀疑|疑(?=似|为|有|诊)|倾向于?"
        r"|可能(?:为|是|系|存在|有)?|似(?:见|有|呈|为)|(?:相|待)?鉴别(?=\s*(?:$|[，,]))",
    ),
    # Against the prior.
    ("smaller", lexicon.ZH_NOT_ALL),
    ("skip", rf"{lexicon.ZH_NOT_GONE}|{lexicon.ZH_THEN}"),
    ("smaller", r"(?:现|目前|本次|此次)?仅(?:残?[余剩留存]|残)(?=[^，,]{0,4}[少微])"),
    (
        "denial",
        r"(?:较(?![大小])[^，,。；;无未]{0,8})?(?:现?已(?:完全|基本)?|现|完全|基本)(?:吸收"
        r"|消失|消散|复张)"
        r"|消失|(?:较前|已)闭合|已复张|(?<=[液影])吸收(?=\s*(?:$|[，,]))"
        r"|(?:本次|此次|今次?|现)?未(?:见|显示|再(?:显示|见到?|出现))(?:明确|明显)?(?:显示)?"
        r"(?=\s*(?:$|[，,]))",
    ),
    (
        "stable",
        rf"{_ZH_STABLE}|无著变|未变(?!化?[，,]?但)|相仿|大?致?[同如]前(?!片)|稳定|变化不(?:大|明显|著)|无变化",
    ),
    ("new", r"(?:较前)?新(?:发|出现|增|见|近出现)"),
    (
        "smaller",
        r"较(?![大小厚])[^，,。；;无未]{1,20}?(?:缩小|减少|减小|变小|吸收|好转|减轻|改善|缓解"
        r"|变淡)(?:减少|好转)?"
        r"|(?:大?部分|大部|明显|逐渐|有所)(?:已)?(?:吸收|消散|消失)|吸收好转|(?:明显|略有?)(?:缩小|减少)"
        rf"|[缩减降变](?:小|少)?[至为到](?=[^，,。；;]{{0,3}}[\d少])|{_OF_FINDING}(?:缩小|减少|减小|好转|减轻|变淡)",
    ),
    (
        "larger",
        r"较(?![大小厚])[^，,。；;无未]{1,20}?(?:增大|增多|扩大|进展|加重)|增(?:大|加|多)?[至为到]"
        rf"|(?:明显|略有?)增大|{_OF_FINDING}(?:增多|增大|增加|扩大|进展|加重)",
    ),
    # Other organs.
    ("thyroid-nodule", rf"{_SIDE}甲状腺{_IN}{{0,12}}?(?:结节|肿块|肿物)"),
    ("adrenal-nodule", rf"{_SIDE}肾上腺{_IN}{{0,8}}?(?:结节|肿块|腺瘤|增粗)"),
    ("breast-nodule", rf"{_SIDE}乳(?:腺|房)?{_IN}{{0,8}}?(?:结节(?!状)|肿块|肿物)"),
    ("skip", rf"{_SIDE}乳(?:腺|房)?{_IN}{{0,8}}?钙化灶?"),
    ("liver-cyst", rf"肝(?!门){_IN}{{0,10}}?囊肿"),
    # What a dark spot is taken for stands clauses behind it: "边界清，考虑囊肿".
    ("liver-cyst", rf"肝(?!门){_IN}{{0,10}}?低密度[灶影](?=[^。；;肾]{{0,30}}?囊肿)"),
    ("liver-lesion", rf"肝(?!门){_IN}{{0,10}}?(?:结节|肿块|低密度[灶影]|占位|血管瘤)"),
    (
        "kidney-cyst",
        rf"{_SIDE}肾(?!上腺){_IN}{{0,8}}?(?:囊肿|囊性灶(?=[^。；;肝]{{0,30}}?囊肿)"
        rf"|低密度[灶影](?=[^。；;肝]{{0,30}}?囊肿))",
    ),
    (
        "skip",
        rf"(?:脾|胰|肾(?!上腺)|胆)脏?{_IN}{{0,8}}?(?:结节|肿块|钙化灶?)|肝{_IN}{{0,8}}?钙化灶?",
    ),
    # Heart, mediastinum, bones.
    ("side", r"(?:右|左|双|两)侧?(?=[^，,。；;肺]{0,4}胸膜(?!腔|下))"),
    (
        "pleural-thickening",
        r"胸膜[^，,。；;腔下]{0,8}(?:增厚|肥厚|[稍略]厚)(?:[、及]?粘连)?"
        r"(?:[伴并及和、][^，,。；;肺]{0,6}?钙化灶?)?|胸膜粘连",
    ),
    (
        "coronary-calcification+aortic-calcification",
        r"(?:主动脉(?:弓|壁)?(?:[及与和、])冠(?:状动)?脉|冠(?:状动)?脉(?:[及与和、])主动脉)"
        r"(?:粥样)?(?:硬化[，,])?[^，,。；;]{0,8}?钙化(?:斑块?|灶)?",
    ),
    ("coronary-calcification", r"冠(?:状动)?脉[^，,。；;]{0,10}?钙化(?:斑块?|灶)?"),
    ("aortic-calcification", r"主动脉(?!瓣)[^，,。；;]{0,8}?钙化(?:斑块?|灶)?"),
    (
        "skip",
        r"(?:动脉|支气管|气管|淋巴结|瓣膜?|胸膜|气道)[^，,。；;肺]{0,6}钙化灶?"
        r"|钙化性?(?:淋巴结?|斑块?)",
    ),
    (
        "no cardiomegaly",
        r"心(?:影|脏)(?:外形)?(?:各房室|大小|形态|、|及)*(?:不大|(?:未见|无)(?:明显)?(?:增大|扩大"
        r"|异常)|正常)",
    ),
    (
        "cardiomegaly",
        r"心(?:影|脏|脏影)[^，,。；;肺]{0,4}?(?:增大|扩大)|心影?[稍略]大|心影[稍略]?饱满",
    ),
    ("hiatal-hernia", r"(?:食管|食道)?裂孔疝"),
    (
        "lymphadenopathy",
        r"淋巴结(?:未见|无)?[^，,。；;肺]{0,4}?(?:肿大|增大)|(?:肿大"
        r"|增大)的?(?:稍大)?淋巴结(?:影)?"
        r"|淋巴结(?=[，,]?(?:较?大[者]?|最大者?)?约?短径|(?:较前)?[^，,。；;肺无未不]{0,4}(?:增大|缩小|增多|稍大))",
    ),
    ("no lymphadenopathy", r"淋巴结(?:均|亦)?不大"),
    ("no lymphadenopathy", r"(?:未见|无)(?:明显|确切)?肿大(?=\s*(?:$|[，,]))"),
    (
        "rib-lesion",
        rf"{_SIDE}(?:第[\d、,-]+)?肋骨?{_IN}{{0,4}}?(?:骨质(?:破坏|吸收)|转移|病变|占位)",
    ),
    ("bone", r"骨质破坏"),
    ("fracture", r"骨折"),
    (
        "both_pericardial",
        r"胸膜?腔(?:及|和|、|与|或)心包(?:腔)?内?(?:未见|无)?[^，,。；;]{0,4}?积液",
    ),
    ("both_pericardial", r"(?<=胸腔)[及和、与或]心包(?:腔)?内?(?:未见|无)?[^，,。；;]{0,4}?积液"),
    (
        "no pericardial-effusion",
        r"心包(?:腔)?内?(?=[及和、与][^，,。；;]{0,4}胸[^，,。；;]{0,3}(?:未见|无))",
    ),
    ("pericardial-effusion", r"心包(?:腔)?内?(?=[及和、与][^，,。；;]{0,4}胸)"),
    (
        "pericardial-effusion",
        r"心包(?:腔)?内?(?:见|可见|未见|未有|没有|无|有|[亦也则仍尚另]|少量|少许|微量|大量|中等?量"
        r"|明显|弧形|带状|增厚|[及和、或])*(?:积液|(?:液[体性]|水样?)密度影?)",
    ),
    # Lungs.
    ("septal-thickening", r"(?<![房室])(?:小叶)?间隔[^，,。；;及]{0,6}?增厚|间隔线"),
    (
        "bronchial-wall-thickening",
        r"(?:支气管(?:管)?壁|(?<!动脉)(?<!血)管壁)[^，,。；;及]{0,4}?增厚|慢?性?支气管炎|慢支炎?",
    ),
    (
        "bronchiectasis",
        r"支气管(?!炎|壁|管壁)[^，,。；;及、肺]{0,6}?扩张|支扩|(?<=[及并、])扩张",
    ),
    ("atelectasis", r"(?:肺)?不张|膨胀不全|萎陷"),
    ("bulla", r"肺?大[疱泡]"),
    ("metastases", r"转移[瘤灶]"),
    ("cavity", r"空洞"),
    ("mosaic-attenuation", r"马赛克(?:样|状)?(?:密度|灌注|征)?"),
    (
        "fibrosis",
        r"纤维(?:条索|索条|化)?[状样]?(?:高?密度)?[灶影]?|(?:条索|索条)[状样]?(?:高?密度)?影?"
        r"|瘢痕灶?",
    ),
    (
        "ground-glass-opacity",
        r"(?:混合)?(?:[磨毛]玻璃[样状]?(?:高?密度)?(?:增高)?(?:斑片状?)?[影灶]"
        r"|GGO(?!结节))(?!结节)",
    ),
    (
        "opacity",
        r"(?:(?:斑片|片|片絮|絮|斑点|条片)状?[^，,。；;、实结磨毛索纤钙]{0,6}?影"
        r"|高密度影|渗出性?(?:病[变灶]|[灶影])?)(?!结节)|斑片状?(?=[、及和][^，,。；;实结磨毛]{0,8}影)",
    ),
    ("part-solid", r"密度混杂"),
    ("calcification", r"(?:斑?点状)?钙化(?:灶|点|斑)|(?:斑点|点)状钙化"),
    # What "未见" calls nothing; kept where a lung or the chest is spoken of and it is denied.
    ("no abnormality", r"(?<=肺)内?清[晰楚]|(?<=肺[野叶内])清[晰楚]|(?<=肺)正常(?=\s*(?:$|[，,]))"),
    ("abnormality", r"异常(?!密度|强化|信号|增|扩)|(?:实质性|活动性|器质性)?病变"),
    # Places: the lobe and its segments are put together in `statements`.
    ("segment", rf"{ZH_SEGMENT}|{CODE}"),
    (
        "lobe",
        rf"(?:右|左|双|两)侧?(?:肺{_LEVELS}(?:肺?叶|肺野|野)|{_LEVELS}(?:肺叶"
        rf"|肺野|肺|叶))",
    ),
    ("tip", r"(?:右|左|双|两)侧?肺(?:尖(?!后?段)|底)"),
    ("side", r"(?:右|左|双)侧?肺门(?=区?[^，,。；;淋]{0,10}(?:肿块|结节|占位|肿物))"),
    ("side", r"(?:右|左)肺?(?=\s?[SB](?:10|[1-9]))"),
    ("side", r"左侧?(?=舌叶)"),
    ("side", r"(?:右|左)肺(?=[尖后前外内背上下]{1,2}(?:舌|侧|内)?(?:基底)?段)"),
    ("bare", r"(?<![上中下])[上中下]叶"),
    (
        "organ",
        r"(?:[右左双两]侧?)?(?:甲状腺(?:[右左双两]侧?叶|峡部)?|肾上腺|乳腺|肝脏?(?:[右左]叶)?)",
    ),
]
_EN_SIDE = lexicon.EN_SIDE
_EN_ORGAN = r"(?P<organ>thyroid|adrenal|hepatic|liver|breast)"
_EN_FIRST: list[tuple[str, str]] = [
    ("skip", rf"{lexicon.EN_UNTRUE}|{lexicon.EN_NOT_GONE}|\b(?:none|non|not)[\s-]*calcified\b"),
    ("no nodule", r"\bnodule[\s-]free\b"),
    (
        "skip",
        r"\bnot\s+(?:absent|without|free\s+of)\b|\bmass effect|\b(?:subcutaneous|mediastinal"
        r"|surgical|"
        r"soft[- ]tissue)\s+emphysema|\bjoint\s+(?:effusions?|fluid)",
    ),
    (
        "doubt",
        r"\babsence\s+of(?=[^.;]{0,80}\bcannot\s+be\s+(?:confirmed|established|assured))"
        r"|\b(?:difficult|hard|(?:im|not\s+)possible|unable)\s+to\s+(?:exclude|rule\s+out)\b"
        r"|\b(?:cannot|can\s?not|could\s+not|not)\s+(?:be\s+)?(?:\w+\s+)?(?:exclude|excluded"
        r"|rule\s+out|ruled\s+out)\b"
        r"|\b(?:possib(?:le|ly|ility\s+of)|probabl[ey]|likely|questionable|equivocal|suspected"
        r"|presumed"
        r"|susp(?:icious|icion)\s+(?:for|of)|concerning\s+for|suggest(?:s|ed|ing|ive)?(?:\s+of)?"
        r"|(?:may|might|could)\s+(?:represent|be|reflect|indicate)|versus|vs\.?)(?!\w)",
    ),
    # Against the prior.
    ("negation", r"\bno\s+longer(?=\s+(?:a|an|any)\b)"),
    (
        "stable",
        r"\b(?:no|without)\s+(?:\w+\s+){0,2}?(?:change|growth|increase|enlargement"
        r"|progression)\b(?:\s+in\b)?"
        r"|\bunchanged\b|\bstable\b|\bnot\s+(?:significantly\s+)?changed\b"
        r"|\bsimilar\s+to\s+(?:the\s+)?prior\b|\bnot\s+(?:\w+\s+)?(?:larger|smaller|bigger|increased"
        r"|grown|enlarged|worse)\b",
    ),
    ("new", r"\bnew(?:ly)?\b(?:\s+(?:or|and)\s+enlarging)?"),
    (
        "larger",
        r"\b(?:increas(?:e|ed|ing)|grown|growing|growth|enlarging|larger|progress(?:ed|ion)"
        r"|worsen(?:ed|ing))\b"
        r"(?!\s+(?:attenuation|density|opacit\w+|markings|lucency|than))",
    ),
    (
        "smaller",
        r"\b(?:decreas(?:e|ed|ing)|smaller|shrunk|improv(?:ed|ing|ement)|diminished"
        r"|regressed|shrinking)\b(?!\s+than)"
        rf"|{lexicon.EN_PARTLY}",
    ),
    ("larger", r"\binterval\s+enlargement\b"),
    ("new", r"\binterval\s+development\s+of\b"),
    ("larger", r"\bworse\b(?!\s+on\b)|\bmore\s+(?:extensive|prominent|conspicuous)\b"),
    ("smaller", r"\bless\s+(?:extensive|prominent|conspicuous)\b"),
    # Other organs.
    (
        "organ-nodule",
        rf"\b(?:(?:right|left|bilateral)\s+)?{_EN_ORGAN}(?:\s+(?:gland"
        rf"|lobe))?\s+(?:\w+\s+)?(?:nodul\w+|mass(?:es)?|lesions?)"
        rf"|\b(?:nodules?|mass(?:es)?|lesions?)\s+(?:is\s+seen\s+|are\s+seen\s+)?(?:in"
        rf"|of)\s+the\s+(?:right\s+|left\s+)?"
        rf"{_EN_ORGAN.replace('organ', 'organ2')}(?:\s+(?:gland|lobe))?",
    ),
    ("liver-cyst", r"\b(?:hepatic|liver)\s+(?:\w+\s+)?cysts?\b|\bcysts?\s+in\s+the\s+liver\b"),
    (
        "kidney-cyst",
        r"\b(?:(?:right|left|bilateral)\s+)?(?:renal|kidney)\s+(?:\w+\s+)?cysts?\b"
        r"|\bcysts?\s+in\s+the\s+(?:\w+\s+)?kidneys?\b",
    ),
    (
        "skip",
        r"\b(?:splenic|renal|kidney|mediastinal|soft[- ]tissue)\s+(?:\w+\s+)?(?:nodul\w+"
        r"|mass(?:es)?)",
    ),
    # Heart, mediastinum, bones.
    (
        "coronary-calcification+aortic-calcification",
        r"\b(?:coronary(?:\s+arter\w+)?\s+and\s+aortic"
        r"|aortic\s+and\s+coronary(?:\s+arter\w+)?)\s+(?:\w+\s+)?calcif\w+",
    ),
    (
        "coronary-calcification",
        r"\bcoronary\s+(?:\w+\s+){0,2}?calcif\w+|\bcalcified\s+coronar\w+(?:\s+arter\w+)?",
    ),
    (
        "coronary-calcification",
        r"\bcalcif\w+\s+(?:of|in|along|within)\s+(?:the\s+)?(?:\w+\s+)?coronar(?:y(?:\s+arter\w+)?|ies)",
    ),
    (
        "aortic-calcification",
        r"\b(?:aort\w+)\s+(?:\w+\s+){0,2}?calcif\w+"
        r"|\bcalcif\w+\s+(?:\w+\s+){0,2}?(?:of\s+the\s+)?(?:\w+\s+)?aort\w+",
    ),
    (
        "skip",
        r"\b(?:vascular|valv\w+|pleural|nodal)\s+(?:\w+\s+){0,2}?calcif\w+"
        r"|\bcalcified\s+(?:\w+\s+)?(?:lymph\s+nodes?|plaques?|pleural|hilar|mediastinal)",
    ),
    (
        "no cardiomegaly",
        r"\b(?:heart|cardiac)(?:\s+(?:size|silhouette|\w+))?(?:\s*[:\-])?\s+(?:is\s+|are\s+)?"
        r"(?:(?:top|upper|within|high)[\s-]+(?:limits?\s+of\s+)?)?(?:normal(?:\s+in\s+size)?"
        r"|not\s+enlarged)\b|\bnormal\s+(?:heart|cardiac)\s+size\b",
    ),
    (
        "cardiomegaly",
        r"\bcardiomegaly\b|\bheart\s*:\s*(?:\w+\s+)?enlarged\b|\b(?:heart|cardiac)\s+(?:\w+\s+)?(?:is\s+)?(?:\w+\s+)?enlarge(?:d"
        r"|ment)\b|\benlarged\s+(?:heart|cardiac)\b",
    ),
    ("hiatal-hernia", r"\bhiat(?:al|us)\s+hernia\b"),
    ("skip", r"\bintrapulmonary\s+lymph\s+nodes?"),
    (
        "no lymphadenopathy",
        r"\blymph\s+nodes?\s+(?:are|is)\s+(?:not\s+(?:\w+\s+)?enlarged|normal|within\s+normal)",
    ),
    (
        "lymphadenopathy",
        r"\b(?:lymph)?adenopathy\b|\blymph\s+nodes?\b|\bnodes?\b(?=\s*,?\s*(?:measuring|\d))"
        r"|\benlarged\s+(?:\w+\s+){0,2}nodes?\b",
    ),
    (
        "rib-lesion",
        r"\b(?:lytic|sclerotic|destructive)\s+(?:rib\s+)?lesions?\s+(?:of"
        r"|in)\s+the\s+(?:\w+\s+){0,2}ribs?\b|\bdestruction\s+of\s+(?:the\s+)?(?:\w+\s+){0,3}ribs?\b"
        r"|\brib\s+(?:lesions?|destruction|metastas\w+)",
    ),
    ("fracture", r"\bfractur(?:e|es|ed)\b"),
    (
        "both_pericardial",
        r"\bpleural\s*(?:,|or|and|and/or|nor)\s+pericardial\s+(?:effusions?|fluid)"
        r"|\bpericardial\s*(?:,|or|and|and/or)\s+pleural\s+(?:effusions?|fluid)",
    ),
    ("pericardial-effusion", r"\bpericardial\s+(?:effusions?|fluid)"),
    ("effusion", r"(?<=trace )fluid\b|(?<=small )fluid\b"),
    (
        "pleural-thickening",
        r"\bpleural(?:\s+and\s+\w+)?\s+thickening\b"
        r"|\bthickening\s+of\s+the\s+(?:\w+\s+)?pleura\b",
    ),
    # Lungs.
    (
        "septal-thickening",
        r"\b(?:inter\w+\s+)?septal\s+thickening\b|\bthickened\s+(?:interlobular\s+)?sept\w+",
    ),
    (
        "bronchial-wall-thickening",
        r"\b(?:peri)?bronchial(?:\s+wall)?\s+thickening\b|\bairway\s+wall\s+thickening\b"
        r"|\bbronchitis\b",
    ),
    ("bronchiectasis", r"\bbronchiecta\w+"),
    (
        "atelectasis",
        r"\batelecta\w+"
        r"|(?<!vertebral )(?<!body )\bcollapse\b"
        r"(?!\s+of\s+(?:\w+\s+){0,3}(?:vertebra|T\d|L\d|body))"
        r"|\bcollapsed\b(?=\s+(?:\w+\s+){0,2}(?:lobe|lung|segment|RUL|RML|RLL|LUL|LLL))",
    ),
    ("bulla", r"\bbull(?:a|ae|ous)\b"),
    ("cavity", r"\bcavit(?:y|ies|ary\s+lesions?|ations?)\b"),
    ("mosaic-attenuation", r"\bmosaic\s+(?:attenuation|perfusion|pattern)\b"),
    ("fibrosis", r"\bfibro(?:sis|tic)\b(?:\s+(?:change|band|strand)s?)?|\bscar(?:s|ring)?\b"),
    (
        "ground-glass-opacity",
        r"(?<!nodule with )(?<!nodules with )"
        r"\bground[\s-]?glass\s+(?:opacit\w+|attenuation|change\w*|infiltrat\w+)"
        r"|\bground[\s-]?glass\b(?=\s+(?:in|within|throughout)\b)|\bGGOs?\b(?!\s+nodul)",
    ),
    ("opacity", r"(?<!nodular )\b(?:opacit(?:y|ies)|infiltrates?|airspace\s+disease)\b"),
    ("calcification", r"\bcalcifications?\b|\bcalcified\s+foc\w+"),
    (
        "no abnormality",
        r"(?:(?<=lungs:)|(?<=lung:)|(?<=lobe:))\s*(?:are\s+|is\s+)?(?:clear|normal|unremarkable)\b"
        r"|(?<=lungs )(?:(?:fields?\s+)?(?:are|is)\s+|appear\s+)?(?:otherwise\s+)?(?:clear"
        r"|normal|unremarkable)\b|(?<=lung )(?:is\s+)?(?:otherwise\s+)?(?:clear|normal"
        r"|unremarkable)\b|\bclear(?=\s+lungs\b)|\bnormal\s+(?:chest|CT|thora)\w*",
    ),
    ("abnormality", r"\babnormalit(?:y|ies)\b"),
    # Places.
    ("side", r"\b(?:minor|horizontal)\s+fissure\b"),
    ("hilum", r"\b(?:right|left)\s+(?:peri)?hil(?:um|ar)\b"),
    ("lungs", r"(?<=clear )lungs\b"),
    ("side", r"\blungs\b(?=\s*:?\s*(?:are|appear|remain|otherwise|clear|normal|unremarkable)\b)"),
    ("bases", r"\b(?:(?:both|bilateral)\s+)?(?:lung\s+)?(?:bases|apices)\b"),
    ("predominant", r"\b(?:upper|middle|lower)[\s-]+lobes?[\s-]+predominan(?:t|ce)\b"),
    ("segment", rf"{EN_SEGMENT}|(?-i:{CODE})"),
]
_SKIP_KEPT = ("右叶|左叶", r"\b(?:right|left)\s+(?:heart")
_PARTS = ("skip", "lobe", "tip", "bare", "effusion_also")


def _rules(
    first: list[tuple[str, str]], base: list[tuple[str, str]], *, zh: bool
) -> list[tuple[str, str]]:
    """`first`, then what is left of the narrow rules: their guards against other organs' sides."""
    replaced = _PARTS if zh else ("skip", "effusion_also")
    kept = [
        (name, rule)
        for name, rule in base
        if name not in replaced or (name == "skip" and rule.startswith(_SKIP_KEPT))
    ]
    return first + kept


def _compile(rules: list[tuple[str, str]]) -> tuple[re.Pattern[str], list[str]]:
    """One expression; group g<i> is rule i."""
    whole = "|".join(f"(?P<g{i}>{rule})" for i, (_, rule) in enumerate(rules))
    return re.compile(whole, re.IGNORECASE), [name for name, _ in rules]


RULES: dict[Language, tuple[re.Pattern[str], list[str]]] = {
    "zh": _compile(_rules(_ZH_FIRST, lexicon.ZH, zh=True)),
    "en": _compile(_rules(_EN_FIRST, lexicon.EN, zh=False)),
}
