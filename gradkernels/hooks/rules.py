"""Which function has which rule: the one list."""

from __future__ import annotations

import torch
from torch.nn import functional

from gradkernels.hooks import normalization, recurrent
from gradkernels.hooks.activation import PRELU
from gradkernels.hooks.arithmetic import ARITHMETIC
from gradkernels.hooks.bags import EMBEDDING_BAG
from gradkernels.hooks.bilinear import BILINEAR
from gradkernels.hooks.calls import Function
from gradkernels.hooks.convolution import CONVOLUTION
from gradkernels.hooks.embedding import EMBEDDING
from gradkernels.hooks.linear import LINEAR
from gradkernels.hooks.product import PRODUCTS
from gradkernels.hooks.recurrent_kinds import Gru, Lstm, Relu, Tanh
from gradkernels.hooks.rule import ruled
from gradkernels.hooks.tape import Start
from gradkernels.hooks.transposed import TRANSPOSED

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
