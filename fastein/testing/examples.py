"""Whole computations built of einsum, as the people who ask for a faster one write them.

Every function takes the einsum to use first, so that the tests run it with `fastein.einsum` and
with `numpy.einsum`, and the documentation shows it as it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "EXAMPLES",
    "Example",
    "attention",
    "grouped_query_attention",
    "inputs",
    "lora",
    "moco_logits",
    "softmax",
    "transition",
    "transition_gradient",
    "vision_attention",
    "word_by_word_attention",
]

Array = Any
Einsum = Callable[..., Any]


def softmax(logits: Array, axis: int = -1) -> Array:
    """Scale exponentials along an axis to sum to one."""
    weights = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return weights / weights.sum(axis=axis, keepdims=True)


def attention(einsum: Einsum, q: Array, k: Array, v: Array) -> Array:
    """Apply scaled dot-product attention to (batch, head, length, depth) arrays."""
    logits = einsum("bhqd,bhkd->bhqk", q, k) * q.dtype.type(q.shape[-1] ** -0.5)
    return einsum("bhqk,bhkd->bhqd", softmax(logits), v)


def vision_attention(
    einsum: Einsum, x: Array, wq: Array, wk: Array, wv: Array, heads: int = 2
) -> Array:
    """Apply a vision transformer's multi-head attention to x of (batch, patches, channels).

    The heads are split as einops' ``b n (h d) -> b h n d`` and joined as ``b i j c -> b j (i c)``.
    """

    def split(a: Array) -> Array:
        batch, patches, channels = a.shape
        return a.reshape(batch, patches, heads, channels // heads).transpose(0, 2, 1, 3)

    q, k, v = (split(einsum("bnc,cd->bnd", x, w)) for w in (wq, wk, wv))
    weights = softmax(einsum("bijc,bikc->bijk", q, k) * q.dtype.type(q.shape[-1] ** -0.5))
    out = einsum("bijk,bikc->bijc", weights, v)
    batch, _, patches, _ = out.shape
    return out.transpose(0, 2, 1, 3).reshape(batch, patches, -1)


def grouped_query_attention(einsum: Einsum, x: Array, wq: Array, wkv: Array, wo: Array) -> Array:
    """Apply the attention layer of pi0/Gemma: G query heads share each key and value head.

    x is (B, S, D), wq (K·G, D, H), wkv (2, K, D, H) and wo (K·G, H, D).
    """
    key, value = einsum("BSD,2KDH->2BSKH", x, wkv)
    query = einsum("BTD,NDH->BTNH", x, wq)
    batch, length, heads, depth = query.shape
    kv_heads = key.shape[2]
    grouped = query.reshape(batch, length, kv_heads, heads // kv_heads, depth)
    logits = einsum("BTKGH,BSKH->BKGTS", grouped, key) * query.dtype.type(depth**-0.5)
    encoded = einsum("BKGTS,BSKH->BTKGH", softmax(logits), value)
    return einsum("BTNH,NHD->BTD", encoded.reshape(batch, length, heads, depth), wo)


def lora(einsum: Einsum, x: Array, w: Array, down: Array, up: Array) -> Array:
    """Project x, (B, S, D), to queries, keys and values with a low-rank update of the weights.

    w is (3, K, D, H), down (3, K, D, L), up (3, K, L, H); the answer is (3, B, S, K, H).
    """
    low = einsum("BSD,3KDL->3BSKL", x, down)
    return einsum("BSD,3KDH->3BSKH", x, w) + einsum("3BSKL,3KLH->3BSKH", low, up)


def transition(einsum: Einsum, z: Array, w: Array, b: Array) -> Array:
    """Step a state z, (batch, k), by TreeQN's transition for every action a: (batch, a, k)."""
    return z[:, None, :] + np.tanh(einsum("bk,aki->bai", z, w) + b)


def transition_gradient(
    einsum: Einsum, z: Array, w: Array, b: Array, g: Array
) -> tuple[Array, Array, Array]:
    """Differentiate ``sum(g * transition(z, w, b))`` with respect to z, w and b."""
    slope = g * (1 - np.tanh(einsum("bk,aki->bai", z, w) + b) ** 2)
    to_z = einsum("bai->bi", g) + einsum("bai,aki->bk", slope, w)
    return to_z, einsum("bk,bai->aki", z, slope), einsum("bai->ai", slope)


def word_by_word_attention(
    einsum: Einsum,
    y: Array,
    h: Array,
    r: Array,
    wy: Array,
    wh: Array,
    wr: Array,
    wt: Array,
    w: Array,
) -> Array:
    """Take one step of word-by-word attention.

    The premise y is (i, j, k); the hidden state h and the last answer r are (i, k).
    """
    state = einsum("ik,kl->il", h, wh) + einsum("ik,kl->il", r, wr)
    m = np.tanh(einsum("ijk,kl->ijl", y, wy) + state[:, None, :])
    weights = softmax(einsum("ijk,k->ij", m, w))
    return einsum("ijk,ij->ik", y, weights) + np.tanh(einsum("ij,jk->ik", r, wt))


def moco_logits(einsum: Einsum, q: Array, k: Array, queue: Array) -> Array:
    """Join the positive logit of every row of q and its logits against the queue."""
    positive = einsum("nc,nc->n", q, k)
    return np.concatenate([positive[:, None], einsum("nc,ck->nk", q, queue)], axis=1)


@dataclass(frozen=True, slots=True)
class Example:
    """A computation, and the shapes of its inputs at test size and at the size of its source."""

    run: Callable[..., Any]
    small: tuple[tuple[int, ...], ...]
    full: tuple[tuple[int, ...], ...]
    dtype: str = "float32"

    def __str__(self) -> str:
        return self.run.__name__


_TREEQN = ((2, 3), (5, 3, 3), (5, 3))
_ROCKTASCHEL = ((3, 5, 7), (3, 7), (3, 7), (7, 7), (7, 7), (7, 7), (7, 7), (7,))

EXAMPLES: tuple[Example, ...] = (
    Example(attention, ((2, 3, 8, 4),) * 3, ((32, 8, 64, 64),) * 3),
    Example(vision_attention, ((2, 5, 8), *((8, 8),) * 3), ((8, 65, 192), *((192, 192),) * 3)),
    Example(
        grouped_query_attention,
        ((2, 6, 16), (4, 16, 8), (2, 1, 16, 8), (4, 8, 16)),
        ((2, 512, 2048), (8, 2048, 256), (2, 1, 2048, 256), (8, 256, 2048)),
    ),
    Example(
        lora,
        ((2, 6, 16), (3, 1, 16, 8), (3, 1, 16, 2), (3, 1, 2, 8)),
        ((2, 512, 2048), (3, 1, 2048, 256), (3, 1, 2048, 16), (3, 1, 16, 256)),
    ),
    Example(transition, _TREEQN, _TREEQN, "float64"),
    Example(transition_gradient, (*_TREEQN, (2, 5, 3)), (*_TREEQN, (2, 5, 3)), "float64"),
    Example(word_by_word_attention, _ROCKTASCHEL, _ROCKTASCHEL, "float64"),
    Example(moco_logits, ((8, 16), (8, 16), (16, 64)), ((256, 128), (256, 128), (128, 65536))),
)


def inputs(example: Example, seed: int = 0, small: bool = True) -> list[Array]:
    """Draw normal inputs of an example, scaled so that a sum over an axis stays near one."""
    rng = np.random.default_rng(seed)
    shapes = example.small if small else example.full
    return [
        (rng.standard_normal(shape) / max(shape) ** 0.5).astype(example.dtype) for shape in shapes
    ]
