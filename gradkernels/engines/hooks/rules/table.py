"""Which function has which rule: the one list."""

from __future__ import annotations

import torch
from torch.nn import functional

from gradkernels.engines.hooks.arguments import Function
from gradkernels.engines.hooks.capture.tape import Start
from gradkernels.engines.hooks.rules import normalization
from gradkernels.engines.hooks.rules.activation import PRELU
from gradkernels.engines.hooks.rules.arithmetic import ARITHMETIC
from gradkernels.engines.hooks.rules.linear.bilinear import BILINEAR
from gradkernels.engines.hooks.rules.linear.convolution import CONVOLUTION
from gradkernels.engines.hooks.rules.linear.linear import LINEAR
from gradkernels.engines.hooks.rules.linear.product import PRODUCTS
from gradkernels.engines.hooks.rules.linear.transposed_convolution import TRANSPOSED
from gradkernels.engines.hooks.rules.lookup.embedding import EMBEDDING
from gradkernels.engines.hooks.rules.lookup.embedding_bag import EMBEDDING_BAG
from gradkernels.engines.hooks.rules.recurrent import recurrent
from gradkernels.engines.hooks.rules.recurrent.cells import Gru, Lstm, Relu, Tanh
from gradkernels.engines.hooks.rules.rule import ruled

RULES: dict[Function, Start] = {
    **PRODUCTS,
    **ARITHMETIC,
    functional.linear: ruled(LINEAR),
    functional.bilinear: ruled(BILINEAR),
    functional.conv1d: ruled(CONVOLUTION),
    functional.conv2d: ruled(CONVOLUTION),
    functional.conv3d: ruled(CONVOLUTION),
    functional.conv_transpose1d: ruled(TRANSPOSED),
    functional.conv_transpose2d: ruled(TRANSPOSED),
    functional.conv_transpose3d: ruled(TRANSPOSED),
    functional.embedding: ruled(EMBEDDING),
    functional.embedding_bag: ruled(EMBEDDING_BAG),
    functional.layer_norm: ruled(normalization.LAYER_NORM),
    functional.rms_norm: ruled(normalization.RMS_NORM),
    functional.group_norm: ruled(normalization.GROUP_NORM),
    functional.instance_norm: ruled(normalization.INSTANCE_NORM),
    functional.batch_norm: ruled(normalization.BATCH_NORM),
    functional.prelu: ruled(PRELU),
    torch.rnn_tanh: recurrent.layers(Tanh),
    torch.rnn_relu: recurrent.layers(Relu),
    torch.gru: recurrent.layers(Gru),
    torch.lstm: recurrent.layers(Lstm),
    torch.rnn_tanh_cell: recurrent.cell(Tanh),
    torch.rnn_relu_cell: recurrent.cell(Relu),
    torch.gru_cell: recurrent.cell(Gru),
    torch.lstm_cell: recurrent.cell(Lstm),
}
"""How the boundaries of known functions are run."""
