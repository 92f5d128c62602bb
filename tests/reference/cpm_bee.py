"""CPM-Bee in plain PyTorch float32: embeddings of token and sub id, relation bias, decoder, logits, beam search.

Written from the specification of VisCPM-Chat, with the names of its checkpoint. Nothing is cached: every call computes
all tokens again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

State = dict[str, torch.Tensor]

N_POSITION_BUCKETS, N_SEGMENT_BUCKETS, MAX_DISTANCE = 256, 256, 2048
EPS, RESIDUAL_DIVISOR = 1e-6, 1.05
ROTARY_SCALE, ROTARY_BASE = 16, 10000.0
MASKED = -10000.0  # logit of a token that this request must not say


@dataclass(frozen=True)
class Cells:
    """Tokens with all that attention wants to know of them; each a list of one length.

    Attributes:
        ids, subs: base id and sub id.
        positions: in the prompt counted through; in the answer from 0 again.
        segments: numbers of the nodes in the request's tree.
        context: 1 for the prompt, 0 for the answer.
    """

    ids: list[int] = field(default_factory=list)
    subs: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    context: list[int] = field(default_factory=list)

    def with_answer(self, tokens: Sequence[tuple[int, int]], segment: int) -> Cells:
        """Append an answer's tokens (id, sub id)."""
        n = len(tokens)
        return Cells(
            [*self.ids, *(token for token, _ in tokens)],
            [*self.subs, *(sub for _, sub in tokens)],
            [*self.positions, *range(n)],
            [*self.segments, *([segment] * n)],
            [*self.context, *([0] * n)],
        )


def embed(state: State, ids: Sequence[int], subs: Sequence[int], *, half_angles: bool = True) -> torch.Tensor:
    """Rows of the embedding over sqrt(n_embd), turned by their sub ids: [n, n_embd].

    Args:
        state: the weights.
        ids: of the tokens.
        subs: 0 leaves a row as it is.
        half_angles: round the inverse frequencies and the angles to float16, as the published model computes them.
    """
    table = state["llm.input_embedding.weight"]
    n_embd = table.shape[1]
    rows = table[torch.tensor(ids, dtype=torch.long)] / math.sqrt(n_embd)
    inverse = ROTARY_BASE ** (-torch.arange(0, n_embd, 2, dtype=torch.float32) / n_embd)
    steps = torch.tensor(subs, dtype=torch.float32) * ROTARY_SCALE
    if half_angles:
        steps, inverse = steps.half(), inverse.half()
    angles = (steps[:, None] * inverse[None]).float().repeat(1, 2)
    first, second = rows.chunk(2, dim=-1)
    return rows * angles.cos() + torch.cat([-second, first], dim=-1) * angles.sin()


def position_bucket(distance: torch.Tensor) -> torch.Tensor:
    """Bucket of key position minus query position: half for each direction; exact up to 63, then logarithmic."""
    n_half = N_POSITION_BUCKETS // 2
    n_exact = n_half // 2
    length = distance.abs()
    scaled = torch.log(length.clamp(min=1).double() / n_exact) / math.log(MAX_DISTANCE / n_exact)
    far = (n_exact + (scaled * (n_half - n_exact)).floor().long()).clamp(max=n_half - 1)
    return torch.where(distance > 0, n_half, 0) + torch.where(length < n_exact, length, far)


def bias_rows(cells: Cells, relations: torch.Tensor) -> torch.Tensor:
    """Row of the bias table for each query and key [n, n]; `relations` [n_segments, n_segments] has query first."""
    positions, segments = torch.tensor(cells.positions), torch.tensor(cells.segments)
    code = relations[segments[:, None], segments[None, :]]
    near = position_bucket(positions[None, :] - positions[:, None])
    return torch.where(code == 0, near, code + N_POSITION_BUCKETS - 1)


def visible(cells: Cells) -> torch.Tensor:
    """Whether a query [row] sees a key [column]: the prompt is seen by all, the answer by what follows in it."""
    context = torch.tensor(cells.context).bool()
    order = torch.arange(len(context))
    return context[None, :] | (~context[:, None] & (order[None, :] <= order[:, None]))


def forward(state: State, hidden: torch.Tensor, cells: Cells, relations: torch.Tensor) -> torch.Tensor:
    """Embeddings [n, n_embd] -> hidden states after the output norm [n, n_embd]."""
    table = state["llm.position_bias.relative_attention_bias"]  # [512, n_head]
    bias = table[bias_rows(cells, relations)].permute(2, 0, 1)  # [n_head, n, n]
    seen, i = visible(cells), 0
    while (name := f"llm.encoder.layers.{i}") + ".self_att.layernorm_before_attention.weight" in state:
        norm = rms_norm(hidden, state[f"{name}.self_att.layernorm_before_attention.weight"])
        hidden = (hidden + _attention(state, f"{name}.self_att.self_attention", norm, bias, seen)) / RESIDUAL_DIVISOR
        norm = rms_norm(hidden, state[f"{name}.ffn.layernorm_before_ffn.weight"])
        hidden = (hidden + _feed_forward(state, f"{name}.ffn.ffn", norm)) / RESIDUAL_DIVISOR
        i += 1
    return rms_norm(hidden, state["llm.encoder.output_layernorm.weight"])


def _attention(state: State, name: str, x: torch.Tensor, bias: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    n_head = len(bias)
    q, k, v = (
        linear(x, state[f"{name}.project_{part}.weight"]).unflatten(-1, (n_head, -1)).transpose(0, 1) for part in "qkv"
    )  # [n_head, n, head_dim]
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]) + bias
    weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1).masked_fill(~seen, 0.0)
    return linear((weights @ v).transpose(0, 1).flatten(1), state[f"{name}.attention_out.weight"])


def _feed_forward(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    gate = F.gelu(linear(x, state[f"{name}.w_in.w_0.weight"]))  # erf
    return linear(gate * linear(x, state[f"{name}.w_in.w_1.weight"]), state[f"{name}.w_out.weight"])


def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x W^T over the root of what each output sums."""
    return F.linear(x, weight) / math.sqrt(weight.shape[1])


def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Over the last dimension."""
    return x * torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + EPS) * weight


def logits(state: State, hidden: torch.Tensor, columns: Sequence[tuple[int, int]] = ()) -> torch.Tensor:
    """Hidden states [n, n_embd] -> logits [n, n_vocab + n_columns].

    Args:
        state: the weights.
        hidden: after the output norm.
        columns: (base id, sub id > 0) of unknown words of the request, which the answer may repeat.
    """
    table = state["llm.input_embedding.weight"]
    known = hidden / math.sqrt(table.shape[1]) @ table.T
    if not columns:
        return known
    extra = embed(state, [base for base, _ in columns], [sub for _, sub in columns])
    return torch.cat([known, hidden @ extra.T], dim=-1)


@dataclass(frozen=True)
class SearchOptions:
    """The published chat's."""

    n_beams: int = 3
    max_length: int = 512
    temperature: float = 0.7
    repetition_penalty: float = 1.1
    length_penalty: float = 3.0


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        tokens: ids, those from n_vocab on being columns of unknown words; without the token that ended it.
        score: of the best answer.
        n_steps: steps that were taken.
        margin: the least difference of log-probabilities that decided anything: between candidates that were taken and
            the first that was not, finished answers, and the test for the end (there times the length's power). Below a
            runtime's noise another answer is no mistake.
    """

    tokens: list[int]
    score: float
    n_steps: int
    margin: float


# Answers so far, each as tokens (id, sub id) from <s> on -> logits [n_answers, n_vocab + n_columns].
Step = Callable[[list[list[tuple[int, int]]]], torch.Tensor]


def masked_logits(row: torch.Tensor, unk: int, *, unk_is_text: bool) -> torch.Tensor:
    """Without <unk>, unless the request's first unknown word stands for it."""
    if unk_is_text:
        return row
    row = row.clone()
    row[..., unk] = MASKED
    return row


def penalized(row: torch.Tensor, fed: Sequence[tuple[int, int]], penalty: float) -> torch.Tensor:
    """Logits of one answer with the repetition penalty over the ids that it was fed, <s> among them."""
    row = row.clone()
    for token in {token for token, _ in fed}:
        row[token] = row[token] * penalty if row[token] < 0 else row[token] / penalty
    return row


def beam_search(
    step: Step,
    columns: Sequence[tuple[int, int]],
    n_vocab: int,
    options: SearchOptions,
    *,
    bos: int = 6,
    eos: int = 7,
    unk: int = 1,
    unk_is_text: bool = False,
) -> Found:
    """Search as the published code does, in float32; `step` computes what follows the answers so far."""
    n_beams = options.n_beams
    beams: list[list[tuple[int, int]]] = [[(bos, 0)]] * n_beams
    answers: list[list[int]] = [[]] * n_beams
    beam_scores = torch.tensor([0.0] + [-1e9] * (n_beams - 1))
    finished: list[tuple[float, list[int]]] = []
    margin, last = math.inf, options.max_length + 1
    for i in range(last + 1):
        rows = masked_logits(step(beams), unk, unk_is_text=unk_is_text)
        rows = torch.stack([penalized(row, fed, options.repetition_penalty) for row, fed in zip(rows, beams)])  # noqa: B905
        scores = torch.log_softmax(rows / options.temperature, dim=-1) + beam_scores[:, None]
        width = scores.shape[1]
        best, places = torch.topk(scores.flatten(), min(2 * n_beams + 1, scores.numel()))
        if len(finished) == n_beams:
            bound = float(best[0]) / i**options.length_penalty
            worst = min(score for score, _ in finished)
            margin = min(margin, abs(worst - bound) * i**options.length_penalty)  # as sums, as below
            if worst >= bound:
                break
        following: list[tuple[list[tuple[int, int]], list[int], float]] = []
        ended = []
        for score, place in zip(best[:-1].tolist(), places[:-1].tolist()):  # noqa: B905
            beam, token = divmod(place, width)
            answer = [*answers[beam], token]
            if token == eos or i == last:
                ended.append(score)
                _finish(finished, (score / len(answer) ** options.length_penalty, answer), n_beams)
                continue
            fed = (token, 0) if token < n_vocab else columns[token - n_vocab]
            following.append(([*beams[beam], fed], answer, score))
            if len(following) == n_beams:
                break
        if i == last:
            break
        unused = float(best[len(ended) + len(following)])
        margin = min(margin, *(each - score for each in ended), score - unused)
        beams = [fed for fed, _, _ in following]
        answers = [answer for _, answer, _ in following]
        beam_scores = torch.tensor([score for _, _, score in following])
    return _found(finished, i + 1, margin, options.length_penalty, eos)


def _finish(finished: list[tuple[float, list[int]]], answer: tuple[float, list[int]], n_beams: int) -> None:
    """Keep the best few; an answer that only equals the worst does not displace it."""
    if len(finished) < n_beams or answer[0] > min(score for score, _ in finished):
        finished.append(answer)
    if len(finished) > n_beams:
        finished.remove(min(finished, key=lambda each: each[0]))


def _found(finished: list[tuple[float, list[int]]], n_steps: int, margin: float, power: float, eos: int) -> Found:
    ranked = sorted(finished, key=lambda each: -each[0])
    score, answer = ranked[0]
    if len(ranked) > 1:
        margin = min(margin, (score - ranked[1][0]) * len(answer) ** power)
    return Found(answer[:-1] if answer[-1] == eos else answer, score, n_steps, margin)


def greedy(
    step: Step,
    columns: Sequence[tuple[int, int]],
    n_vocab: int,
    n_tokens: int,
    *,
    bos: int = 6,
    eos: int = 7,
    unk: int = 1,
    unk_is_text: bool = False,
) -> Found:
    """The likeliest token each time, without penalties; `margin` is the least lead of a logit over the second."""
    fed, tokens, total, margin = [(bos, 0)], [], 0.0, math.inf
    for n in range(1, n_tokens + 1):
        row = masked_logits(step([fed]), unk, unk_is_text=unk_is_text)[0]
        (first, second), (token, _) = (each.tolist() for each in torch.topk(row, 2))
        margin, total = min(margin, first - second), total + float(torch.log_softmax(row, dim=-1)[token])
        if token == eos:
            return Found(tokens, total, n, margin)
        tokens.append(token)
        fed = [*fed, (token, 0) if token < n_vocab else columns[token - n_vocab]]
    return Found(tokens, total, n_tokens, margin)
