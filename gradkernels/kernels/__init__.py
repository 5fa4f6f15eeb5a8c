"""The ways: one module per way. A new module here is found by the registry; nothing else needs an edit.

Modules load with the registry, so they import their array library inside the builder.
"""
