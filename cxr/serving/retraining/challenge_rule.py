"""The rule by which a challenger follows the champion, and the sentences that explain its verdict."""

from cxr.core.formatting import describe_p_value, format_metric
from cxr.models.selection import MIN_SPECIFICITY, SIGNIFICANT
from cxr.stats.comparison import Difference, Disagreement
from cxr.stats.metrics import Metrics
from cxr.stats.subgroups import TOO_FEW

MIN_SENSITIVITY = 0.5
RULE = (
    "A challenger becomes champion when, on the test images at its own operating point, its "
    f"sensitivity is at least {MIN_SENSITIVITY} and its specificity at least {MIN_SPECIFICITY}, "
    "and when, on the same test images, its AUROC is not lower than the champion's and its "
    f"decisions are not significantly worse (McNemar, exact, p < {SIGNIFICANT}); test images of "
    "which the champion saw the picture or the patient in training are left out of the comparison "
    f"where {TOO_FEW} of each class remain; where there is no champion, sensitivity and "
    "specificity alone decide; in every other case the champion stays."
)


def find_objection(
    challenger: Metrics,
    champion: Metrics | None,
    decisions: tuple[Disagreement, ...],
) -> str:
    """Return why the rule keeps the champion, or an empty text.

    Args:
        challenger: The challenger's metrics.
        champion: The champion's metrics on the same images, None without a champion.
        decisions: McNemar's tests; the first one is over all images.
    """
    minimums = {"sensitivity": MIN_SENSITIVITY, "specificity": MIN_SPECIFICITY}
    for name, minimum in minimums.items():
        value = challenger[name]
        if value is None or value < minimum:
            return (
                f"The challenger's {name} is {format_metric(value)}, below the required {minimum}."
            )
    if champion is None:
        return ""
    if (challenger["auroc"] or 0.0) < (champion["auroc"] or 0.0):
        return "The challenger's AUROC is lower than the champion's."
    overall = decisions[0]
    is_significant = overall.p is not None and overall.p < SIGNIFICANT
    if is_significant and overall.only_b > overall.only_a:
        return "The challenger's decisions are significantly worse than the champion's."
    return ""


def describe_success(has_champion: bool) -> str:
    """Return why the rule promotes a challenger to which it has no objection."""
    if has_champion:
        return (
            "The challenger reaches the required sensitivity and specificity "
            "and is not worse than the champion."
        )
    return (
        "There is no champion yet, "
        "and the challenger reaches the required sensitivity and specificity."
    )


def describe_metrics(
    challenger: Metrics,
    champion: Metrics | None,
    auroc: Difference | None,
    decisions: tuple[Disagreement, ...],
) -> str:
    """Return the metrics of both sides and the tests of their differences in one sentence.

    Args:
        challenger: The challenger's metrics.
        champion: The champion's metrics on the same images, None without a champion.
        auroc: DeLong's test of the AUROCs, None where it is not estimable.
        decisions: McNemar's tests; the first one is over all images.
    """
    own_auroc = format_metric(challenger["auroc"], 4)
    sensitivity = format_metric(challenger["sensitivity"])
    specificity = format_metric(challenger["specificity"])
    rates = f"sensitivity {sensitivity}, specificity {specificity}, n = {challenger['n']}"
    if champion is None:
        return f"AUROC {own_auroc}, {rates}."
    champion_auroc = format_metric(champion["auroc"], 4)
    auroc_p = describe_p_value(auroc.p if auroc else None)
    overall = decisions[0]
    return (
        f"AUROC {own_auroc} against {champion_auroc} (DeLong {auroc_p}); {rates}; "
        f"right where the champion is wrong on {overall.only_a} images, wrong where it is right "
        f"on {overall.only_b} (McNemar {describe_p_value(overall.p)})."
    )


def describe_seen(seen: int, compared: int, images: int) -> str:
    """Return what became of the test images that the champion knew from its training.

    Args:
        seen: How many test images the champion knew.
        compared: How many test images are compared.
        images: How many test images there are.
    """
    if not seen:
        return ""
    known = (
        f"The champion saw the picture or the patient of {seen} of {images} test images "
        "in training: "
    )
    if compared < images:
        return f"{known}they are left out, and the two are compared on the other {compared}."
    return (
        f"{known}fewer than {TOO_FEW} of a class would be left, so all are compared, "
        "which favours the champion."
    )


def describe_referred(
    challenger: int | None,
    champion: int | None,
    images: int,
) -> str:
    """Return how many images each model refers to a person; the rule does not use it.

    Args:
        challenger: How many the challenger refers, None where it does not know its scope.
        champion: The same of the champion; None, too, where there is none.
        images: How many images are compared.

    >>> describe_referred(6, 4, 600)
    'Of 600 images the challenger refers 6, the champion refers 4 to a person; all count here.'
    >>> describe_referred(None, None, 600)
    ''
    """
    counts = {"challenger": challenger, "champion": champion}
    known = [f"the {name} refers {count}" for name, count in counts.items() if count is not None]
    if not known:
        return ""
    return f"Of {images} images {', '.join(known)} to a person; all count here."
