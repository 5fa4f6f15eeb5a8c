"""Passes that need not be followed, since their graph is that of an earlier one.

A first pass is followed operation by operation, which costs more than computing; of a later one it is enough to see
that the nodes of autograd's graph are the same and hang together in the same way, and that the model asked its tensors
the same questions.

1. `walk` lists what is compared of a graph: nodes, their kinds, how they hang together, and where they end.
2. `plans` makes a plan of a pass that was followed, and has the uses of another one heard at the same nodes.
3. `waiting` keeps gradients of uses until all have come, so that they are squared together by a layout known before.
4. `written` tells whether what layers have kept of a pass is still what it was when it is computed with.
"""
