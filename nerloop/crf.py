"""Linear-chain CRFs over tags: loss, Viterbi and exact marginals. Owns the maths; knows no text and no encoder.

Shapes: N layers (1 in a flat decoder), B texts, L positions (padded), K tags. Each layer is a CRF of its own; they
run side by side. `lengths` [B] counts the real positions of each text, all ≥ 1. Transitions that the tag scheme
forbids are masked everywhere, in training and in decoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nerloop.tagging import TagSet

FORBIDDEN = -1e4
FLOOR = -300.0


@dataclass(frozen=True)
class SpanPath:
    """The tags an entity means: `tags` at `start…` of text `row`; `then_not` must not follow (BIO has no end tag)."""

    layer: int
    row: int
    start: int
    tags: tuple[int, ...]
    then_not: int | None = None


@dataclass(frozen=True)
class BestPaths:
    """The likeliest legal tags [N, B, L] (padding repeats the last) and the score of each path [N, B]."""

    tags: Tensor
    scores: Tensor


class Crf(nn.Module):
    """Start [N, K], end [N, K] and pairwise [N, K, K] tag weights."""

    allowed: Tensor
    allowed_start: Tensor
    allowed_end: Tensor

    def __init__(self, layers: Sequence[TagSet]) -> None:
        super().__init__()
        ids = range(len(layers[0].tags))
        shape = len(layers), len(ids)
        self.start_transitions = nn.Parameter(torch.zeros(shape))
        self.end_transitions = nn.Parameter(torch.zeros(shape))
        self.transitions = nn.Parameter(torch.zeros(*shape, len(ids)))
        follows = torch.tensor([[[layer.may_follow(a, b) for b in ids] for a in ids] for layer in layers])
        self.register_buffer("allowed", follows, persistent=False)
        starts = torch.tensor([[layer.may_start(i) for i in ids] for layer in layers])
        self.register_buffer("allowed_start", starts, persistent=False)
        ends = torch.tensor([[layer.may_end(i) for i in ids] for layer in layers])
        self.register_buffer("allowed_end", ends, persistent=False)

    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return start, pairwise and end weights with forbidden moves masked."""
        return (
            self.start_transitions.masked_fill(~self.allowed_start, FORBIDDEN),
            self.transitions.masked_fill(~self.allowed, FORBIDDEN),
            self.end_transitions.masked_fill(~self.allowed_end, FORBIDDEN),
        )

    def negative_log_likelihood(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Return -log P(tags | text), the sum over layers and mean over texts, for emissions [N, B, L, K]."""
        start, pairs, end = self.weights()
        layer = torch.arange(len(tags), device=tags.device)[:, None]
        real = torch.arange(tags.size(2), device=tags.device) < lengths[:, None]
        last = tags.gather(2, (lengths - 1).expand(len(tags), -1)[..., None]).squeeze(2)
        score = (emissions.gather(3, tags[..., None]).squeeze(3) * real).sum()
        score = score + (pairs[layer[..., None], tags[..., :-1], tags[..., 1:]] * real[:, 1:]).sum()
        score = score + start[layer, tags[..., 0]].sum() + end[layer, last].sum()
        # The gradient of log Z is the expected number of times each weight is used, which forward–backward gives in
        # closed form: an inner product with those constants has that gradient, without autograd through L steps.
        expected = self.marginals(emissions, lengths)
        counts, firsts, moves, lasts = (part.to(emissions.dtype) for part in expected.counts())
        linear = (counts * emissions).sum() + (firsts * start).sum() + (moves * pairs).sum() + (lasts * end).sum()
        log_z = expected.log_z.sum().to(emissions.dtype)
        return (linear - linear.detach() + log_z - score) / len(lengths)

    @torch.no_grad()
    def decode(self, emissions: Tensor, lengths: Tensor) -> BestPaths:
        """Return the best legal path of each text in each layer (Viterbi), emissions [N, B, L, K]."""
        start, pairs, end = self.weights()
        size = emissions.size(2)
        stay = torch.arange(emissions.size(3), device=emissions.device)
        live = torch.arange(size, device=emissions.device)[:, None, None] < lengths[:, None]
        padded = bool((lengths < size).any())
        alpha = start[:, None] + emissions[:, :, 0]
        pointers = []
        for position in range(1, size):
            best, origin = (alpha[..., None] + pairs[:, None]).max(2)
            best = best + emissions[:, :, position]
            if padded:
                best = torch.where(live[position], best, alpha)
                origin = torch.where(live[position], origin, stay)
            alpha = best
            pointers.append(origin)
        scores, current = (alpha + end[:, None]).max(2)
        path = [current]
        for origin in reversed(pointers):
            current = origin.gather(2, current[..., None]).squeeze(2)
            path.append(current)
        return BestPaths(torch.stack(path[::-1], 2), scores)

    @torch.no_grad()
    def marginals(self, emissions: Tensor, lengths: Tensor, temperature: float = 1.0) -> "Marginals":
        """Run forward–backward at a temperature (all weights divided by it), emissions [N, B, L, K].

        Works on scaled probabilities in float64, one matrix product a position (Rabiner 1989, section V.A), which
        is many times faster than sums of exponentials over K² and exact to about 1e-12.
        """
        start, pairs, end = (weight.double() / temperature for weight in self.weights())
        scaled = emissions.double() / temperature
        rows = torch.arange(len(lengths), device=lengths.device)
        scaled[:, :, 0] = scaled[:, :, 0].masked_fill(~self.allowed_start[:, None], -torch.inf)
        ending = scaled[:, rows, lengths - 1].masked_fill(~self.allowed_end[:, None], -torch.inf)
        scaled[:, rows, lengths - 1] = ending
        highest = scaled.amax(-1, keepdim=True)
        # The floor keeps a legal path above zero, however sure the encoder is of an illegal tag.
        emit = (scaled - highest).clamp_min(FLOOR).exp()
        step, last = pairs.exp(), end.exp()[:, None]
        size = emissions.size(2)
        live = torch.arange(size, device=emissions.device)[:, None, None] < lengths[:, None]
        padded = bool((lengths < size).any())
        alphas: list[Tensor] = []
        norms: list[Tensor] = []
        alpha = start.exp()[:, None] * emit[:, :, 0]
        for position in range(size):
            if position:
                alpha = (alphas[-1] @ step) * emit[:, :, position]
            norm = alpha.sum(2, keepdim=True)
            alpha = alpha / norm
            if padded and position:
                alpha = torch.where(live[position], alpha, alphas[-1])
                norm = torch.where(live[position], norm, torch.ones_like(norm))
            alphas.append(alpha)
            norms.append(norm)
        beta = last.expand_as(alpha)
        betas = [beta]
        backwards = step.transpose(1, 2)
        for position in range(size - 1, 0, -1):
            moved = (emit[:, :, position] * beta) @ backwards / norms[position]
            beta = torch.where(live[position], moved, beta) if padded else moved
            betas.append(beta)
        norm = torch.cat(norms, 2)
        real = live[..., 0].T
        log_z = norm.log().sum(2) + (alphas[-1] * last).sum(2).log() + (highest.squeeze(3) * real).sum(2)
        return Marginals(torch.stack(alphas, 2), torch.stack(betas[::-1], 2), emit, norm, step, log_z, lengths)


@dataclass(frozen=True)
class Marginals:
    """The result of forward–backward; every probability it gives is exact under the CRF. `log_z` is [N, B]."""

    alpha: Tensor
    beta: Tensor
    emit: Tensor
    norm: Tensor
    step: Tensor
    log_z: Tensor
    lengths: Tensor

    def counts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return expected uses of emissions [N, B, L, K], and over the texts of start, pairwise and end weights."""
        rows = torch.arange(len(self.lengths), device=self.lengths.device)
        real = torch.arange(self.alpha.size(2), device=self.lengths.device) < self.lengths[:, None]
        tags = self.tags() * real[..., None]
        behind = self.emit * self.beta / self.norm[..., None] * real[..., None]
        total = (self.alpha * self.beta).sum(-1, keepdim=True)[:, :, 1:]
        moves = torch.einsum("nblj,nblk->njk", self.alpha[:, :, :-1] / total, behind[:, :, 1:]) * self.step
        return tags, tags[:, :, 0].sum(1), moves, tags[:, rows, self.lengths - 1].sum(1)

    def tags(self) -> Tensor:
        """Return P(tag at position) [N, B, L, K]; padding holds copies of the last position's forward values."""
        joint = self.alpha * self.beta
        return joint / joint.sum(-1, keepdim=True)

    def spans(self, paths: Sequence[SpanPath]) -> list[float]:
        """Return the probability of each span's exact tag path (Culotta & McCallum 2004), all spans at once."""
        if not paths:
            return []
        width = max(len(path.tags) for path in paths)
        layer = torch.tensor([path.layer for path in paths])
        row = torch.tensor([path.row for path in paths])
        start = torch.tensor([path.start for path in paths])
        length = torch.tensor([len(path.tags) for path in paths])
        tags = torch.tensor([path.tags + (0,) * (width - len(path.tags)) for path in paths])
        where = (start[:, None] + torch.arange(width)).clamp(max=self.alpha.size(2) - 1)
        wide = layer[:, None], row[:, None], where
        moves = self.step[layer[:, None], tags[:, :-1], tags[:, 1:]] * self.emit[*wide, tags][:, 1:]
        moves = moves / self.norm[*wide][:, 1:]
        inside = torch.where(torch.arange(1, width)[None] < length[:, None], moves, torch.ones_like(moves)).prod(1)
        final = tags.gather(1, (length - 1)[:, None]).squeeze(1)
        after = self.beta[layer, row, start + length - 1, final] - self._continued(paths)
        total = (self.alpha[layer, row, start] * self.beta[layer, row, start]).sum(1)
        probability = self.alpha[layer, row, start, tags[:, 0]] * inside * after / total
        return [min(1.0, max(0.0, value)) for value in probability.tolist()]

    def _continued(self, paths: Sequence[SpanPath]) -> Tensor:
        """Return the part of beta behind each span that goes on with its `then_not` tag."""
        parts = []
        for path in paths:
            behind = path.start + len(path.tags)
            if path.then_not is None or behind >= int(self.lengths[path.row]):
                parts.append(0.0)
                continue
            at = path.layer, path.row, behind
            move = self.step[path.layer, path.tags[-1], path.then_not] * self.emit[*at, path.then_not]
            parts.append(float(move * self.beta[*at, path.then_not] / self.norm[*at]))
        return torch.tensor(parts, dtype=self.beta.dtype)
