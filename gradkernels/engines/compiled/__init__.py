"""What torch.compile makes of modules: the gradient of one sample's loss under vmap, compiled whole."""
