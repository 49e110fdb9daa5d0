"""What registries and reporting guidelines read of a card: front matter, CHAI's card, checklists, change control."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from cxr.core.settings import training_settings
from cxr.models.selection import MIN_SPECIFICITY
from cxr.models.selection.versus import AUROC_MARGIN as SELECTION_MARGIN
from cxr.models.selection.versus import SIGNIFICANT
from cxr.results.cards.model_card import Card
from cxr.results.cards.rendering import card_pages, card_text, without_front_matter
from cxr.results.evaluation.formats import agreement
from cxr.results.metric_table import METRIC_NAMES
from cxr.results.verify.checks import verify_run
from cxr.serving.monitoring.verdict import FALSE_ALARMS
from cxr.serving.retraining.challenge_rule import MIN_SENSITIVITY
from cxr.serving.sites.promise import CONFIDENCE
from cxr.stats.subgroups import TOO_FEW
from tests.conftest import ROOT

EARLIER = Path(__file__).parent / "earlier"
HUMAN = "a person has to answer"
# The elements of version 0.2 of CHAI's schema (mc.chai.org), those that may be left out in brackets, in order.
METRIC = {
    "MetricGoal": {},
    "Results": {"MetricResult+": {"Label": {}, "ValueJson": {}}},
    "Interpretation": {},
    "TestType": {},
    "TestingDataDescription": {},
    "ValidationProcessAndJustification": {},
}
CHAI = {
    "BasicInfo": {"ModelName": {}, "ModelDeveloper": {}, "DeveloperContact": {}},
    "ReleaseInfo": {
        "ReleaseStage": {},
        "ReleaseDate": {},
        "ReleaseVersion": {},
        "GlobalAvailability": {},
        "(EHRCompatibility)": {},
        "(RegulatoryApproval)": {},
    },
    "ModelSummary": {"Summary": {}, "Keywords": {"Keyword+": {}}},
    "UsesAndDirections": {
        "IntendedUseAndWorkflow": {},
        "PrimaryIntendedUsers": {},
        "HowToUse": {},
        "TargetedPatientPopulation": {},
        "CautionedOutOfScopeSettings": {},
    },
    "Warnings": {
        "KnownRisksAndLimitations": {},
        "KnownBiasesOrEthicalConsiderations": {},
        "ClinicalRiskLevel": {},
    },
    "TrustIngredients": {
        "AISystemFacts": {
            "OutcomesAndOutputs": {},
            "ModelType": {},
            "(FoundationModels)": {},
            "InputDataSource": {},
            "OutputAndInputDataTypes": {},
            "DevelopmentDataCharacterization": {},
            "BiasMitigationApproaches": {},
            "OngoingMaintenance": {},
            "(Security)": {},
            "(Transparency)": {},
        },
        "TransparencyInformation": {
            "FundingSource": {},
            "(ThirdPartyInformation)": {},
            "StakeholdersConsulted": {},
        },
    },
    "KeyMetrics": {
        "UsefulnessUsabilityEfficacy": METRIC,
        "FairnessEquity": METRIC,
        "SafetyReliability": METRIC,
    },
    "Resources": {
        "(EvaluationReferences)": {},
        "(ClinicalTrial)": {},
        "PeerReviewedPublications": {},
        "(ReimbursementStatus)": {},
        "PatientConsentOrDisclosure": {},
    },
    "Bibliography": {},
}


def misfits(element, layout, namespace):
    """Yield where the children of an element are not those of a layout, in its order."""
    left = [child.tag for child in element]
    children = list(element)
    for key, inner in layout.items():
        name = f"{{{namespace}}}{key.strip('()+')}"
        found = 0
        while left and left[0] == name and (found == 0 or key.endswith("+")):
            left.pop(0)
            yield from misfits(children.pop(0), inner, namespace)
            found += 1
        if not found and not key.startswith("("):
            yield f"{element.tag}: {name} is missing, before {left[:1]}"
    yield from (f"{element.tag}: {tag} is too much" for tag in left)


@pytest.fixture(scope="module")
def cards(finished_once):
    """The card of a finished run, and one that an earlier version wrote."""
    new = Card.read(finished_once / "runs" / "abc" / "export" / "model_card.json")
    return {"new": new, "earlier": Card.read(EARLIER / "model_card.json")}


@pytest.mark.parametrize("which", ["new", "earlier"])
def test_hugging_face_reads_the_front_matter(cards, which):
    """Its own classes read MODEL_CARD.md, find every metric that is estimable, and write it again alike."""
    card = cards[which]
    text = card_text(card)
    read = ModelCard(text)
    figures = {result.metric_type: result.metric_value for result in read.data.eval_results}
    test = card.evaluation.test
    assert figures["roc_auc"] == test["auroc"] and figures["recall"] == test["sensitivity"]
    assert len(figures) == sum(test[name] is not None for name in METRIC_NAMES)
    assert {result.dataset_split for result in read.data.eval_results} == {"test"}
    assert (read.data.library_name, read.data.pipeline_tag) == ("keras", "image-classification")
    assert ModelCard(read.content).data.to_dict() == read.data.to_dict()
    assert without_front_matter(text).startswith("# Model card")
    assert without_front_matter("# No front matter\n") == "# No front matter\n"


def test_names_that_yaml_and_xml_could_stumble_over_are_read_as_they_are(cards):
    """A folder with quotes, a colon, an ampersand and an angle bracket is a name and no markup."""
    name = "films: \"A & B\" <2024> #1 - 'x'"
    data = cards["new"].data.model_copy(update={"data": f"/data/{name}", "split_policy": name})
    card = cards["new"].model_copy(update={"data": data})
    result = ModelCard(card_text(card)).data.eval_results[0]
    assert result.dataset_name == name
    root = ET.fromstring(card_pages(card)["chai_card.xml"].encode())
    facts = root.find(".//{*}DevelopmentDataCharacterization")
    assert name in facts.text


@pytest.mark.parametrize("which", ["new", "earlier"])
def test_the_card_of_chai_has_every_element_in_order(cards, which):
    """Nothing that the schema asks for is missing, empty or out of place; what is not known is left to a person."""
    root = ET.fromstring(card_pages(cards[which])["chai_card.xml"].encode())
    namespace = "https://mc.chai.org/v0.2/schema.xsd"
    assert root.tag == f"{{{namespace}}}AppliedModelCard"
    assert list(misfits(root, CHAI, namespace)) == []
    without = ET.fromstring(ET.tostring(root))
    without.remove(without[4])
    assert len(list(misfits(without, CHAI, namespace))) == 1
    empty = [e.tag for e in root.iter() if not len(e) and not (e.text or "").strip()]
    assert empty == [f"{{{namespace}}}Bibliography"]
    assert HUMAN in root.find(".//{*}FundingSource").text.lower()
    values = [json.loads(element.text) for element in root.iter(f"{{{namespace}}}ValueJson")]
    assert cards[which].evaluation.test["auroc"] in values


@pytest.mark.parametrize("which", ["new", "earlier"])
def test_every_item_of_both_checklists_has_an_answer_or_is_left_to_a_person(cards, which):
    """CLAIM 2024 has items 1 to 44, TRIPOD+AI 1 to 27, each once; no answer is empty."""
    text = card_pages(cards[which])["reporting_checklist.md"]
    claim, tripod = text.split("## TRIPOD+AI")
    rows = [
        line.strip("| ").split(" | ") for line in claim.splitlines() if re.match(r"\| \d", line)
    ]
    assert [row[0] for row in rows] == [str(item) for item in range(1, 45)]
    tripod_rows = [
        line.strip("| ").split(" | ") for line in tripod.splitlines() if re.match(r"\| \d", line)
    ]
    items = [item for row in tripod_rows for item in row[0].split(", ")]
    assert len(items) == len(set(items)) == 52
    assert {int(re.match(r"\d+", item).group()) for item in items} == set(range(1, 28))
    assert all(len(row) == 3 and all(row) for row in [*rows, *tripod_rows])
    test = cards[which].evaluation.test
    assert f"{test['fn']} of {test['positives']} missed" in text
    assert HUMAN in rows[43][2]


def test_a_word_edited_in_a_page_is_found(finished_work):
    """`cxr verify` makes each page from the card again."""
    run = finished_work / "runs" / "abc"
    pages = ("reporting_checklist.md", "chai_card.xml")
    for name in pages:
        path = run / "export" / name
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("PNEUMONIA", "COVID", 1))
    found = "\n".join(check.problem for check in verify_run(run))
    assert all(f"{name} is not what the card gives" in found for name in pages)


def test_the_change_control_plan_has_the_numbers_of_the_code():
    """Each bound on the page is the constant that decides."""
    page = (ROOT / "docs" / "change_control.md").read_text(encoding="utf-8").replace("\n", " ")
    default = training_settings("standard").min_sensitivity
    for words in (
        f"AUROC is more than {SELECTION_MARGIN} below the best one's",
        f"both with Holm's correction, p < {SIGNIFICANT}",
        f"one with a specificity of at least {MIN_SPECIFICITY} is preferred",
        f"left out where {TOO_FEW} of each class remain",
        f"sensitivity at least {MIN_SENSITIVITY} and specificity at least {MIN_SPECIFICITY};",
        f"significantly worse (McNemar, exact, p < {SIGNIFICANT})",
        f"with {100 * CONFIDENCE:.0f} % confidence",
        f"scores differ by at most {agreement.LARGEST_DIFFERENCE:.4f},",
        f"AUROC lower by at most {agreement.AUROC_MARGIN},",
        f"at most {100 * agreement.SHARE_MARGIN:.0f} % each",
        f"ever raised is at most {100 * FALSE_ALARMS:.0f} %",
        f"default a sensitivity of at least {default} on validation",
    ):
        assert words in page, words
