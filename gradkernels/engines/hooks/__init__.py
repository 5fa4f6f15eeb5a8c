"""Per-sample gradients of any module from one forward and one backward pass: the ways called `torch.hooks`.

Every call of a torch function in a model's forward pass is seen (`tape`). A call that brings a parameter and data
together is a boundary: its output's gradient, which the backward pass gives for all samples at once, and its inputs
determine the gradient of the parameter for each sample. For the usual layers a rule says how, without a second
forward pass (`rules`, after Goodfellow 2015, arXiv:1510.01799; Rochette et al. 2019, arXiv:1912.06015, for
convolutions); any other call is differentiated alone, by `torch.func.vmap` of its own vjp (`rules.anything`).

Where the samples are in each tensor, and which calls are boundaries, is found by running the model on two and on
three samples (`probe`); what is done with the gradients as they arrive depends on the quantity (`consumers`).
"""
