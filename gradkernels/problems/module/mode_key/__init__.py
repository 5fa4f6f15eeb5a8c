"""What computing a module depends on besides the values of its tensors, as one key.

What is built, proven or recorded for a model holds as long as this key stays: modes, hooks, frozen and shared
parameters, attributes that the forward pass may read. It is asked for at every call, so it must be cheap.

- `tracker` walks the model once, then notices what changed and makes the key.
- `held_objects` finds modules in lists, and objects such as a configuration, which the walk takes in.
- `attributes` makes a module's attribute a part of it: plain values by value, other objects by who they are.
- `counters` leaves out what is another at each step, such as a count of steps or a weight on a schedule.
- `outer_values` finds what code reads besides attributes: globals, class attributes, variables of enclosing functions.
- `identity` names the loss: a class with its settings, a function by its code.

Where the key changes, the next call proves and records anew.
"""
