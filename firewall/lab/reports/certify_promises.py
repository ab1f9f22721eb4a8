"""The first table of the page of all certificates: what is promised, against whom, at what cost."""

from __future__ import annotations

from typing import Any

__all__ = ["promises"]


def promises(found: dict[str, Any]) -> list[dict[str, str]]:
    """Rows of the table, each in plain words with what was measured.

    Args:
        found: What `firewall.lab.reports.certify.collect` has read.

    Returns:
        Rows with: promise, against, cost, measured; what wasn't measured says so.
    """
    return [*_stickers(found), _flows(found), _noise(found), _every_value(found), _whole(found)]


def _stickers(found: dict[str, Any]) -> list[dict[str, str]]:
    shared = {
        "against": "whoever puts one sticker within a square of the stated size anywhere on the sign, of any content, "
        "and knows all of the guard",
    }
    kinds = {
        "agree": "A released label is one that every mask names. On a certified sign no sticker gets another one "
        "released. (--patches AREA)",
        "object": "A released label is one that no mask objects to; the verdict says if it is certified too. On a "
        "certified sign no sticker gets another one released. (--patches AREA --tau T)",
    }
    return [{"promise": text, **shared, **_dial(found, rule)} for rule, text in kinds.items()]


def _dial(found: dict[str, Any], rule: str) -> dict[str, str]:
    """Measured, of the result of the most images: the point that releases most without tau, or 97 % with it. Of the
    bundle's own network, if there is a result of it; rule "object" in two steps, if there is one of them."""
    own = [each for each in found["dial"] if each["about"].get("masked_classifier_sha256") == found.get("under_masks")]
    results = own or found["dial"]
    if rule == "agree":
        results = [each for each in results if not each["about"].get("finer")] or results
    if not results:
        return {"cost": "not measured", "measured": "not measured: 'firewall lab certify patch --rounds 1 --json'"}
    result = max(
        results,
        key=lambda each: (
            each["summary"]["clean_accuracy"]["total"],
            -each["about"]["side"],
            each["about"].get("finer", 0),
        ),
    )
    about, images = result["about"], result["summary"]["clean_accuracy"]["total"]
    points = [point for point in result["summary"]["curve"] if point["rule"] == rule]
    enough = [point for point in points if point["released_right"] >= 0.97 * images]
    if rule == "agree":
        point = next(point for point in points if point["tau"] is None)
    else:
        point = min(enough, key=lambda each: each["tau"]) if enough else max(points, key=lambda each: each["tau"])
    at = "" if point["tau"] is None else f"tau {point['tau']:g}: "
    cost = result["cost"]["rounds_1"]
    steps = about.get("finer", 0) if rule == "object" else 0
    mean = result["summary"]["images_asked"][-1]["mean"] if steps else 0.0
    more = f"{mean:.0f} more images in the mean" if steps else f"{about['masks']} more images"
    masks = f", in two steps (finer {steps})" if steps else ""
    return {
        "cost": f"{1 - point['released_right'] / images:.1%} of clean signs are withheld or wrong; "
        f"{more}, {cost['processor_ms_p50']:.0f} ms of one core, for each label",
        "measured": f"{at}{point['certified'] / images:.1%} of {images} signs certified against squares of "
        f"{about['side']} of {about['input'][0]} pixels{masks}; wrong labels released: {point['released_wrong']}",
    }


def _flows(found: dict[str, Any]) -> dict[str, str]:
    proved = [row for row in found["curve"] if row["certified"] is not None]
    best = max(proved, key=lambda row: (row["certified"] * row["budget"], row["n"]), default=None)
    return {
        "promise": "No distortion within the budget changes the label of a certified image.",
        "against": "whoever bends the image by a flow field of bounded total variation, and adds a little noise",
        "cost": "a network that was trained with the bound; proofs are made offline, the edge doesn't run them",
        "measured": "not measured: 'firewall lab certify spatial --json'"
        if best is None
        else f"{best['network']}: {best['certified']:.1%} certified at a budget of {best['budget']:g}, "
        f"{best['clean']:.1%} right without one, {best['n']} images",
    }


def _noise(found: dict[str, Any]) -> dict[str, str]:
    curve = [(result, point) for result in found["smoothing"] for point in result["summary"]["curve"]]
    best = max(curve, key=lambda each: each[1]["certified_accuracy"] * each[1]["radius"], default=None)
    return {
        "promise": "No change of the pixels below the radius changes the smoothed classifier's label.",
        "against": "whoever changes all pixels a little: an l2 norm below a radius, computed for each image",
        "cost": "thousands of noisy copies of an image; the edge doesn't run it",
        "measured": "not measured: 'firewall lab certify smoothing --json'"
        if best is None
        else f"sigma {best[0]['about']['sigma']:g}: {best[1]['certified_accuracy']:.1%} certified at a radius of "
        f"{best[1]['radius']:g} (values in 0..1)",
    }


def _every_value(found: dict[str, Any]) -> dict[str, str]:
    results = [(each["about"]["eps"], each["summary"]) for each in found["linf"]]
    eps, best = max(results, key=lambda each: each[0] * each[1]["certified_accuracy"]["value"], default=(0.0, None))
    return {
        "promise": "No change of every value by at most eps changes a certified sign's label.",
        "against": "whoever changes all pixels a little: each value by at most eps",
        "cost": "a small network of its own that was trained with the bound, put into a bundle by 'firewall lab "
        "add-values' and asked by --values; what it can't prove is withheld",
        "measured": "not measured: 'firewall lab certify linf --json'"
        if best is None
        else f"eps {255 * eps:.0f}/255: {best['certified_accuracy']['value']:.1%} certified, "
        f"{best['clean_accuracy']['value']:.1%} right without a change",
    }


def _whole(found: dict[str, Any]) -> dict[str, str]:
    spec = found["firewall"]
    known = spec is not None and "conformal" in spec
    return {
        "promise": "Rates of false alarms and of attacked images that are released lie below exact bounds. No proof: "
        "statistics.",
        "against": "attacks that were tried, on images like those that were counted",
        "cost": f"at most {spec['conformal']['rate']:.2%} of benign images withheld" if known else "not measured",
        "measured": f"section 5, confidence {spec['confidence']:.0%}"
        if known
        else "not measured: 'firewall lab certify firewall --out'",
    }
