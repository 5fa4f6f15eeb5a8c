"""What the hand-written ways of regressions share: closed forms in blocks of rows, and compiling them per shape."""
