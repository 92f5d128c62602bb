"""How near the image embeddings come to those of our float32 path, and the logits to those of llama.cpp's kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def compare_logits(logits: Array, reference: Array) -> dict[str, float]:
    """How near logits come to those of the same file on llama.cpp's kernels, both [n, n_vocab].

    Returns:
        `logits_kl`: mean Kullback-Leibler divergence of the reference from ours, in nats; `logits_kl_max`: the worst
        position's; `top1_agreement`: share of positions where both find the same token likeliest.
    """
    ours, theirs = _log_softmax(logits), _log_softmax(reference)
    divergences = (np.exp(theirs) * (theirs - ours)).sum(axis=1)
    return {
        "logits_kl": float(divergences.mean()),
        "logits_kl_max": float(divergences.max()),
        "top1_agreement": float((logits.argmax(axis=1) == reference.argmax(axis=1)).mean()),
    }


def _log_softmax(logits: Array) -> NDArray[np.float64]:
    shifted: NDArray[np.float64] = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def token_cosines(embeddings: Array, reference: Array) -> NDArray[np.float64]:
    """Cosine of each token's embedding with the reference's, both [n_tokens, n_embd]."""
    a, b = embeddings.astype(np.float64), reference.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: NDArray[np.float64] = (a * b).sum(axis=1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    return cosines


def compare(embeddings: Array, reference: Array, peer: Array | None) -> dict[str, float]:
    """The report's `fidelity`.

    Args:
        embeddings: ours as measured, [n_tokens, n_embd].
        reference: of our float32 path.
        peer: llama.cpp's, if it was measured.

    Returns:
        `encode_cosine`: the worst token's; `encode_max_abs_error`; `encode_max_abs`: largest value of the reference,
        to judge the error by; `llama_cpp_cosine`: llama.cpp's worst token against the same reference. The last is low
        at our pin, most of all on random weights: libmtmd puts the class token last, which shifts every position
        (ggml-org/llama.cpp issue 25814); its speed is not touched by that.
    """
    result = {
        "encode_cosine": float(token_cosines(embeddings, reference).min()),
        "encode_max_abs_error": float(np.abs(embeddings - reference).max()),
        "encode_max_abs": float(np.abs(reference).max()),
    }
    if peer is not None and peer.shape == reference.shape:
        result["llama_cpp_cosine"] = float(token_cosines(peer, reference).min())
    return result
