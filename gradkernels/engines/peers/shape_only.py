"""Functions of torch that send data to places which depend on the shapes of their arguments alone."""

from __future__ import annotations

from typing import Any

from gradkernels.engines.hooks.arguments import function_name
from gradkernels.engines.hooks.capture.follow.pointwise import BINARY, DUNDER, UNARY

SHAPES = """
view view_as reshape reshape_as flatten unflatten ravel squeeze unsqueeze expand expand_as permute transpose swapaxes
swapdims movedim moveaxis t T mT H mH adjoint cat concat concatenate stack hstack vstack split chunk
unbind repeat tile broadcast_to broadcast_tensors roll flip select unfold
contiguous __len__ atleast_1d atleast_2d
"""
ALONG = """
sum mean amax amin prod std var logsumexp norm linalg_vector_norm linalg_norm cumsum softmax log_softmax normalize glu
cosine_similarity max min
"""
LAYER_NAMES = """
linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d layer_norm rms_norm group_norm
batch_norm instance_norm local_response_norm avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d
boolean_dispatch adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
adaptive_max_pool3d pad interpolate pixel_shuffle pixel_unshuffle matmul mm bmm mv addmm baddbmm __matmul__ einsum
scaled_dot_product_attention multi_head_attention_forward lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell
rnn_relu_cell
"""
CREATED = """
zeros ones full empty arange zeros_like ones_like full_like empty_like new_zeros new_ones new_full new_empty eye
"""
QUIET = """
shape dtype device ndim layout requires_grad is_leaf grad_fn is_cuda is_cpu is_mps is_xpu is_meta is_sparse
is_quantized is_nested names size dim numel nelement stride storage_offset is_contiguous is_floating_point is_complex
is_inference element_size itemsize nbytes get_device type __hash__ _version data is_cuda is_autocast_enabled
"""
_MOVING = """
index index_put _unsafe_index _index_put_impl index_select index_add index_copy index_fill gather scatter scatter_add
scatter_reduce put take masked_select masked_scatter nonzero sort argsort msort topk kthvalue unique unique2
unique_consecutive _unique2 unique_dim searchsorted bucketize _pack_padded_sequence _pad_packed_sequence
repeat_interleave _local_scalar_dense equal is_nonzero grid_sampler_2d grid_sampler_3d
"""
MOVING = frozenset(_MOVING.split())
"""Operations below the functions, by which code that Python does not see places data by what other data hold."""

_NAMES = frozenset(f"{UNARY} {BINARY} {DUNDER} {SHAPES} {ALONG} {LAYER_NAMES} {CREATED} {QUIET}".split())


def moves_by_shape(function: Any, args: Any) -> bool:
    """Return whether a call is one of these: neither does it look at data to place others, nor does Python see them.

    Args:
        function: What is called.
        args: Its arguments by position.
    """
    name = function_name(function)
    if name == "__getitem__":
        return _basic(args[1])
    if name == "embedding":
        return len(args) > 1 and args[1].is_leaf
    return name in _NAMES or (name.endswith("_") and not name.endswith("__") and name[:-1] in _NAMES)


def _basic(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    bounds = [bound for part in parts for bound in _bounds(part)]
    return all(bound is None or bound is Ellipsis or type(bound) is int for bound in bounds)


def _bounds(part: Any) -> tuple[Any, ...]:
    return (part.start, part.stop, part.step) if isinstance(part, slice) else (part,)
