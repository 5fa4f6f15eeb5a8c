"""What the kernels of libraries that differentiate modules share: a copy of the model for them to work on."""
