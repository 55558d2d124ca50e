"""A linear-chain CRF over tags: loss, Viterbi and exact marginals. Owns the maths; knows no text and no encoder.

Shapes: B texts, L positions (padded), K tags, S spans. `lengths` [B] counts the real positions of each text, all ≥ 1.
Transitions that the tag scheme forbids are masked everywhere, in training and in decoding.
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

    row: int
    start: int
    tags: tuple[int, ...]
    then_not: int | None = None


class Crf(nn.Module):
    """Start, end and pairwise tag weights."""

    allowed: Tensor
    allowed_start: Tensor
    allowed_end: Tensor

    def __init__(self, tag_set: TagSet) -> None:
        super().__init__()
        size = len(tag_set.tags)
        ids = range(size)
        self.start_transitions = nn.Parameter(torch.zeros(size))
        self.end_transitions = nn.Parameter(torch.zeros(size))
        self.transitions = nn.Parameter(torch.zeros(size, size))
        follows = torch.tensor([[tag_set.may_follow(a, b) for b in ids] for a in ids])
        self.register_buffer("allowed", follows, persistent=False)
        self.register_buffer("allowed_start", torch.tensor([tag_set.may_start(i) for i in ids]), persistent=False)
        self.register_buffer("allowed_end", torch.tensor([tag_set.may_end(i) for i in ids]), persistent=False)

    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return start [K], pairwise [K, K] and end [K] weights with forbidden moves masked."""
        return (
            self.start_transitions.masked_fill(~self.allowed_start, FORBIDDEN),
            self.transitions.masked_fill(~self.allowed, FORBIDDEN),
            self.end_transitions.masked_fill(~self.allowed_end, FORBIDDEN),
        )

    def negative_log_likelihood(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean over texts of -log P(tags | text), emissions [B, L, K], tags [B, L]."""
        start, pairs, end = self.weights()
        rows = torch.arange(len(tags), device=tags.device)
        real = torch.arange(tags.size(1), device=tags.device)[None] < lengths[:, None]
        score = start[tags[:, 0]] + (emissions.gather(2, tags[..., None]).squeeze(2) * real).sum(1)
        score = score + (pairs[tags[:, :-1], tags[:, 1:]] * real[:, 1:]).sum(1) + end[tags[rows, lengths - 1]]
        # The gradient of log Z is the expected number of times each weight is used, which forward–backward gives in
        # closed form: an inner product with those constants has that gradient, without autograd through L steps.
        expected = self.marginals(emissions, lengths)
        counts, firsts, moves, lasts = (part.to(emissions.dtype) for part in expected.counts())
        linear = (counts * emissions).sum() + (firsts * start).sum() + (moves * pairs).sum() + (lasts * end).sum()
        log_z = expected.log_z.sum().to(emissions.dtype)
        return (linear - linear.detach() + log_z - score.sum()) / len(tags)

    @torch.no_grad()
    def decode(self, emissions: Tensor, lengths: Tensor) -> list[list[int]]:
        """Return the best legal tag ids of each text (Viterbi)."""
        start, pairs, end = self.weights()
        stay = torch.arange(emissions.size(2), device=emissions.device).expand(emissions.size(0), -1)
        alpha = start + emissions[:, 0]
        pointers = []
        for position in range(1, emissions.size(1)):
            best, origin = (alpha[:, :, None] + pairs).max(1)
            live = (position < lengths)[:, None]
            alpha = torch.where(live, best + emissions[:, position], alpha)
            pointers.append(torch.where(live, origin, stay))
        current = (alpha + end).argmax(1)
        path = [current]
        for origin in reversed(pointers):
            current = origin.gather(1, current[:, None]).squeeze(1)
            path.append(current)
        ids: list[list[int]] = torch.stack(path[::-1], 1).tolist()
        return [row[:length] for row, length in zip(ids, lengths.tolist(), strict=True)]

    @torch.no_grad()
    def marginals(self, emissions: Tensor, lengths: Tensor, temperature: float = 1.0) -> "Marginals":
        """Run forward–backward at a temperature (all weights divided by it).

        Works on scaled probabilities in float64, one matrix product a position (Rabiner 1989, section V.A), which
        is many times faster than sums of exponentials over K² and exact to about 1e-12.
        """
        start, pairs, end = (weight.double() / temperature for weight in self.weights())
        scaled = emissions.double() / temperature
        rows = torch.arange(len(lengths), device=lengths.device)
        scaled[:, 0] = scaled[:, 0].masked_fill(~self.allowed_start, -torch.inf)
        scaled[rows, lengths - 1] = scaled[rows, lengths - 1].masked_fill(~self.allowed_end, -torch.inf)
        highest = scaled.amax(-1, keepdim=True)
        # The floor keeps a legal path above zero, however sure the encoder is of an illegal tag.
        emit = (scaled - highest).clamp_min(FLOOR).exp()
        step, last = pairs.exp(), end.exp()
        size = emissions.size(1)
        live = torch.arange(size, device=emissions.device)[:, None, None] < lengths[None, :, None]
        alphas: list[Tensor] = []
        norms: list[Tensor] = []
        alpha = start.exp() * emit[:, 0]
        for position in range(size):
            if position:
                alpha = torch.where(live[position], (alphas[-1] @ step) * emit[:, position], alphas[-1])
            norm = torch.where(live[position], alpha.sum(1, keepdim=True), torch.ones_like(alpha[:, :1]))
            alpha = alpha / norm
            alphas.append(alpha)
            norms.append(norm)
        beta = last.expand_as(alpha)
        betas = [beta]
        for position in range(size - 1, 0, -1):
            moved = (emit[:, position] * beta) @ step.T / norms[position]
            beta = torch.where(live[position], moved, beta)
            betas.append(beta)
        norm = torch.cat(norms, 1)
        log_z = norm.log().sum(1) + (alphas[-1] @ last).log() + (highest.squeeze(2) * live[..., 0].T).sum(1)
        return Marginals(torch.stack(alphas, 1), torch.stack(betas[::-1], 1), emit, norm, step, log_z, lengths)


@dataclass(frozen=True)
class Marginals:
    """The result of forward–backward; every probability it gives is exact under the CRF."""

    alpha: Tensor
    beta: Tensor
    emit: Tensor
    norm: Tensor
    step: Tensor
    log_z: Tensor
    lengths: Tensor

    def counts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return expected uses of emissions [B, L, K], and over the batch of start [K], pairwise [K, K], end [K]."""
        rows = torch.arange(len(self.lengths), device=self.lengths.device)
        real = torch.arange(self.alpha.size(1), device=self.lengths.device)[None] < self.lengths[:, None]
        tags = self.tags() * real[..., None]
        behind = self.emit * self.beta / self.norm[..., None] * real[..., None]
        total = (self.alpha * self.beta).sum(-1, keepdim=True)[:, 1:]
        moves = torch.einsum("blj,blk->jk", self.alpha[:, :-1] / total, behind[:, 1:]) * self.step
        return tags, tags[:, 0].sum(0), moves, tags[rows, self.lengths - 1].sum(0)

    def tags(self) -> Tensor:
        """Return P(tag at position) [B, L, K]; padding holds copies of the last position's forward values."""
        joint = self.alpha * self.beta
        return joint / joint.sum(-1, keepdim=True)

    def spans(self, paths: Sequence[SpanPath]) -> list[float]:
        """Return the probability of each span's exact tag path (Culotta & McCallum 2004), all spans at once."""
        if not paths:
            return []
        width = max(len(path.tags) for path in paths)
        row = torch.tensor([path.row for path in paths])
        start = torch.tensor([path.start for path in paths])
        length = torch.tensor([len(path.tags) for path in paths])
        tags = torch.tensor([path.tags + (0,) * (width - len(path.tags)) for path in paths])
        where = (start[:, None] + torch.arange(width)).clamp(max=self.alpha.size(1) - 1)
        moves = self.step[tags[:, :-1], tags[:, 1:]] * self.emit[row[:, None], where, tags][:, 1:]
        moves = moves / self.norm[row[:, None], where][:, 1:]
        inside = torch.where(torch.arange(1, width)[None] < length[:, None], moves, torch.ones_like(moves)).prod(1)
        final = tags.gather(1, (length - 1)[:, None]).squeeze(1)
        after = self.beta[row, start + length - 1, final] - self._continued(paths)
        total = (self.alpha[row, start] * self.beta[row, start]).sum(1)
        probability = self.alpha[row, start, tags[:, 0]] * inside * after / total
        return [min(1.0, max(0.0, value)) for value in probability.tolist()]

    def _continued(self, paths: Sequence[SpanPath]) -> Tensor:
        """Return the part of beta behind each span that goes on with its `then_not` tag."""
        parts = []
        for path in paths:
            behind = path.start + len(path.tags)
            if path.then_not is None or behind >= int(self.lengths[path.row]):
                parts.append(0.0)
                continue
            move = self.step[path.tags[-1], path.then_not] * self.emit[path.row, behind, path.then_not]
            parts.append(float(move * self.beta[path.row, behind, path.then_not] / self.norm[path.row, behind]))
        return torch.tensor(parts, dtype=self.beta.dtype)
