"""Rows of any lengths as verl holds them."""

import torch


def jagged(rows, dtype=None):
    """One nested tensor [rows, *]."""
    tensors = [torch.tensor(row, dtype=dtype) for row in rows]
    return torch.nested.as_nested_tensor(tensors, layout=torch.jagged)
