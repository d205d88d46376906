"""English sentences of phantom reports (see `phantom.text`)."""

from __future__ import annotations

from collections.abc import Sequence

from ctscribe.phantom.wording import Picker, groups, is_whole, most_suspicious, second_axis
from ctscribe.reports.language import AMOUNT_NAMES, PLACE_NAMES
from ctscribe.reports.schema import Density, Finding

_PLACES = PLACE_NAMES["en"]
_DENSITIES: dict[Density, tuple[str, ...]] = {
    "solid": ("solid",),
    "part-solid": ("part-solid", "mixed ground-glass"),
    "ground-glass": ("ground-glass", "pure ground-glass"),
    "calcified": ("calcified",),
}
# Characters of a findings section: normal statements are added up to it, none past it.
_ENOUGH = 170


def findings_section(findings: Sequence[Finding], pick: Picker) -> str:
    """Findings: every finding, what is absent, and the normal rest."""
    sentences = [_statement(group, pick) for group in groups(findings, pick)]
    sentences += _absent(findings, pick)
    for sentence in pick.shuffled(_normal(pick)):
        if sum(map(len, sentences)) >= _ENOUGH:
            break
        sentences.append(sentence)
    return " ".join(_capital(sentence) + "." for sentence in sentences)


def impression_section(findings: Sequence[Finding], pick: Picker) -> str:
    """Impression: the same findings, shorter, as a numbered list."""
    if not findings:
        return pick.one(
            "No significant abnormality on chest CT.",
            "Normal chest CT.",
            "No acute abnormality in the chest.",
        )
    items = [_capital(_conclusion(group, pick)) for group in groups(findings, pick)]
    if len(items) == 1 and pick.chance(0.5):
        return items[0] + "."
    return " ".join(f"{number}. {item}." for number, item in enumerate(items, 1))


def recommendation_section(findings: Sequence[Finding], pick: Picker) -> str:
    """Recommendation: by kind and size, at most two."""
    advice: list[str] = []
    for finding in findings:
        sentence = _advice(finding, findings, pick)
        if sentence and sentence not in advice:
            advice.append(sentence)
    if not advice:
        return pick.one("Routine check-up.", "Annual chest CT.", "Routine follow-up.")
    return " ".join(sentence + "." for sentence in advice[:2])


def pathology_section(findings: Sequence[Finding], pick: Picker) -> str:
    """Pathology tendency: of the most suspicious nodule; empty without one."""
    nodule = most_suspicious(findings)
    if nodule is None:
        return ""
    size = nodule.size_mm or 8.0
    if nodule.density == "calcified":
        return pick.one("Benign, likely granuloma.", "Favours a benign lesion.")
    if nodule.density == "ground-glass":
        if size < 10:
            return pick.one("Favours atypical hyperplasia.", "Likely a precursor lesion.")
        return pick.one("Favours adenocarcinoma in situ.", "Possible adenocarcinoma in situ.")
    if nodule.density == "part-solid":
        if size < 15:
            return pick.one("Favours minimally invasive adenocarcinoma.")
        return pick.one("Favours invasive adenocarcinoma.", "Likely invasive adenocarcinoma.")
    if size < 10:
        return pick.one("Likely inflammatory or benign.", "Favours benign.")
    if size < 20:
        return pick.one("Indeterminate, malignancy not excluded.", "Possible malignancy.")
    return pick.one("Malignancy is likely.", "Favours malignancy.")


def _statement(group: Sequence[Finding], pick: Picker) -> str:
    first = group[0]
    if first.name == "nodule":
        return _nodule(first, pick)
    if first.name in ("effusion", "pneumothorax"):
        noun = _pleural(group, pick)
        article = "" if len(group) == 2 else "a "
        return pick.one(noun, f"there {'are' if len(group) == 2 else 'is'} {article}{noun}")
    place, name = _place(group, pick), str(first.name)
    extent = "" if first.size_mm is None else f", {first.size_mm:g} mm in extent"
    if name == "emphysema":
        name = pick.one("emphysema", "emphysematous change")
    return (
        pick.one(
            f"{name} in the {place}",
            f"{name} is seen in the {place}",
            f"there is {name} in the {place}",
            f"{place.replace('lobes', 'lobe') if len(group) == 1 else place} {name}",
        )
        + extent
    )


def _conclusion(group: Sequence[Finding], pick: Picker) -> str:
    first = group[0]
    if first.name == "nodule":
        size = "" if first.size_mm is None else _size(first.size_mm, pick, axes=False)
        words = f"{_density(first, pick)}nodule"
        place = _PLACES[first.lobe]  # type: ignore[index]
        return pick.one(
            f"{place} {words}" + (f", {size}" if size else ""),
            (f"{size} " if size else "") + f"{words} in the {place}",
        )
    if first.name in ("effusion", "pneumothorax"):
        return _pleural(group, pick)
    extent = "" if first.size_mm is None else f" ({first.size_mm:g} mm)"
    place = _place(group, pick)
    return pick.one(f"{place} {first.name}", f"{first.name} in the {place}") + extent


def _nodule(finding: Finding, pick: Picker) -> str:
    place, density = _PLACES[finding.lobe], _density(finding, pick)  # type: ignore[index]
    if finding.size_mm is None:
        noun = f"{density}nodule"
        return pick.one(f"{_article(noun)} is seen in the {place}", f"{place} {noun}")
    size = _size(finding.size_mm, pick, axes=True)
    noun = f"{density}nodule"
    return pick.one(
        f"{_article(f'{size} {noun}')} is seen in the {place}",
        f"there is {_article(noun)} in the {place} measuring {size}",
        f"{place} {noun} measuring {size}",
        f"{noun} in the {place}, {size}",
    )


def _size(size_mm: float, pick: Picker, *, axes: bool) -> str:
    """The longest diameter: "14 mm", "1.4 cm", "14 x 11 mm"."""
    draw = pick.draw()
    if not is_whole(size_mm) or draw < 0.55:
        return f"{size_mm:g} mm"
    if axes and draw < 0.8:
        return f"{size_mm:g} x {second_axis(size_mm, pick)} mm"
    return f"{size_mm / 10:.1f} cm"


def _density(finding: Finding, pick: Picker) -> str:
    return "" if finding.density is None else pick.one(*_DENSITIES[finding.density]) + " "


def _place(group: Sequence[Finding], pick: Picker) -> str:
    lobes = [finding.lobe for finding in group if finding.lobe is not None]
    for pair, word in (({"RUL", "LUL"}, "upper"), ({"RLL", "LLL"}, "lower")):
        if set(lobes) == pair and pick.chance(0.6):
            return f"bilateral {word} lobes"
    words = [_PLACES[lobe] for lobe in lobes]
    if len(words) == 1:
        return words[0]
    return ", ".join(words[:-1]) + " and " + words[-1]


def _pleural(group: Sequence[Finding], pick: Picker) -> str:
    first = group[0]
    amount = "" if first.amount is None else AMOUNT_NAMES["en"][first.amount] + " "
    if len(group) == 2:
        plural = "pleural effusions" if first.name == "effusion" else "pneumothoraces"
        return f"{amount}bilateral {plural}"
    noun = "pleural effusion" if first.name == "effusion" else "pneumothorax"
    return pick.one(
        f"{amount}{first.side} {noun}",
        f"{amount}{first.side}-sided {noun}",
        f"{amount}{noun} on the {first.side}",
    )


def _absent(findings: Sequence[Finding], pick: Picker) -> list[str]:
    """What is not there; never said of what is."""
    names = {finding.name for finding in findings}
    lobar = names & {"nodule", "consolidation", "emphysema"}
    absent = []
    if not lobar:
        absent.append(
            pick.one(
                "no nodule or consolidation",
                "the lungs are clear",
                "no nodule, consolidation or emphysema",
                "both lungs are clear without nodules",
            )
        )
    elif "nodule" not in names:
        absent.append(pick.one("no pulmonary nodule", "no nodule is seen"))
    elif "consolidation" not in names and pick.chance(0.5):
        absent.append(pick.one("no consolidation", "no focal consolidation"))
    else:
        absent.append(pick.one("the lungs are otherwise clear", "no other lung abnormality"))
    effusion, pneumothorax = "effusion" in names, "pneumothorax" in names
    if not effusion and not pneumothorax:
        absent.append(
            pick.one("no pleural effusion or pneumothorax", "no pneumothorax or pleural effusion")
        )
    elif not pneumothorax:
        absent.append(pick.one("no pneumothorax", "no pneumothorax is seen"))
    elif not effusion:
        absent.append(pick.one("no pleural effusion", "no pleural effusion is seen"))
    return absent


def _normal(pick: Picker) -> list[str]:
    return [
        pick.one("the airways are patent", "the trachea and main bronchi are patent"),
        pick.one("no enlarged lymph nodes", "no mediastinal lymphadenopathy"),
        pick.one("heart size is normal", "the heart is normal, no pericardial effusion"),
        pick.one("the bones are unremarkable", "no bone destruction"),
    ]


def _advice(finding: Finding, findings: Sequence[Finding], pick: Picker) -> str:
    if finding.name == "pneumothorax":
        if finding.amount == "small":
            return pick.one("Repeat imaging soon", "Rest and repeat chest radiograph")
        return pick.one("Urgent thoracic surgery review", "Consider chest drainage")
    if finding.name == "effusion":
        if finding.amount == "small":
            return pick.one("Follow-up imaging", "Pleural ultrasound")
        return pick.one("Consider pleural drainage", "Ultrasound-guided drainage if needed")
    if finding.name == "consolidation":
        return pick.one("Repeat CT after treatment", "Treat infection, then repeat CT")
    if finding.name == "emphysema":
        return pick.one("Lung function tests", "Pulmonary function tests")
    if finding is not most_suspicious(findings):
        return ""
    size = finding.size_mm or 8.0
    if finding.density == "calcified":
        return pick.one("CT in 12 months", "Annual CT")
    if finding.density == "ground-glass" and size < 15:
        return pick.one("CT in 6 months", "Thin-section CT in 6 months")
    if size < 15:
        return pick.one("CT in 3 months", "Thin-section CT in 3 months")
    return pick.one("Thoracic surgery review, consider biopsy", "Contrast CT or PET-CT")


def _article(noun: str) -> str:
    """ "a" or "an" before a phrase that may start with a number."""
    number = noun.split(" ")[0].split(".")[0]
    vowel = noun[0] in "aeio" or number in ("11", "18") or number.startswith("8")
    return ("an " if vowel else "a ") + noun


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
