"""Each detector's score as a differentiable function. A new detector adds one function and one line to the table.

The values are the edge's, up to the rounding of its arithmetic; tests compare them. Where the edge's score has no
gradient of its own (a count of labels), the backward pass goes through a smooth stand-in (BPDA, Athalye et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor, nn

from firewall.bundle import DetectorSpec
from firewall.bundle.strict import Strict, parameters_of
from firewall.detectors.agreement import AgreementParameters, one_sided_score, two_sided_score
from firewall.detectors.attention import AttentionParameters
from firewall.detectors.confidence import ConfidenceParameters
from firewall.detectors.contrast import ContrastParameters
from firewall.detectors.image_cnn import ImageCnnParameters
from firewall.detectors.juror import JurorParameters, is_juror
from firewall.detectors.keyed import KeyedParameters
from firewall.detectors.rejection import REJECTIONS, RejectionParameters
from firewall.detectors.residual import ResidualParameters
from firewall.detectors.stability import StabilityParameters
from firewall.detectors.statistics import StatisticsParameters
from firewall.errors import DataError
from firewall.lab.attacks.adaptive.operations import keyed_copies, resized
from firewall.lab.attacks.adaptive.view import View, against
from firewall.lab.attacks.criteria import margin
from firewall.sweep.keyed import Copy

__all__ = ["SCORES", "Opener", "Score", "score_of"]

#: N images -> scores (N,), higher = more suspicious.
Score = Callable[[View], Tensor]
#: A file of the bundle -> its network in torch. Raises DataError if it has no gradients there.
Opener = Callable[[str], nn.Module]

Schema = TypeVar("Schema", bound=Strict)

#: How steep the stand-in for "another label" is, for each unit of the logits.
_STEEPNESS = 2.0
#: What keeps the root of a distance of 0 differentiable.
_LEAST = 1e-10
#: As firewall.detectors.contrast has them.
_LUMINANCE, _CONTRAST_SAMPLES, _LEAST_CONTRAST = (0.299, 0.587, 0.114), 256, 1e-4


def _parameters(schema: type[Schema], spec: DetectorSpec) -> Schema:
    return parameters_of(schema, dict(spec.parameters), f"detector {spec.name!r}")


def _confidence(spec: DetectorSpec, _open: Opener) -> Score:
    parameters = _parameters(ConfidenceParameters, spec)

    def score(view: View) -> Tensor:
        distance = -view.against(view.logits) - parameters.median
        return torch.where(distance > 0, distance / parameters.above, -distance / parameters.below)

    return score


def _stability(spec: DetectorSpec, _open: Opener) -> Score:
    parameters = _parameters(StabilityParameters, spec)

    def score(view: View) -> Tensor:
        others = view.copies(parameters.operations)
        found = []
        for scale in parameters.scales:
            first = (view.logits / scale.temperature).log_softmax(-1)[:, None]
            overlap = (((others / scale.temperature).log_softmax(-1) + first) / 2).exp().sum(-1)
            distance = (1 - overlap).clamp_min(_LEAST).sqrt().mean(1)
            found.append((distance - scale.median) / scale.above)
        return torch.stack(found).amax(0)

    return score


def _agreement(spec: DetectorSpec, _open: Opener) -> Score:
    parameters = _parameters(AgreementParameters, spec)
    total = len(parameters.qualities)
    by_count = torch.tensor(
        [
            one_sided_score(count, total)
            if parameters.sides == "one"
            else two_sided_score(count, parameters.normal_counts)
            for count in range(total + 1)
        ]
    )

    def score(view: View) -> Tensor:
        others = view.copies([f"jpeg:{quality}" for quality in parameters.qualities])
        label = view.label[:, None, None].expand(-1, others.shape[1], 1)
        own = others.gather(2, label)[..., 0]
        ahead = own - others.scatter(2, label, -torch.inf).amax(2)
        smooth = (_STEEPNESS * ahead).sigmoid().mean(1) * total
        exact = (ahead > 0).float().mean(1) * total
        low = smooth.detach().floor().clamp(0, total - 1).long()
        between = by_count[low] + (smooth - low) * (by_count[low + 1] - by_count[low])
        value: Tensor = between + (by_count[exact.round().long()] - between).detach()
        return value

    return score


def _image_cnn(spec: DetectorSpec, open_network: Opener) -> Score:
    network = open_network(_parameters(ImageCnnParameters, spec).file)
    return lambda view: _two_way(network(view.image))


def _residual(spec: DetectorSpec, open_network: Opener) -> Score:
    parameters = _parameters(ResidualParameters, spec)
    network = open_network(parameters.file)

    def score(view: View) -> Tensor:
        rates = (parameters.rate, *parameters.also)
        return _two_way(network(torch.cat([view.residual(rate, parameters.reading) for rate in rates], 1)))

    return score


def _attention(spec: DetectorSpec, open_network: Opener) -> Score:
    network = open_network(_parameters(AttentionParameters, spec).file)

    def score(view: View) -> Tensor:
        logits = network(view.image)
        ahead: Tensor = margin(logits, view.label)
        return ahead

    return score


def _statistics(spec: DetectorSpec, open_network: Opener) -> Score:
    parameters = _parameters(StatisticsParameters, spec)
    if parameters.feature != "odds":
        raise DataError(f"its feature '{parameters.feature}' counts labels")
    network = open_network(parameters.file)

    def score(view: View) -> Tensor:
        # Its network wants one number for each operation: none may be left out.
        others = View(view.crop, view.image, view.logits, view.label, view.network).copies(parameters.operations)
        logits = torch.cat([view.logits[:, None], others], 1)
        label = view.label[:, None, None].expand(-1, logits.shape[1], 1)
        rest = logits.scatter(2, label, -torch.inf).logsumexp(2)
        odds: Tensor = network(logits.gather(2, label)[..., 0] - rest).reshape(-1)
        return odds

    return score


def _juror(spec: DetectorSpec, open_network: Opener) -> Score:
    parameters = _parameters(JurorParameters, spec)
    network = open_network(parameters.file)
    return lambda view: view.against(view.answer(parameters, network))


def _rejection(spec: DetectorSpec, open_network: Opener) -> Score:
    jurors = [(juror, open_network(juror.file)) for juror in _parameters(RejectionParameters, spec).jurors]

    def score(view: View) -> Tensor:
        answers = [view.answer(juror, network) for juror, network in jurors]
        last = torch.full_like(view.label, view.logits.shape[1])
        return torch.stack([-against(logits, last) for logits in answers]).amax(0)

    return score


def _keyed(spec: DetectorSpec, open_network: Opener) -> Score:
    parameters = _parameters(KeyedParameters, spec)
    networks = [(open_network(juror.file), juror) for juror in parameters.jurors]

    def one(view: View, drawn: Sequence[Copy]) -> Tensor:
        made = keyed_copies(view.image, drawn)
        flat, count = made.flatten(0, 1), made.shape[1]
        answers = [view.network(flat), *(network(resized(flat, to.width, to.height)) for network, to in networks)]
        label = view.label.repeat_interleave(count)
        odds = torch.stack([against(logits, label).unflatten(0, (-1, count)) for logits in answers], 1).flatten(1)
        return odds.mean(1) if parameters.statistic == "mean" else odds.amax(1)

    def score(view: View) -> Tensor:
        if view.draws is None:
            raise DataError("nobody says what a keyed sweep is taken to draw")
        return torch.stack([one(view, drawn) for drawn in view.draws(parameters.draw)]).mean(0)

    return score


def _contrast(spec: DetectorSpec, _open: Opener) -> Score:
    _parameters(ContrastParameters, spec)

    def score(view: View) -> Tensor:
        rows, columns = (max(1, side // _CONTRAST_SAMPLES) for side in view.crop.shape[2:])
        seen = view.crop[:, :, ::rows, ::columns]
        luminance = torch.einsum("c,nchw->nhw", torch.tensor(_LUMINANCE, dtype=seen.dtype), seen)
        return -luminance.flatten(1).std(1, correction=0).clamp_min(_LEAST_CONTRAST).log()

    return score


def _two_way(outputs: Tensor) -> Tensor:
    return outputs[:, 1] - outputs[:, 0]


#: By the name that bundles use; `juror` stands for every name that begins with `juror-`.
SCORES: Mapping[str, Callable[[DetectorSpec, Opener], Score]] = MappingProxyType(
    {
        "confidence": _confidence,
        "stability": _stability,
        "agreement": _agreement,
        "image-cnn": _image_cnn,
        "residual": _residual,
        "attention": _attention,
        "statistics": _statistics,
        "juror": _juror,
        "keyed": _keyed,
        "contrast": _contrast,
        **dict.fromkeys(REJECTIONS, _rejection),
    }
)


def score_of(spec: DetectorSpec, open_network: Opener) -> Score:
    """A detector's score.

    Args:
        spec: The detector as the manifest has it.
        open_network: Gives the network in a file of the bundle.

    Returns:
        The differentiable score.

    Raises:
        BundleError: The parameters don't fit.
        DataError: It has no gradient, and why.
    """
    kind = "juror" if is_juror(spec.name) else spec.name
    if kind not in SCORES:
        raise DataError("there is no differentiable form of it")
    return SCORES[kind](spec, open_network)
