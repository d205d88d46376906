"""The English words that are read, as rules in order: what must not be misread comes first.

Each rule is its name and a pattern; `tokens` says what a name becomes.
"""

from __future__ import annotations

from ctscribe.reports.lexicon import EN_LEVEL, EN_SIDE, SIZE
from ctscribe.reports.segments import CODE, EN_SEGMENT

# "It would be wrong to say there is no effusion" asserts one.
_UNTRUE = (
    r"\b(?:not\s+(?:the\s+case|true|correct)|wrong|incorrect|false)\s+(?:that|to\s+(?:say|state))\b"
    r"[^.;:,]{0,24}?\b(?:no|without|\w+[\s-]free)\b"
)
_PARTLY = (  # still there
    r"\b(?:near(?:ly)?|almost|partial(?:ly)?|partly|largely|mostly)[\s-]+(?:complete(?:ly)?\s+)?"
    r"(?:resol(?:ved|ution)|clear(?:ed|ing|ance))\b"
    r"|\b(?:not\s+(?:yet\s+)?(?:fully|completely|entirely|totally)|incompletely)\s+"
    r"(?:resolved|cleared)\b|\bincomplete\s+(?:resolution|clear(?:ing|ance))\b"
)
_NOT_GONE = r"\b(?:not|never)\s+(?:yet\s+|significantly\s+)?(?:resolved|cleared)\b"
_PRIOR = r"(?:before|prior|previous(?:ly)?|earlier|last|old)"
_ORGAN = r"(?P<organ>thyroid|adrenal|hepatic|liver|breast)"
_DARK = (
    r"\b(?:hypodensit(?:y|ies)|(?:low[\s-]density|hypodense|hypoattenuating)\s+"
    r"(?:foc(?:us|i)|lesions?|areas?|shadows?|nodules?))(?:\s+(?:is|are)\s+\w+)?"
)
_LIVER = r"(?:(?:right|left)\s+lobe\s+of\s+the\s+)?liver"
# The body's own cavities.
_NO_BODY = "".join(
    rf"(?<!{organ} )"
    for organ in (
        *("pleural", "thoracic", "chest", "abdominal", "pericardial", "peritoneal", "medullary"),
        *("marrow", "nasal", "oral", "pelvic"),
    )
)
# "larger than on the previous CT" is a change, "larger than the left one" none.
_THAN = (
    r"(?!\s+than\b(?!\s+(?:(?:on|in|at)\s+)?(?:the\s+)?(?:before|previous\w*"
    r"|prior|last|earlier|\d)))"
)
EN: list[tuple[str, str]] = [
    ("skip", rf"{_UNTRUE}|{_NOT_GONE}|\b(?:none|non|not)[\s-]*calcified\b"),
    # "right greater than left": no place of its own.
    (
        "skip",
        r"\b(?:right|left)(?:\s+(?:side|lung))?\s*(?:>|<|(?:greater|larger|more|worse|less|smaller)"
        r"(?:\s+\w+)?\s+than)\s*(?:on\s+)?(?:the\s+)?(?:right|left)\b"
        r"|\b(?:worse|greater|more(?:\s+(?:prominent|marked|pronounced|severe))?)\s+(?:on|in|at)\s+(?:the\s+)?"
        r"(?:(?:right|left)(?:\s+(?:side|lung))?|(?:upper|lower|middle|dependent)\s+(?:lobes?|lungs?|zones?)"
        r"|(?:lung\s+)?(?:bases|apices)|periphery)\b",
    ),
    (
        "skip",
        r"\b(?:osseous|bony|skeletal|vascular|cardiac|mediastinal|abdominal|esophageal|chest\s+wall"
        r"|valvular|soft[- ]tissue)\s+abnormalit\w+",
    ),
    ("skip", r"\bwith\s+(?:an?\s+)?(?:\w+\s+)?soft[- ]tissue\s+mass(?:es)?\b"),
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
        r"|\b(?:is|are)\s+suspected\b|\b(?:possib(?:le|ly|ility\s+of)|probabl[ey]|likely|questionable|query|equivocal|suspect(?:ed)?"
        r"|presumed|doubtful|suspicious(?=\s+(?:\w+\s+)?(?:fracture|pneumothora|effusion))"
        r"|susp(?:icious|icion)\s+(?:for|of)|concerning\s+for|suggest(?:s|ed|ing|ive)?(?:\s+of)?"
        r"|(?:may|might|could)\s+(?:represent|be|reflect|indicate)|versus|vs\.?)(?!\w)",
    ),
    # Against the prior.
    (
        "negation",
        r"\bno\s+longer(?=\s+(?:a|an|any)\b)|^\W*(?:interval(?:ly)?\s+)?resolved(?=\s+[a-z])",
    ),
    (
        "stable",
        r"\b(?:no|nil|without)\s+(?:(?!nodes?\b|nodal\b)\w+\s+){0,2}?(?:change|growth|increase|enlargement"
        r"|progression)\b(?:\s+in\b)?"
        r"|\bun(?:changed|altered)\b|\bstable\b|\bnot\s+(?:\w+\s+)?(?:changed|altered)\b"
        r"|\blittle\s+(?:changed?|altered)\b|\bno\s+(?:\w+\s+)?alteration\b"
        r"|\bsimilar\s+(?:in\s+\w+\s+)?(?:to|as|with)\s+(?:the\s+|that\s+)?(?:(?:on|in)\s+(?:the\s+)?)?"
        rf"{_PRIOR}\b|\bthe\s+same(?=\s*(?:$|[.,;]|as\b|size\b))|\bsame\s+(?:in\s+)?size\b"
        rf"|\b(?:same|identical)\s+(?:as|like|to|with)\s+(?:(?:on|in)\s+)?(?:the\s+)?{_PRIOR}\b"
        rf"|\bas\s+(?:before|previously|on\s+(?:the\s+)?{_PRIOR})\b(?!\s+(?:describ|not|men|rep|see|sta|ident|dem)\w+)"
        r"|\bnot\s+(?:\w+\s+)?(?:larger|smaller|bigger|increased"
        r"|grown|enlarged|worse)\b",
    ),
    ("new", r"\bnew(?:ly)?\b(?:\s+(?:or|and)\s+enlarging)?"),
    (
        "larger",
        r"\b(?:increas(?:e|ed|ing)|(?<=has )enlarged|(?<=have )enlarged|grown|growing"
        r"|growth|enlarging|progress(?:ed|ion)"
        r"|(?:(?<!the )larger|bigger)(?!\s+(?:ones?|of)\b)|worsen(?:ed|ing))\b"
        rf"(?!\s+(?:attenuation|density|opacit\w+|markings|lucency)){_THAN}",
    ),
    (
        "smaller",
        r"\b(?:decreas(?:e|ed|ing)|smaller|shrunk|improv(?:ed|ing|ement)|diminished"
        rf"|regressed|shrinking|less(?=\s+than\s+(?!\d))"
        rf"|(?<=became )less|(?<=become )less"
        rf"|reduced(?!\s+(?:lung|volume|attenuation|density)))\b{_THAN}|{_PARTLY}"
        r"|(?<!volume )\breduction\b(?=\s+(?:in|since|from|of|compared))",
    ),
    (
        "smaller",
        r"\b(?:partial(?:ly)?|partly|mostly|obviously|significantly|markedly|slightly|gradually)\s+absorbed\b"
        r"|\babsorption\s+of\b",
    ),
    (
        "denial",
        r"\b(?:has|have|had|is|are|was|were)\s+(?:now\s+)?(?:been\s+)?(?:(?:completely|basically|fully|totally)\s+)?"
        r"(?:absorbed|disappeared|vanished|gone|re-?expanded)\b|\b(?:completely|basically|fully)\s+absorbed\b|\bdisappeared\b",
    ),
    ("larger", r"\binterval\s+enlargement\b"),
    ("new", r"\binterval\s+(?:development|appearance)\s+of\b"),
    ("larger", r"\bmore\s+than\s+(?:before|previous\w*)\b"),
    ("smaller", r"\bless\s+than\s+(?:before|previous\w*)\b"),
    ("stable", r"\bsame\s+as\s+(?:before|previous\w*|(?:the\s+|on\s+)*(?:prior|last))\b"),
    ("larger", r"\bworse\b(?!\s+on\b)|\bmore\s+(?:extensive|prominent|conspicuous)\b"),
    ("smaller", r"\bless\s+(?:extensive|prominent|conspicuous)\b"),
    (
        "new",
        r"\bnot\s+(?:seen|present|visible|identified|noted)\s+(?:previously|before"
        r"|(?:on|in|at)\s+(?:the\s+)?(?:prior|previous|earlier|last)(?:\s+(?:\w+\s+)?(?:CT|study|exam\w*|scan|imaging))?)\b",
    ),
    # Other organs.
    (
        "organ-nodule",
        rf"\b(?:(?:right|left|bilateral)\s+)?{_ORGAN}(?:\s+(?:gland"
        rf"|lobe))?\s+(?:\w+\s+)?(?:nodul\w+|mass(?:es)?|lesions?|adenomas?)"
        rf"|\b(?:nodules?|mass(?:es)?|lesions?)\s+(?:(?:is|are)\s+(?:seen|present|noted|identified)\s+)?(?:in"
        rf"|of)\s+(?:(?:the|both)\s+)?(?:(?:right|left)\s+)?(?:lobes?\s+of\s+(?:the\s+)?)?"
        rf"{_ORGAN.replace('organ', 'organ2')}(?:\s+(?:gland|lobe))?",
    ),
    (
        "organ",
        r"\b(?:thyroid(?:\s+gland)?|adrenals?(?:\s+glands?)?|liver|kidneys?|breasts?)(?=\s*:)"
        r"|\b(?:(?:right|left)\s+)?(?:thyroid|adrenals?|breasts?|liver|kidneys?)(?:\s+(?:glands?|lobe))?"
        r"(?=\s+(?:is|are|shows?|has|contains|demonstrates)\b)",
    ),
    (
        "liver-cyst+kidney-cyst",
        r"\bcysts?\s+(?:(?:is|are)\s+)?(?:(?:seen|noted|present)\s+)?(?:in|of)\s+(?:(?:the|both)\s+)?"
        r"(?:liver\s+and\s+(?:\w+\s+){0,2}kidneys?|(?:\w+\s+)?kidneys?\s+and\s+(?:the\s+)?liver)\b",
    ),
    ("liver-cyst", rf"{_DARK}\s+in\s+the\s+{_LIVER}\b(?=[^.;]{{0,40}}\bcysts?\b)"),
    ("kidney-cyst", rf"{_DARK}\s+in\s+the\s+(?:\w+\s+)?kidneys?\b(?=[^.;]{{0,40}}\bcysts?\b)"),
    ("thyroid-nodule", r"\bthyroid(?:\s+\w+)?\s+with\s+(?:\w+\s+){0,2}nodul\w+"),
    ("liver-lesion", rf"(?!\bhypodensit){_DARK}\s+in\s+the\s+{_LIVER}\b"),
    (
        "liver-cyst",
        r"\b(?:hepatic|liver)\s+(?:\w+\s+)?cysts?\b|\bcysts?\s+(?:(?:is|are)\s+)?(?:(?:seen|noted|present)\s+)?(?:in|of)\s+(?:the\s+)?(?:\w+\s+lobe\s+of\s+the\s+)?liver\b",
    ),
    (
        "kidney-cyst",
        r"\bcysts?\s+(?:arising\s+)?(?:from|in|of|at)\s+(?:the\s+)?(?:\w+\s+)?pole\s+of\s+(?:the\s+)?(?:\w+\s+)?kidneys?\b"
        r"|\b(?:(?:right|left|bilateral)\s+)?(?:renal|kidney)\s+(?:\w+\s+)?cysts?\b"
        r"|\bcysts?\s+(?:(?:is|are)\s+)?(?:(?:seen|noted|present)\s+)?(?:in|of)\s+(?:(?:the|both)\s+)?(?:\w+\s+)?kidneys?\b",
    ),
    (
        "skip",
        r"\b(?:splenic|renal|kidney|mediastinal|subcutaneous|(?:chest|abdominal)\s+wall)\s+(?:\w+\s+){0,2}(?:nodul\w+"
        r"|mass(?:es)?)",
    ),
    # Heart, mediastinum, bones.
    (
        "coronary-calcification+aortic-calcification",
        r"\b(?:coronary(?:\s+arter\w+)?\s+and\s+(?:thoracic\s+)?aortic"
        r"|aortic\s+and\s+coronary(?:\s+arter\w+)?)\s+(?:\w+\s+)?calcif\w+"
        r"|\bcalcif\w+\s+(?:of|in|along|within)\s+(?:the\s+)?(?:coronar\w+(?:\s+arter\w+)?(?:,|,?\s+and)"
        r"\s+(?:the\s+)?(?:\w+\s+)?aort\w+|(?:\w+\s+)?aort\w+(?:\s+(?:arch|wall))?(?:,|,?\s+and)\s+"
        r"(?:the\s+)?coronar\w+(?:\s+arter\w+)?)",
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
        r"|\baorta\b(?:\s+(?!coronary|valv|no\b|without)\w+){0,8}?\s+calcif\w+"
        r"|\bcalcif\w+\s+(?:\w+\s+){0,2}?(?:of\s+the\s+)?(?:\w+\s+)?aort\w+",
    ),
    (
        "skip",
        r"\b(?:vascular|valv\w+|pleural|nodal)\s+(?:\w+\s+){0,2}?calcif\w+"
        r"|\bcalcified\s+(?:\w+\s+){0,3}lymph\s+nodes?|\bcalcified\s+(?:\w+\s+)?(?:lymph\s+nodes?|plaques?|pleural|hilar|mediastinal)",
    ),
    (
        "no cardiomegaly",
        r"\b(?:heart|cardiac)(?:\s+(?:size|silhouette|\w+))?(?:\s*[:\-])?\s+(?:is\s+|are\s+)?"
        r"(?:(?:top|upper|within|high)[\s-]+(?:limits?\s+of\s+)?)?(?:normal(?:\s+in\s+size)?"
        r"|not\s+(?:enlarged|large|big|increased))\b|\bnormal\s+(?:heart|cardiac)\s+size\b",
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
        r"\b(?:(?:mediastinal|hilar|axillary|supraclavicular|paratracheal|subcarinal)\s+)?"
        r"(?:lymph\s+)?nodes?\s*,?\s+(?:(?:are|is|appear)\s+)?(?:not\s+(?:\w+\s+)?enlarged|(?:of\s+)?normal"
        r"|within\s+normal)|\b(?:(?:mediastinal|hilar|axillary)\s+)?(?:lymph\s+)?nodes?\s*[:,]?\s*(?:none|not)\s+(?:\w+\s+){0,2}enlarged\b",
    ),
    (
        "lymphadenopathy",
        r"\b(?:lymph)?adenopathy\b|\blymph\s+nodes?\b|\bnodes?\b(?=\s*,?\s*(?:measuring|\d))"
        r"|(?<=[cm]m )nodes?\b"
        r"|\benlarged\s+(?:\w+\s+){0,2}nodes?\b"
        r"|\b(?:mediastinal|hilar|axillary|supraclavicular|paratracheal|subcarinal)\s+nodes?\b",
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
    (
        "pericardial-effusion",
        r"\bpericardial\s+(?:effusions?|fluid)|\bpericardi(?:um|al\s+(?:cavity|sac|space))\s+"
        r"(?:shows?|contains?|demonstrates?|has|with)\s+(?:\w+\s+){0,4}?(?:effusion|fluid)\b"
        r"|\b(?:effusion|fluid)\s+(?:(?:is|are)\s+\w+\s+)?(?:in|within)\s+the\s+pericardi(?:um|al\s+\w+)\b",
    ),
    (
        "effusion",
        r"(?<=trace )fluid\b|(?<=small )fluid\b"
        r"|\bfluid\b(?=[^.;,]{0,30}\bpleural\s+(?:cavit|space))"
        r"|(?<=amount of )(?:free\s+)?fluid\b(?!\s+in\s+the\s+(?:peri|abd|pelv))",
    ),
    (
        "pleural-thickening",
        r"\bpleural(?:\s+and\s+\w+)?\s+thickening\b"
        r"|\bthickening(?=\s+of\s+(?:the\s+)?(?:\w+\s+)?pleura\b)|\bthickened\s+(?:\w+\s+)?pleura\b"
        r"|\bpleurae?\s+(?:(?:is|are|shows?|appears?|looks?)\s+)?(?:\w+\s+)?thicken(?:ed|ing)\b"
        r"|(?<=effusion or )thickening\b|(?<=effusions or )thickening\b",
    ),
    # Lungs.
    ("nodule+cavity", r"\bcavitary\s+(?:nodules?|mass(?:es)?)\b"),
    (
        "gg_nodule",
        r"\bnodular\s+ground[\s-]?glass\s+(?:density\s+)?(?:shadows?|opacit\w+)"
        r"|\bground[\s-]?glass\s+(?:density\s+)?nodular\s+(?:shadows?|opacit\w+|densit\w+)",
    ),
    ("nodule", r"\bnodular\s+(?:(?:high|soft|tissue|density)[\s-]+){0,3}shadows?\b"),
    ("no pleural-thickening", r"\bpleurae?\s+(?:is|are)\s+not\s+(?:\w+\s+)?thickened\b"),
    (
        "pleural-thickening",
        r"\bpleurae?\s+(?:is|are)\s+(?:\w+\s+)?thickened\b|\bthickened\s+pleurae?\b",
    ),
    (
        "septal-thickening",
        r"\b(?:inter\w+\s+)?septal\s+thickening\b|\bthickened\s+(?:interlobular\s+)?sept\w+",
    ),
    (
        "bronchial-wall-thickening",
        r"\bbronchial\s+walls?\b(?=[^.;,]{0,40}\bthickened\b)|\bthickened\s+bronchial\s+walls?\b"
        r"|\b(?:peri)?bronchial(?:\s+wall)?\s+thickening\b|\bairway\s+wall\s+thickening\b"
        r"|\bbronchitis\b",
    ),
    ("bronchiectasis", r"\bbronchiecta\w+"),
    (
        "atelectasis",
        r"\batelecta\w+"
        r"|(?<!vertebral )(?<!body )\bcollapse\b"
        r"(?!\s+of\s+(?:\w+\s+){0,3}(?:vertebra|T\d|L\d|body))"
        r"|(?<=lung is )collapsed\b|(?<=lobe is )collapsed\b"
        r"|\bcollapsed\b(?=\s+(?:\w+\s+){0,2}(?:lobe|lung|segment|RUL|RML|RLL|LUL|LLL))",
    ),
    ("bulla", r"\bbull(?:a|ae|ous)\b"),
    ("cavity", _NO_BODY + r"\bcavit(?:y|ies|ating|ary\s+lesions?|ations?)\b"),
    ("mosaic-attenuation", r"\bmosaic\s+(?:attenuation|perfusion|pattern)\b"),
    (
        "fibrosis",
        r"\bfibro(?:sis|tic)\b(?:\s+(?:change|band|strand|focus|foci|lesion|shadow|cord)s?)?"
        r"|\bscar(?:s|ring)?\b"
        r"|\b(?:(?:strip|streak|cord|line|strand)y?(?:[\s-]?like)?|linear|stripe-like)"
        r"(?=\s+(?:and|or)\s+\w+\s+shadows?\b|\s+shadows?\b)(?:\s+shadows?\b)?",
    ),
    (
        "ground-glass-opacity",
        r"(?<!nodule with )(?<!nodules with )"
        r"\bground[\s-]?glass\s+(?:(?:density\s+)?shadows?|densit(?:y|ies)(?!\s+nodul)|opacit\w+|attenuation"
        r"|change\w*|infiltrat\w+)"
        r"|\bground[\s-]?glass\b(?=\s+(?:in|within|throughout)\b)|\bGGOs?\b(?!\s+nodul)",
    ),
    (
        "opacity",
        r"(?<!nodular )\b(?:opacit(?:y|ies)|infiltrates?|airspace\s+disease)\b"
        r"|\b(?:patchy|flaky|flocculent|cloudy|hazy|spotty|punctate|(?:high|increased)[\s-]density|exudative)"
        r"(?:\s+(?:high[\s-]density|exudative))?\s+(?:shadows?|lesions?|foc(?:us|i))\b|\bexudat(?:ion|ive\s+lesion)s?\b",
    ),
    ("thickening", r"\bthickening\b"),
    ("calcification", r"\bcalcifications?\b|\bcalcified\s+foc\w+"),
    ("no abnormality", r"(?:(?<=airways:)|(?<=\b[RL][UML]L:))\s*(?:clear|normal|unremarkable)\b"),
    (
        "no abnormality",
        r"(?:(?<=lungs:)|(?<=lung:)|(?<=lobe:))\s*(?:are\s+|is\s+)?(?:clear|normal|unremarkable)\b"
        r"|(?<=lungs )(?:(?:fields?\s+)?(?:are|is)\s+|appear\s+)?(?:otherwise\s+)?(?:clear"
        r"|normal|unremarkable)\b|(?<=lung )(?:fields?\s+)?(?:is\s+|are\s+)?(?:otherwise\s+)?"
        r"(?:clear|normal|unremarkable)\b|\bclear(?=\s+lungs\b)|\bnormal\s+(?:chest|CT|thora)\w*",
    ),
    ("organ-word", r"\b(?:cysts?|lesions?)\b"),
    (
        "abnormality",
        r"\babnormalit(?:y|ies)\b|\b(?:lung|pulmonary|parenchymal)\s+lesions?\b|\babnormal\s+(?:densit(?:y|ies)|shadows?|opacit(?:y|ies))(?:\s+shadows?)?\b",
    ),
    # Places.
    ("side", r"\b(?:minor|horizontal)\s+fissure\b"),
    ("hilum", r"\b(?:right|left)\s+(?:peri)?hil(?:um|ar)\b"),
    ("lungs", r"(?<=clear )lungs\b|(?<=in the )lungs\b"),
    (
        "side",
        r"\blung(?:s|(?=\s+fields))\b(?=(?:\s*(?:/|and)\s*airways)?(?:\s+fields)?\s*:?\s*(?:are|appear|remain|(?:demonstrate|show|contain)\s+no|otherwise|clear|normal|unremarkable)\b)",
    ),
    ("bases", r"\b(?:(?:both|bilateral)\s+)?(?:lung\s+)?(?:bases|apices)\b"),
    ("predominant", r"\b(?:upper|middle|lower)[\s-]+lobes?[\s-]+predominan(?:t|ce)\b"),
    ("segment", rf"{EN_SEGMENT}|(?-i:{CODE})"),
    (
        "skip",
        r"\b(?:right|left)\s+(?:heart|ventric\w+|atri\w+|hil\w+|adrenal|kidney|renal|coronary|"
        r"main\w*|pulmonary (?:arter|vein)\w*|breast|axill\w+|rib\w*|thyroid|clavic\w+|"
        r"(?:hemi)?diaphragm\w*|subclavian|jugular|shoulder)",
    ),
    # Places.
    (
        "lobe",
        rf"\b{EN_SIDE}(?:\s+lungs?)?[\s-]+{EN_LEVEL}(?:(?:\s*[,/]\s*|\s+)(?:and\s+|or\s+)?"
        rf"(?:{EN_SIDE}\s+)?{EN_LEVEL})*[\s-]+(?:lobes?|lungs?|zones?)"
        r"(?:[\s-]predominant)?(?:\s+(?:fields?|zones?))?",
    ),
    (
        "of_lung",
        rf"\b(?:{EN_LEVEL}\s+(?:lobes?|zones?)|lingula|apex|base)\s+of\s+(?:the\s+)?{EN_SIDE}\s+lungs?",
    ),
    (
        "tip",
        r"\b(?:right|left)\s+(?:lung\s+)?(?:apex|apical|base|basal|basilar)\b|\bbi(?:apical|bas\w+)",
    ),
    ("short", r"(?-i:\b(?:RUL|RML|RLL|LUL|LLL)\b)"),
    ("lingula", r"\blingul(?:a|ar)\b"),
    ("predominant", rf"\b{EN_LEVEL}[\s-]+lobes?[\s-]+predominant\b"),
    ("bare", rf"\b{EN_LEVEL}(?:\s+and\s+{EN_LEVEL})?\s+lobes?\b"),
    ("neither", r"\bneither\s+(?:side|lung)\b"),
    ("side", r"\beither\s+(?:side|lung|hemithorax|pleural\s+(?:space|cavity))\b"),
    (
        "side",
        rf"\b{EN_SIDE}(?:[\s-]sided)?\b(?:\s+(?:lungs?|hemithorax|side|"
        r"pleural\s+(?:space|cavity)))?",
    ),
    # Findings.
    ("both_pleural", r"\bh(?:ydro|a?emo)pneumothora\w+"),
    (
        "effusion",
        r"\b(?:pleural\s+)?effusions?\b|\bpleural\s+(?:fluid|collections?)\b|\bha?emothora\w+|\bempyema\b",
    ),
    ("pneumothorax", r"\bpneumothora(?:x|ces)\b"),
    ("emphysema", r"\bemphysema(?:tous)?\b(?!\s+bull)"),
    ("ps_nodule", r"\bmGGNs?\b"),
    ("gg_nodule", r"\bp?GGNs?\b"),
    (
        "nodule",
        r"\b(?:micro)?nodules?\b|\bnodular\s+(?:opacit|densit|lesion)\w+|\bmass(?:es)?\b(?!-|\s+like\b)"
        r"|\bgranulomas?\b",
    ),
    ("consolidation", r"\bconsolidat(?:ion|ions|ive|ed)\b"),
    # What they are like.
    ("core", r"\bsolid\s+(?:component|core|portion|part)\b"),
    (
        "part-solid",
        r"\b(?:part(?:ly|ially)?|semi|sub)[\s-]?solid\b|\bmixed(?:\s+ground[\s-]glass|"
        r"[\s-]density)?",
    ),
    ("ground-glass", r"\bnon-?\s?solid\b|\bground[\s-]?glass\b|\bGGOs?\b"),
    ("solid", r"\bsolid\b"),
    ("calcified", r"\bcalcifi(?:ed|cations?)\b"),
    (
        "small",
        r"\b(?:small|trace|tiny|minimal|mild|scant|minute|(?<=a )little"
        r"|slight(?=\s+(?:\w+\s+)?(?:effusion|pneumo)))\b",
    ),
    ("moderate", r"\bmoderate(?:ly)?\b"),
    ("large", r"\b(?:large|massive)\b"),
    ("size", SIZE),
    # Negation.
    (
        "denial",
        r"\b(?:not|no\s+(?:longer|more))\s+(?:\w+\s+)?"
        r"(?:seen|identified|present|evident|visuali[sz]ed|"
        r"demonstrated|detected|noted|shown|displayed|found|observed|appreciated|visible|confirmed(?!\s+(?:by|at|on)\s+\w*(?:biops|hist|path|surg)))\b(?!\s+(?:on|in)\s+(?:the\s+)?(?:prior|previous|earlier))"
        r"|\b(?:is|are)\s+absent\b|\b(?:cannot|can\s+not|could\s+not)\s+be\s+(?:seen|identified|found|visuali[sz]ed)\b"
        r"|\b(?:has|have|had)\s+(?:(?:completely|fully|entirely|totally|now|since|also|all)\s+){0,2}(?:resolved|cleared)\b|\b(?:completely\s+)?resolved\b"
        r"|\b(?:was|were|is|are|been)\s+(?:excluded|ruled\s+out)\b"
        r"|(?:(?<=[:\-])\s*|\b)(?:none|nil|negative|absent)(?=\s*(?:$|[.;,]))"
        r"|(?<=:)\s*no(?=\s*(?:$|[.;,]))",
    ),
    (
        "negation",
        r"\bclinical(?:ly)?\s+(?:suspected|(?:suspicion|concern)\s+(?:of|for))\b"
        r"|\b(?:no|nil|not\s+any|without|nor|neither|never)\b|\b(?:negative|evaluate|evaluation)\s+for\b|"
        r"\bfree\s+of\b|\babsence\s+of\b|\brule\s+out\b|\br/o\b|\bto\s+exclude\b|"
        r"\b(?:history|resolution|clearance|clearing)\s+of\b|\bnot\s+(?:show|demonstrate|contain)\b|"
        r"\bif\b",
    ),
]
