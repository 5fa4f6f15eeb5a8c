"""Passes that need not be followed, since their graph is that of an earlier one.

1. `walk` lists what is compared of a graph: nodes, their kinds, how they hang together, and where they end.
2. `plans` makes a plan of a pass that was followed, and has the uses of another one heard at the same nodes.
3. `waiting` keeps gradients of uses until all have come, so that they are squared together by a layout known before.
"""
