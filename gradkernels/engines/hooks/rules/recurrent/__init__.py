"""Rules for RNN, GRU and LSTM: layers of torch and single cells.

1. `recurrent` takes a call apart into layers and directions, as torch's own calls do, projects the inputs of all steps
   at once, and runs each layer.
2. `layer.RecurrentLayer` runs the steps forward, and backward to the gradient of every step's gates; `cells` has the
   formulas of each kind. `layer.RecurrentFunction` puts a run into autograd's graph.
3. What is linear in a parameter is kept as a use: the projection of the inputs, the product with the states before
   each step, and an LSTM's projection. So the backward pass forms no weight's gradient; the uses get the gradients of
   these products for all steps, and rows follow as for linear maps with steps as a leading axis. Where the graph is
   the caller's, `callers_parameters` puts the weights into it, so that their gradients are formed there too.
4. `packing` follows samples into packed sequences and back. A layer is run on them padded, the longest first: a step
   is one of the samples that have it, and the states of the others are carried through it.
5. `steps`: single cells, which autograd follows between their two projections.

Shapes are `(t, n, ...)` inside, whatever `batch_first` says.
"""
