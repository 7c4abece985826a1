"""The training objective as it is trained: KL, entropy and gradient of a position in one pass.

`objective` says what is computed, one formula at a time, and is what this module is tested
against. Here student and teacher are each exponentiated once, a few rows at a time, and the
gradient is written in the forward pass from its closed form: it takes the place of the logits,
which autograd would keep.

`through_head` begins one layer earlier. Logits of 4,096 tokens and Qwen3's 151,936 words take 2.5
GB in float32, and a loss several times that; from hidden states and the head's weight they are
made, used and dropped in pieces, as Liger's fused losses do (linear-cross-entropy, Hsu et al.
2024), so that micro-batches are no longer bounded by the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from companion.objective import MASKED, Direction

CPU_PIECE, GPU_PIECE = 2**19, 2**25
"""Logits that elementwise work is done on at a time. On CPU its intermediates then stay in the
cache; on GPUs each takes 128 MiB in float32."""
CPU_LOGITS, GPU_LOGITS = 2**25, 2**27
"""Logits that `through_head` makes at a time, 128 and 512 MiB in float32: rows enough for the matrix
products to run at full speed. On GPUs every piece costs a pass over the head's gradient, too."""


def self_distillation(
    logits: Tensor, tau: float, direction: Direction, teacher: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(KL, entropy) of each position in nats, [rows] each, from logits [rows, vocabulary].

    KL can be differentiated with respect to the logits, entropy cannot. Values are float64 where
    the logits are, float32 otherwise; the gradient has the logits' dtype.

    Args:
        teacher: another's logits, of which nothing is differentiated; None: the student's own.
    """
    kl, entropy = _FromLogits.apply(logits, logits if teacher is None else teacher, tau, direction)
    return kl, entropy


def through_head(
    hidden: Tensor,
    head: Tensor,
    tau: float,
    direction: Direction,
    teacher: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(sum of KL, KL, entropy) of logits = hidden @ head.T, which never exist as a whole.

    The sum can be differentiated with respect to `hidden` and `head`; the values of each position
    are for the log.

    Args:
        hidden: [rows, width], the last hidden states.
        head: [vocabulary, width], the output embeddings' weight, tied or not.
        teacher: another's hidden states and head, of which nothing is differentiated; None: the
            student's own logits.
    """
    total, kl, entropy = _ThroughHead.apply(
        hidden, head, tau, direction, *(teacher or (None, None))
    )
    return total, kl, entropy


class _FromLogits(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, teacher: Tensor, tau: float, direction: Direction
    ) -> tuple[Tensor, Tensor]:
        gradient = torch.empty_like(logits)
        kl, entropy = _by_pieces(logits, teacher, gradient, tau, direction)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(entropy)
        return kl, entropy

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        # In place, for there may be no room for another; torch refuses a second backward then.
        return gradient.mul_(upstream[:, None]), None, None, None


class _ThroughHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        tau: float,
        direction: Direction,
        teacher_hidden: Tensor | None,
        teacher_head: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        to_hidden = torch.empty_like(hidden)
        # In float32 over the pieces, or bfloat16 would round at each.
        to_head = torch.zeros_like(head, dtype=_precise(head.dtype))
        kl, entropy = hidden.new_empty(2, len(hidden), dtype=to_head.dtype)
        logits = CPU_LOGITS if hidden.device.type == "cpu" else GPU_LOGITS
        rows = max(1, logits // len(head))
        for begin in range(0, len(hidden), rows):
            part = slice(begin, begin + rows)
            teacher = None
            if teacher_hidden is not None and teacher_head is not None:
                teacher = teacher_hidden[part], teacher_head
            kl[part], entropy[part] = _piece(
                hidden[part], head, tau, direction, teacher, to_hidden[part], to_head
            )
        ctx.save_for_backward(to_hidden, to_head.to(head.dtype))
        ctx.mark_non_differentiable(kl, entropy)
        return kl.sum(), kl, entropy

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        to_hidden, to_head = ctx.saved_tensors
        # In place, as above.
        return to_hidden.mul_(upstream), to_head.mul_(upstream), None, None, None, None


def _piece(
    hidden: Tensor,
    head: Tensor,
    tau: float,
    direction: Direction,
    teacher: tuple[Tensor, Tensor] | None,
    to_hidden: Tensor,
    to_head: Tensor,
) -> tuple[Tensor, Tensor]:
    """(KL, entropy) of some rows, whose logits are gone when this returns.

    Their gradients: to the hidden states written, to the head added.
    """
    student = _logits(hidden, head)
    other = _logits(*teacher) if teacher else student
    kl, entropy = _by_pieces(student, other, student, tau, direction)
    gradient = student.to(head.dtype)
    torch.mm(gradient, head, out=to_hidden)
    _add_product(to_head, gradient.T, hidden)
    return kl, entropy


def _by_pieces(
    student: Tensor, teacher: Tensor, gradient: Tensor, tau: float, direction: Direction
) -> tuple[Tensor, Tensor]:
    """(KL, entropy) of each row, [rows]; d KL / dz is written to `gradient`, the student's or not."""
    piece = CPU_PIECE if student.device.type == "cpu" else GPU_PIECE
    rows = max(1, piece // student.shape[-1])
    students = student.split(rows)
    teachers = students if teacher is student else teacher.split(rows)
    values = [
        _values(z, y, out, tau, direction)
        for z, y, out in zip(students, teachers, gradient.split(rows), strict=True)
    ]
    kl, entropy = (torch.cat(column) for column in zip(*values, strict=True))
    return kl, entropy


def _values(
    student: Tensor, teacher: Tensor, gradient: Tensor, tau: float, direction: Direction
) -> tuple[Tensor, Tensor]:
    """KL and entropy [rows]; d KL / dz [rows, vocabulary] is written. Eq. 8 to 19, in few passes.

    With z and y the shifted logits of either, s and t their exponentials' sums, log p = z - log s
    and log q = y / tau - log t.
    """
    z = _shifted(student)
    y = z / tau if teacher is student else _shifted(teacher).div_(tau)
    p, q = z.exp(), y.exp()  # times s and t
    s, t = p.sum(-1, keepdim=True), q.sum(-1, keepdim=True)
    entropy = s.log() - (p * z).sum(-1, keepdim=True) / s
    ratio = z.sub_(y)  # log p - log q, less a constant of the row
    constant = t.log() - s.log()
    out = gradient if gradient.dtype == z.dtype else torch.empty_like(z)
    if direction == "forward":
        kl = -(q * ratio).sum(-1, keepdim=True) / t - constant
        torch.mul(p, 1 / s, out=out).addcmul_(q, 1 / t, value=-1)
    else:
        mean = (p * ratio).sum(-1, keepdim=True) / s
        kl = mean + constant
        torch.sub(ratio, mean, out=out).mul_(p).mul_(1 / s)
    if out is not gradient:
        gradient.copy_(out)
    return kl.squeeze(-1), entropy.squeeze(-1)


def _shifted(logits: Tensor) -> Tensor:
    """Precise, and 0 at the likeliest token (see `objective.log_probs`)."""
    precise = logits.to(_precise(logits.dtype))
    return (precise - precise.amax(-1, keepdim=True)).clamp_(min=MASKED)


def _precise(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _logits(hidden: Tensor, head: Tensor) -> Tensor:
    """hidden @ head.T in float32 at least, from half precision without rounding the result."""
    precision = _precise(head.dtype)
    if head.dtype == precision:
        return hidden @ head.T
    if head.is_cuda:
        return torch.mm(hidden, head.T, out_dtype=precision)
    return hidden.to(precision) @ head.T.to(precision)


def _add_product(total: Tensor, one: Tensor, other: Tensor) -> None:
    """total += one @ other, in total's precision."""
    if total.dtype == one.dtype:
        total.addmm_(one, other)
    elif total.is_cuda:
        torch.addmm(total, one, other, out_dtype=total.dtype, out=total)
    else:
        total.addmm_(one.to(total.dtype), other.to(total.dtype))
