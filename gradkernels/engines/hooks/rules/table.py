"""The list of rules: which function has which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from gradkernels.engines.hooks.arguments import TorchFunction
from gradkernels.engines.hooks.capture.boundary_rules import RunBoundary
from gradkernels.engines.hooks.capture.tape import Tape
from gradkernels.engines.hooks.rules import normalization
from gradkernels.engines.hooks.rules.activation import PRELU
from gradkernels.engines.hooks.rules.arithmetic import ARITHMETIC
from gradkernels.engines.hooks.rules.expanded import EXPANDED, PRODUCTS_BY_COPIES, product_by_copies
from gradkernels.engines.hooks.rules.linear.bilinear import BILINEAR
from gradkernels.engines.hooks.rules.linear.convolution import CONVOLUTION
from gradkernels.engines.hooks.rules.linear.linear import LINEAR
from gradkernels.engines.hooks.rules.linear.product import PRODUCTS
from gradkernels.engines.hooks.rules.linear.transposed_convolution import TRANSPOSED
from gradkernels.engines.hooks.rules.lookup.embedding import EMBEDDING
from gradkernels.engines.hooks.rules.lookup.embedding_bag import EMBEDDING_BAG
from gradkernels.engines.hooks.rules.made.recipes import DROPOUT, note_hook
from gradkernels.engines.hooks.rules.recurrent import packing, recurrent, steps
from gradkernels.engines.hooks.rules.recurrent.cells import GruLayer, LstmLayer, ReluLayer, TanhLayer
from gradkernels.engines.hooks.rules.rule import run_by_rule

RULES: dict[TorchFunction, RunBoundary] = {
    **PRODUCTS,
    **ARITHMETIC,
    functional.linear: run_by_rule(LINEAR),
    functional.bilinear: run_by_rule(BILINEAR),
    functional.conv1d: run_by_rule(CONVOLUTION),
    functional.conv2d: run_by_rule(CONVOLUTION),
    functional.conv3d: run_by_rule(CONVOLUTION),
    functional.conv_transpose1d: run_by_rule(TRANSPOSED),
    functional.conv_transpose2d: run_by_rule(TRANSPOSED),
    functional.conv_transpose3d: run_by_rule(TRANSPOSED),
    functional.embedding: run_by_rule(EMBEDDING),
    functional.embedding_bag: run_by_rule(EMBEDDING_BAG),
    functional.layer_norm: run_by_rule(normalization.LAYER_NORM),
    functional.rms_norm: run_by_rule(normalization.RMS_NORM),
    functional.group_norm: run_by_rule(normalization.GROUP_NORM),
    functional.instance_norm: run_by_rule(normalization.INSTANCE_NORM),
    functional.batch_norm: run_by_rule(normalization.BATCH_NORM),
    functional.prelu: run_by_rule(PRELU),
    torch.rnn_tanh: recurrent.run_layers(TanhLayer),
    torch.rnn_relu: recurrent.run_layers(ReluLayer),
    torch.gru: recurrent.run_layers(GruLayer),
    torch.lstm: recurrent.run_layers(LstmLayer),
    torch.rnn_tanh_cell: recurrent.run_cell(steps.elman(torch.tanh)),
    torch.rnn_relu_cell: recurrent.run_cell(steps.elman(torch.relu)),
    torch.gru_cell: recurrent.run_cell(steps.gru),
    torch.lstm_cell: recurrent.run_cell(steps.lstm_step),
}
"""How the boundaries of known functions are run."""

COPIES: dict[TorchFunction, RunBoundary] = {**EXPANDED, **DROPOUT}
"""How calls of parameters alone are run that give samples copies, or draw."""

SPECIAL: dict[TorchFunction, Callable[[Tape, tuple[Any, ...]], Any]] = {
    **dict.fromkeys(PRODUCTS_BY_COPIES, product_by_copies),
    torch._pack_padded_sequence: packing.pack,
    torch._pad_packed_sequence: packing.unpack,
    torch.Tensor.register_hook: note_hook,
}
"""How functions are run for some of their data."""
