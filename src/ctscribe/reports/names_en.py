"""Names in Latin letters: behind labels and titles, before degrees, and pinyin as ZHANG San.

Each pattern's group `found` is the name. Names of diseases and signs have none of these beside
them, so eponyms stay.
"""

# ruff: noqa: SIM905, E501 - patterns and lists of words are read in one piece
from __future__ import annotations

import re
from collections.abc import Iterator

from ctscribe.reports.report_words import GIVEN, WORDS, is_report_word
from ctscribe.reports.surnames import NOT_NAMES_EN, PINYIN_SURNAMES, SYLLABLES

_UP, _LOW = "A-ZÀ-ÖØ-Þ", "A-Za-zÀ-ÖØ-öø-ÿ"
_PARTICLE = r"(?:(?:van|von|der|den|de|la|le|del|di|da|dos|bin|ibn|al|el|ter|ten)[ ]){1,3}"
_WORD = rf"(?:(?:[{_UP}]\.){{0,3}}[{_UP}][{_LOW}'’\-]{{1,24}}|(?!M\.D|D\.O|R\.N)(?:[{_UP}]\.){{1,3}}(?![{_LOW}])|[{_UP}](?![{_LOW}.]))"
_NAME = rf"(?:{_PARTICLE})?{_WORD}(?:(?:,?[ ]|,(?=[A-Z]))(?:{_PARTICLE})?{_WORD}){{0,4}}"
_PLAIN = rf"(?:{_PARTICLE})?{_WORD}(?:[ ](?:{_PARTICLE})?{_WORD}){{0,3}}"
_ROLE = r"(?:physician|doctor|provider|radiologist|clinician|consultant|surgeon|reader|typist|transcriptionist|radiographer|technologist)"
_BY = (
    r"(?:reported|dictated|interpreted|reviewed|verified|signed|read|transcribed|approved|performed"
    r"|requested|referred|ordered|prepared|authenticated|finali[sz]ed|confirmed|supervised|checked)"
)
_TITLE = r"(?:Drs|Dr|DR|Mr|Mrs|MRS|Ms|MISS|Miss|Prof|PROF|Professor|Doctor|Nurse[ ]Practitioner|Nurse|Sgt|Cpl|Lt|Capt|Maj|Col|Rev|Rabbi|Officer|Sra?|Señora?|Mme|Mlle|Herr|Frau|Mx|Sir|Madam)"
_TITLED = rf"(?:(?:{_TITLE}|MR|MS)\.?[ ]{{1,2}}){{0,2}}"
_LABELLED = re.compile(
    r"(?<![A-Za-z])(?<!(?i:protocol)[ ])(?<!(?i:kernel|series|filter|device|window)[ ])(?<!(?i:file|test|drug)[ ])(?<!(?i:trade|brand|study|model)[ ])(?i:(?:patient|pt)(?:'s)?(?:[ ]name)?|(?:full[ ]|last[ ]|first[ ]|family[ ]|given[ ]|middle[ ]|christian[ ]|maiden[ ]|sur|fore)?names?"
    rf"|(?:electronically[ ])?{_BY}(?:[ ]by)?|(?:co-?)?sign(?:ed|ature|atory)"
    rf"|(?:(?:referring|attending|ordering|reporting|requesting|consulting|reading|responsible|treating|primary)[ ])?{_ROLE}"
    r"|attending|resident|fellow|technician|author|subject|(?:primary[ ])?care[ ]provider|contact|per|veteran|soldier|smoker|retiree|miner|client|inmate|donor|recipient|volunteer|participant|emergency[ ]contact|next[ ]of[ ]kin|re|attn|cc|to|from|ordering|referring|requesting|reporting|interpreting|dictating|transcribing|operator|registrar|rad|tech|phys|provider|witness|guardian|spouse|(?:dictating|reading|attending|ordering|referring)[ ](?:MD|DO|NP|PA)|interpreter|checked|second[ ]reader|peer[ ]review|radiographers?|radiologists?)"
    rf"(?:[ ]\d)?(?:[ \t]{{0,2}}[:=|]|[ ]-|[ ]is)[ \t]{{0,6}}{_TITLED}(?P<found>{_NAME})"
)
_AFTER_BY = re.compile(
    rf"\b(?i:(?:electronically[ ])?{_BY}[ ]by|(?:discussed|reviewed|shared|consulted)[ ]with"
    r"|(?:communicated|called|reported|conveyed|relayed|notified|phoned|telephoned|given|faxed|forwarded|sent|emailed|handed[ ]over)[ ]to|under|signed)[ ]"
    rf"{_TITLED}(?P<found>{_PLAIN})"
)
_PROFESSOR = "Professor "  # few hold the title: it goes with the name
_AFTER_TITLE = re.compile(rf"\b{_TITLE}\b\.?[ ]{{1,2}}(?:{_TITLE}\.?[ ])?(?P<found>{_PLAIN})")
_AFTER_PATIENT = re.compile(
    rf"\b(?:[Pp]atient(?:,| is| was| named)?|This is)[ ]{{1,2}}(?P<found>{_WORD}(?:[ ](?:{_PARTICLE})?{_WORD}){{1,3}})"
)
_AFTER_REGARDS = re.compile(
    rf"\b(?:regards|sincerely|faithfully|truly|wishes),?\s{{1,3}}(?P<found>{_PLAIN})"
)
_BEFORE_NUMBER = re.compile(
    rf"(?<![{_LOW}'\-])(?P<found>{_WORD}[ ]{_PLAIN}),?[ ][(]?(?:(?:MRN|ID)[ #:]{{0,3}})?\[(?:ID|编号)\]"
)
_AFTER_ROLE = re.compile(
    rf"\b(?:{_ROLE}|secretary|coordinator|receptionist|nurse|assistant|resident|fellow|colleague),?[ ]"
    rf"(?P<found>{_WORD}(?:[ ](?:{_PARTICLE})?{_WORD}){{1,3}})"
)
_DEGREE = r"(?:M\.?D\.?|D\.?O\.?|Ph\.?D\.?|R\.?N\.?|MBBS|BMBS|MBBCh|FRANZCR|FRCR|FRCPC?|FRCS|FACR|FCCP|DMRD|DNB|MBChB|MRCPC?|MRCS|BSc|MSc|MPH|RRT|RPh|PharmD|CRNA|ARNP|APRN|DNP|FNP|CNS|BSN|PA-C|PA|DPT|NP|PA-C|R\.?T\.?)(?![A-Za-z])"
_BEFORE_DEGREE = re.compile(rf"(?<![{_LOW}.'\-])(?P<found>{_NAME}),?[ ]{_DEGREE}")
_BEFORE_AGE = re.compile(
    rf"(?<![{_LOW}'\-])(?P<found>{_WORD}[ ]{_PLAIN})(?:,| is| was)?[ ](?:an?[ ])?\d{{1,3}}[- ](?:years?|y/?o)\b"
)
_SURNAME_FIRST = re.compile(
    r"(?<![A-Za-z0-9_])(?P<surname>[A-Z]{2,9}),?[ ](?P<given>[A-Z][a-z]{1,12}(?:-[A-Za-z]{2,6})?)(?![A-Za-z0-9_])"
)
# Behind these a name of one word is enough, behind those of `_WEAK` it takes two.
_KIN = (
    r"(?:daughter|son|wife|husband|spouse|partner|mother|father|mom|mum|dad|brother|sister|aunt|uncle|niece|nephew|cousin|grand(?:mother|father|son|daughter|ma|pa)"
    r"|guardian|carer|caregiver|neighbou?r|friend|fianc[ée]e?|girlfriend|boyfriend|flatmate|widow|widower|twin|child|parent|relative|interpreter|colleague|assistant|secretary|coordinator"
    r"|receptionist|nurse|midwife|technologist|radiographer|sonographer|pharmacist|therapist|paramedic|matron|sister-in-law|brother-in-law|mother-in-law|father-in-law|son-in-law|daughter-in-law"
    r"|doctor|physician|radiologist|surgeon|consultant|registrar|houseman|intern|trainee|resident|fellow|attending|pulmonologist|oncologist|cardiologist|pathologist|anesthesiologist|anaesthetist"
    r"|intensivist|internist|hospitalist|pediatrician|paediatrician|urologist|neurologist|gynaecologist|gynecologist|dentist|optometrist|physio|physiotherapist|dietitian|podiatrist|counsellor|counselor|psychologist|psychiatrist|dermatologist|nephrologist|rheumatologist|practitioner|GP|PCP|professor|chaplain|clerk|scribe|transcriptionist|typist|porter|student|lawyer|solicitor|employer|teacher)"
)
_STRONG = re.compile(
    rf"(?<![\w'’\-])(?:RN|LPN|(?i:{_KIN}(?:[ ]is|[ ]was|[ ]named|[ ]called|'s[ ]name[ ]is)?|(?:pt|patient)[ ]name|name|name[ ]is|named|(?<!so-)called|known[ ]as|goes[ ]by|legal[ ]name|nickname|n[ée]e|a\.?k\.?a\.?|alias|formerly|maiden[ ]name|preferred[ ]name"
    r"|dear|hi|hello|hey|cheers|thanks|thank[ ]you|ciao|attn|attention|fao|c/o|cc|bcc|paged?|phoned|telephoned|notify|inform|tell|ask|update|alert|page|phone|email|contact|notified|informed|alerted|advised|told|emailed|texted|messaged|spoke[ ](?:to|with)|speak[ ](?:to|with)"
    r"|speaking[ ](?:to|with)|ask(?:ed)?[ ]for|care[ ]of|on[ ]behalf[ ]of|courtesy[ ]of|(?:noted|suggested|recommended|stated|mentioned|documented|examined|assessed|evaluated|ordered|requested|operated[ ]on|admitted|recorded|written|drafted|edited|prepared|countersigned|cosigned|dictated|reported|referred)[ ]by|seen[ ]by|witness(?:ed)?[ ]by|witness|accompanied[ ]by|escorted[ ]by|(?:pt|patient)[ ]of|pt|patient|pls[ ]review|please[ ]review|regarding|concerning"
    r"|signed|signed[ ]by|initials|scanned[ ]by|typed[ ]by|entered[ ]by|printed[ ]by|acknowledged[ ]by|received[ ]by|accepted[ ]by|read[ ]back[ ]by|injected[ ]by|cannulated[ ]by|obtained[ ]by|consented[ ]by"
    r"|discussed[ ]with|reviewed[ ]with|discussion[ ]with|conversation[ ]with|shared[ ]with|sister|brother|mother|father|i[ ]am|i'm|this[ ]is|my[ ]name[ ]is|best|regards|sincerely|yours|love|from[ ]the[ ]desk[ ]of|requested[ ]by|operator|witness))"
    rf"(?:[,:;]|(?<=[Pp]t)\.|[ ]-)?(?:[ ]{{1,2}}|[ ]?[(\"'“])[(\"'“]?{_TITLED}(?:the[ ])?(?:(?:RN|LPN|NP|PA)[ ])?(?P<found>{_PLAIN})"
)
_WEAK = re.compile(
    rf"(?:[:(]|\b(?i:emergency[ ]contact|next[ ]of[ ]kin|contact(?:ed)?|by|with|from|for|to|under|call(?:ed)?|and|or|I|of|between|as|that|saw|see|ask|copy|via|the[ ]patient|patient|resident|sister|[Mm]y|his|her|their))"
    rf",?[ ]{{0,2}}(?<![a-zA-Z,]){_TITLED}(?:(?:RN|LPN|NP|PA)[ ])?(?P<found>{_PLAIN})"
)
_BEFORE_SEX = re.compile(
    rf"(?<![{_LOW}'\-])(?P<found>{_WORD}(?:(?:,[ ]?|[ ])(?:{_PARTICLE})?{_WORD}){{0,4}})(?:[ ]?[,;/|(][ ]{{0,2}}|[ ]{{1,2}}|\t)"
    r"(?:(?:[Mm]ale|[Ff]emale|MALE|FEMALE|[Mm]an|[Ww]oman|[Bb]oy|[Gg]irl)(?=[,;./|) ]|$)|[MF](?=[ ]?[,;/|)]|[ ]{1,3}\d|$)|\d{1,3}[ ]?(?:[MF]\b|y\.?/?o\b|yrs?\b|years?\b)|[MF][/ ]?\d{2,3}\b|\d{1,3}/[MF]\b|\(?(?:DOB|born|aged?|b\.)[ :])"
)
_BEFORE_VERB = re.compile(
    rf"(?<![{_LOW}'\-])(?P<found>{_WORD}(?:[ ](?:{_PARTICLE})?{_WORD}){{1,3}}),?[ ]"
    r"(?:was|is|has|had|will|presented|presents|underwent|attended|returned|returns|reports|reported|denies|came|called|calls|states|stated|who|born|on[ ]behalf|from[ ](?:the[ ])?(?:radiology|ward|ICU|ED|CT)|dictating|reading|reviewed|confirmed|acknowledged"
    r"|notified|signed|verified|requested|agrees|agreed|concurs|lives|works|smokes|asked|phoned|telephoned|answered|took|injected|performed|recommends|referred|did|needs|wants|wishes|consented|can[ ]be|may[ ]be[ ]reached|to[ ]follow|here|speaking|at[ ]\[|on[ ]\[|\(\[)"
)
_BEFORE_ACT = re.compile(
    rf"(?<![{_LOW}'\-])(?P<found>{_PLAIN})[ ](?:said|says|thinks|agrees|agreed|concurs|concurred|notified|informed|paged|acknowledged|phoned|telephoned|dictating|was[ ](?:notified|informed|paged|called|told)|aware)\b"
)
_LISTED = re.compile(
    rf"\[(?:NAME|姓名)\](?:[ ]\([A-Za-z \-]{{2,20}}\))?(?:,|,?[ ](?:and|or|&|/|for|c/o|per|via)|;|[ ]?/)[ ]{{1,2}}{_TITLED}(?P<found>{_PLAIN})"
)
_BEFORE_KIN = re.compile(
    rf"(?<![{_LOW}'\-])(?P<found>{_PLAIN})[ ]?[(,][ ]?(?:(?:the|her|his|patient's|(?i:specialist|senior|junior|chief|staff|clinical|thoracic|chest|consultant|attending|lead|duty|on-call))[ ])?(?i:{_KIN}|consultant|radiology|pager|ext|bleep|locum|SHO|SpR|ST\d|CT\d|MD|RN|PA|NP|CNS|radiology|ICU|ED|A&E)\b[),]?"
)
_POSSESSIVE = re.compile(
    rf"(?<![{_LOW}'\-])(?P<found>{_PLAIN})['’]s[ ](?:scan|CT|films?|images?|report|chart|family|wife|husband|daughter|son|mother|father|sister|brother|doctor|GP|phone|mobile|number|MRN|history|notes?|appointment|results?|clinic|patient|service|team|list|iPhone|phone|desk|workstation|office|voicemail|email)\b"
)
# A line, or a cell of one, that holds nothing but words with capitals.
_ALONE = re.compile(
    rf"(?:^|(?<=[|\t;/])|(?<=[-–—][ ])|(?<=[ ]{{2}})|(?<=[|;/\]][ ])|(?<=[.][ ]))(?P<found>{_WORD}(?:,?[ ](?:{_PARTICLE})?{_WORD}){{1,3}})(?=[ ]?(?:[|\t;/]|[ ][-–—]|--|[ ]{{2}}|$|,?[ ]\[(?:DATE|ID|PHONE|日期|编号|电话)\]))",
    re.MULTILINE,
)
_CAPITALS = re.compile(
    rf"(?<![{_LOW}'\-])(?P<found>[{_UP}][{_LOW}'’\-]{{1,24}}(?:[ ]{_WORD}){{0,4}}(?:[ ]{_PARTICLE}|[ ]){_WORD})"
)
_LAST_FIRST = re.compile(
    rf"(?<![{_LOW}'\-])(?P<found>[{_UP}][{_LOW}'’\-]{{2,20}},[ ](?P<given>[{_UP}][{_LOW}'’\-]{{1,20}})(?:[ ][{_UP}]\.?(?![{_LOW}]))?)(?![{_LOW}'\-])"
)
# Hepatitis B. Otherwise: an initial begins a line or a cell, or follows one of these.
_INITIALED = re.compile(
    rf"(?:^|(?<=\n)|(?<=[/|;,(:.][ ])|(?<=\bby[ ])|(?<=with[ ])|(?<=\band[ ])|(?<=\bto[ ])|(?<=signed[ ])|(?<=read[ ])|(?<=ported[ ])|(?<=fied[ ]))(?P<found>(?:[{_UP}]\.[ ]?){{1,2}}[{_UP}][{_LOW}'’\-]{{2,24}})(?![{_LOW}'\-])"
)
_PINYIN = re.compile(
    r"(?<![\w'\-])(?:(?P<surname>[A-Z][A-Za-z]{1,9}),?[ ](?P<given>[A-Z][A-Za-z]{1,12}(?:[- ]?[A-Za-z]{2,6})?)|(?P<given2>[A-Z][a-z]{1,12}(?:-[A-Za-z]{2,6})?)[ ](?P<surname2>[A-Z][A-Za-z]{1,9}))(?![\w\-])"
)
_EPONYM = re.compile(
    r"(?:['’]s)?[ ](?i:syndrome|disease|sign|cells?|anomaly|lesions?|classification|score|scale|criteria|stage|staging|grade|valve|line|catheter|lymphoma|tumou?r|fracture|cyst|hernia|procedure|operation"
    r"|fundoplication|o?esophagectomy|law|index|system|angina|nodes?|nodules?|syndromes|phenomenon|triad|complex|effect|method|technique|protocol|guidelines?|rule|model|test|stent|tube|drain|filter|deformity|disorder|infection|pneumonia|bodies|body|stain|lines|window|units?|cardiomyopathy|thyroiditis|esophagus|ulcer|contracture|palsy)\b"
)
# That's B R A N D T; Name: J O H N  S M I T H
_SPELLED = re.compile(
    r"\b(?i:name|patient|dr|doctor|surname|spelled|spelt|that's|pt)[:=.,]?[ ]{1,3}(?P<found>(?:[A-Z][ \-]{1,3}){2,24}[A-Z])(?![\w'’])"
)
_INITIALS = re.compile(
    r"(?:^|(?<=[\n.])[ ]{0,3})[-–—]{0,3}[ ]?(?P<found>[A-Z]{2,4}[/:][A-Za-z]{2,4})(?=[ ]{1,3}(?:[DT]:|\[)|[ ]*$)"
)
# DE LA CRUZ/MARIA ELENA behind a label or before a sex, an age, a number
_SLASHED = re.compile(
    r"(?:(?<=[Nn]ame[ :])|(?<=NAME[ :])|(?<=ame:[ ])|(?<=AME:[ ])|(?<=[Pp]atient[ :])|(?<=ent:[ ])|(?<=\bPt[ :])|(?<![\w/]))"
    r"(?P<found>[A-Z][A-Z'’\-]{1,20}(?:[ ][A-Z][A-Z'’\-]{1,20}){0,2}/[A-Z][A-Z'’\-]{1,20}(?:[ ][A-Z][A-Z'’\-]{0,20}\.?){0,2}?)"
    r"(?=[;,|]|[ ]{1,3}(?:[MF]\b|(?i:male|female|sex|DOB|age|\d{1,3}[ ]?y)|\[(?:ID|DATE|编号|日期)\]|MRN|ID\b))"
)
# Grace Young is a young smoker; Rose Brown, 70F
_GIVEN_FIRST = re.compile(
    rf"(?<![{_LOW}'\-])(?P<found>(?P<given>[{_UP}][a-z]{{2,12}})(?:[ ][A-Z]\.?)?[ ](?:{_PARTICLE})?[{_UP}][{_LOW}'’\-]{{1,20}})"
    r"(?=,?[ ](?:\(?\d{1,3}[ ]?[MFmf]\b|[MF],?[ ]?\d|\d{1,3}[- ]?(?:y/?o|years?|yrs?)\b)|,?[ ](?:is|was)[ ]an?[ ][\w\- ]{0,40}\b(?:man|woman|male|female|smoker|patient|year|y/?o|boy|girl|lady|gentleman|miner|worker|farmer|adult|nurse|teacher)\b)"
)
# tech sun; pt name chen xiao yu: where all is typed in small letters
_SMALL = re.compile(
    r"(?<![\w.])(?P<label>(?i:(?:pt|patient)[ ]name|name|patient|pt|tech(?:nologist)?|radiologist|rad|signed(?:[ ]by)?|(?:read|reported|dictated|verified|transcribed|reviewed|ordered|performed)[ ]by|ref(?:erring)?(?:[ ](?:md|dr))?|ordering|attending|transcriptionist|typist|scribe|author|interpreter|scanned[ ]by|typed[ ]by|prepared[ ]by|contact|spouse|nurse|rn|attn|cc|dr|mr|mrs|ms|miss))"
    r"(?P<sep>\.?[ ]?[:=][ ]{0,3}|\.?[ ])(?P<found>[a-z][a-z'’\-]{1,20}(?:,?[ ][a-z][a-z'’\-]{0,20}){0,3})(?![\w@])"
)
_AGED = re.compile(r",?[ ]\(?\d{1,3}[ ]?(?:[MFmf]\b|y/?o\b|yrs?\b)")
# It ends in the given name of who wrote it: "No PE. Sue"
_SIGNED_OFF = re.compile(
    r"(?:[.!?)\"”]|\n|^)[ ]{0,2}(?:[-–—~/][ ]?)?(?P<found>[A-Z][a-z]{1,14})\.?\s*$"
)
# Passport [ID], Chukwuemeka Obi, visa
_AFTER_NUMBER = re.compile(
    rf"\[(?:ID|编号)\][,;|]?[ ]{{1,3}}(?P<found>{_WORD}(?:,?[ ](?:{_PARTICLE})?{_WORD}){{1,3}})(?=[ ]?[,;|(/]|[ ]{{2}}|[ ][MF\d]|$)"
)
# Upper-case words that are pinyin surnames too.
_PLAIN_WORDS = frozenset(
    "none unable unknown same self good poor limited repeat repeated portable motion see the a an with without has had is was were will who states says said came comes went reports denies to from for in on of and or not no at by as be been being than that this it its via per age dob sex mrn acc hx cough clear stable note notes called call aware made seen here there can could would should may might must does did do also still very well better worse old young male female man woman you your she he her his".split()
)
WORD_NAMES = frozenset(
    "grace rose hope joy faith may june april august ivy lily ruby pearl jade amber olive hazel holly poppy summer autumn dawn melody harmony charity mercy patience prudence constance mark bill will grant chase cole dean wade brook brooke clay cliff dale forrest glen heath hunter jay lance miles pierce reed rex rich rick rod drew sky star angel destiny blessing precious prince king earl duke jasper flint rusty sandy misty stormy rain bishop mason carter cooper harper archer taylor parker tanner sawyer sterling bud art gene frank ernest page paige piper robin wren martin ray guy max van".split()
)
_GIVEN_OR_WORD = GIVEN | WORD_NAMES
_WORDS = frozenset("HE SHE YOU AN DA MO LONG FAN PAN TAN SUN TU QI AI JI".split())


def latin_names(text: str) -> Iterator[tuple[int, int]]:
    """Names in Latin letters, as far as something beside them says so."""
    for pattern in (
        _LABELLED,
        _AFTER_BY,
        _AFTER_TITLE,
        _AFTER_PATIENT,
        _AFTER_ROLE,
        _AFTER_REGARDS,
    ):
        for match in pattern.finditer(text):
            length = _leading_name(match["found"].removesuffix("'s"))
            if length and not (pattern is _AFTER_BY and length == 1):
                start = match.start("found")
                titled = text.endswith(_PROFESSOR, 0, start)
                yield start - len(_PROFESSOR) * titled, start + length
    for pattern in (_BEFORE_DEGREE, _BEFORE_AGE, _BEFORE_NUMBER):
        for match in pattern.finditer(text):
            begins = _trailing_name(match["found"])
            if begins is not None:
                yield match.start("found") + begins, match.end("found")
    for match in _SURNAME_FIRST.finditer(text):
        surname = match["surname"]
        if surname in _WORDS or surname.capitalize() not in PINYIN_SURNAMES:
            continue
        if _is_pinyin(match["given"]):
            yield match.span()
    yield from _in_context(text)


def _in_context(text: str) -> Iterator[tuple[int, int]]:
    """Names that hold no word of reports, beside what speaks of people."""
    for pattern, least in ((_STRONG, 1), (_LISTED, 1), (_WEAK, 2), (_AFTER_NUMBER, 2)):
        for match in pattern.finditer(text):
            words = _unknown_words(match["found"])
            if len(words) >= least and not _EPONYM.match(
                text, _part(match, words[0], words[-1])[1]
            ):
                yield _part(match, words[0], words[-1])
    for pattern, least in (
        (_BEFORE_SEX, 1),
        (_BEFORE_VERB, 2),
        (_BEFORE_ACT, 1),
        (_BEFORE_KIN, 1),
        (_POSSESSIVE, 1),
        (_ALONE, 2),
    ):
        for match in pattern.finditer(text):
            words = _unknown_words(match["found"], last=True)
            if pattern is _BEFORE_SEX and words and match.start("found") + words[0].start() > 0:
                led = text[: match.start("found") + words[0].start()][-2:]
                least = 1 if not led[0].islower() else 2
            if len(words) >= least:
                yield _part(match, words[0], words[-1])
    for match in _CAPITALS.finditer(text):
        # The words around the given name that no report holds.
        words = list(re.finditer(r"[^\s,]+", match["found"]))
        at = next((i for i, w in enumerate(words) if w[0].lower() in GIVEN and len(w[0]) > 2), None)
        if at is None or _EPONYM.match(text, match.end()):
            continue
        before = _unknown_words(match["found"][: words[at].start()], last=True)
        named = _unknown_words(match["found"][words[at].start() :])
        if len(named) >= 2 or (named and before and match["found"].isupper()):
            first = before[0].start() if before and match["found"].isupper() else words[at].start()
            start = match.start("found")
            yield start + first, start + words[at].start() + named[-1].end()
    for match in _INITIALED.finditer(text):
        if len(_unknown_words(match["found"])) >= 2:
            yield match.span("found")
    for match in _LAST_FIRST.finditer(text):
        words = _unknown_words(match["found"])
        read = match["found"].isupper() or match["given"].lower() in GIVEN
        if len(words) >= 2 and words[-1].end() >= len(match["found"]) - 3 and read:
            yield match.span("found")
    for match in _PINYIN.finditer(text):
        surname, given = match["surname"] or match["surname2"], match["given"] or match["given2"]
        known = {surname.lower(), given.lower()} & WORDS or surname.upper() in _WORDS
        if not known and surname.capitalize() in PINYIN_SURNAMES and _is_long_pinyin(given):
            yield match.span()
    for match in _SLASHED.finditer(text):
        parts = re.findall(r"[A-Z'’\-]{2,}", match["found"])
        if sum(not is_report_word(part) for part in parts) >= len(parts) - 1:
            yield match.span("found")
    for match in _GIVEN_FIRST.finditer(text):
        if match["given"].lower() in _GIVEN_OR_WORD:
            yield match.span("found")
    yield from _in_small_letters(text)
    for match in _SIGNED_OFF.finditer(text):
        if match["found"].lower() in GIVEN:
            yield match.span("found")
    for match in _SPELLED.finditer(text):
        yield match.span("found")
    for match in _INITIALS.finditer(text):
        yield match.span("found")


def _in_small_letters(text: str) -> Iterator[tuple[int, int]]:
    """Names typed in small letters: behind a colon, a title, or where they are pinyin or usual."""
    for match in _SMALL.finditer(text):
        words: list[re.Match[str]] = []
        for word in re.finditer(r"[^\s,]+", match["found"]):
            plain = word[0].strip("'’-")
            pinyin = bool(words) and plain in SYLLABLES
            if plain.endswith(("ed", "ing")) and not pinyin and plain not in GIVEN:
                break
            if not pinyin and (
                is_report_word(plain) or plain in _PLAIN_WORDS or _is_word(plain.capitalize())
            ):
                break
            words.append(word)
        if not words:
            first = match["found"].split(" ", 1)[0].strip(",")
            ends = match.start("found") + len(first) == len(text.rstrip(" ."))
            if (
                match["label"].lower().startswith("tech")
                and first.capitalize() in PINYIN_SURNAMES
                and ends
            ):
                yield match.start("found"), match.start("found") + len(first)
            continue
        first = words[0][0]
        titled = match["label"].lower() in {"dr", "mr", "mrs", "ms", "miss"} or ":" in match["sep"]
        usual = first in GIVEN or (
            first.capitalize() in PINYIN_SURNAMES and first not in _PLAIN_WORDS
        )
        aged = len(words) > 1 and _AGED.match(text, match.start("found") + words[-1].end())
        if titled or usual or aged:
            yield match.start("found"), match.start("found") + words[-1].end()


def _part(match: re.Match[str], first: re.Match[str], last: re.Match[str]) -> tuple[int, int]:
    return match.start("found") + first.start(), match.start("found") + last.end()


def _unknown_words(found: str, *, last: bool = False) -> list[re.Match[str]]:
    """The words at the start (last: at the end) that no report holds; capitals alone are none."""
    words = list(re.finditer(r"[^\s,]+", found.removesuffix("'s").removesuffix("’s")))
    kept: list[re.Match[str]] = []
    for word in reversed(words) if last else words:
        plain = word[0].rstrip(".'’")
        if word[0] == "An" and kept:
            kept.append(word)
            continue
        short = word[0].isupper() and len(plain) < 2 and not word[0].endswith(".")
        if is_report_word(plain) or _is_word(word[0]):
            # Catherine Wells: an eponym is a surname behind a given name
            given = bool(kept) and not last and kept[-1][0].lower() in GIVEN
            if given and plain[:1].isupper() and not _is_word(plain):
                kept.append(word)
            break
        if short and not kept:
            break
        if plain == "DO" and not found.isupper():  # Omar Haddad, DO
            if last and not kept:
                continue
            break
        kept.append(word)
    if last:
        kept.reverse()
    real = [w[0] for w in kept if len(w[0].rstrip(".")) > 1]
    capitals = [w for w in real if w.isupper()]
    if not real or (len(capitals) == len(real) and not _spoken(capitals)):
        return []
    return kept


def _spoken(capitals: list[str]) -> bool:
    """Capitals that can be read as names: with vowels, one long word or several."""
    read = [word for word in capitals if len(word) > 2 and re.search("[AEIOUY]", word)]
    return len(read) > 1 or any(len(word) > 4 for word in read)


def _is_long_pinyin(given: str) -> bool:
    """Two syllables, which hardly any English word is."""
    letters = given.lower().replace("-", "").replace(" ", "")
    return any(
        letters[:i] in SYLLABLES and letters[i:] in SYLLABLES for i in range(1, len(letters))
    )


def _leading_name(found: str) -> int:
    """Length of the name at the start: up to the first word that no name holds."""
    end = 0
    for index, (start, stop, is_name) in enumerate(_words(found)):
        word = found[start:stop].strip(".,")
        degree = index > 1 and 1 < len(word) < 6 and word.isupper() and not found.isupper()
        if not is_name or (degree and word.capitalize() not in PINYIN_SURNAMES):
            break
        end = stop
    return end


def _trailing_name(found: str) -> int | None:
    """Where the name at the end starts: after the last word that no name holds."""
    start: int | None = None
    for begin, _, is_name in _words(found):
        start = None if not is_name else begin if start is None else start
    return start


def _words(found: str) -> list[tuple[int, int, bool]]:
    """(start, end, whether names hold it) of each word; He beside Lian is a surname."""
    words = list(re.finditer(r"[^\s,]+", found))
    held = []
    for index, word in enumerate(words):
        beside = [w[0] for w in words[max(0, index - 1) : index + 2] if w is not word]
        surname = word[0].capitalize() in PINYIN_SURNAMES and any(map(_is_pinyin, beside))
        held.append((*word.span(), surname or not _is_word(word[0])))
    return held


def _is_word(word: str) -> bool:
    plain = word.rstrip(".")
    return (len(plain) > 1 and plain.capitalize() in NOT_NAMES_EN) or plain in NOT_NAMES_EN - {
        "A",
        "I",
    }


def _is_pinyin(given: str) -> bool:
    letters = given.lower().replace("-", "")
    return letters in SYLLABLES or any(
        letters[:i] in SYLLABLES and letters[i:] in SYLLABLES for i in range(1, len(letters))
    )
