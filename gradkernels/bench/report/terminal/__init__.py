"""What is printed on a terminal: it fits its width, keeps words whole and leaves no blanks at the ends of lines.

A command opens a console for where it prints to, and hands it tables and sentences:

1. `consoles` knows the width: of the terminal, or 80 columns of what is none, so that a file or a pipe gets what a
   screen would show; sentences are folded between words on a screen, and whole lines elsewhere;
2. `columns` leaves out the columns of a table that do not fit, the least important first, and says which; a table of
   which nothing may be left out is printed in panels instead, one below the other;
3. `styles` has the colours, which can be read on light and on dark;
4. `charset` spells out what an output has no character for.

Numbers are written by `gradkernels.bench.report.units`.
"""
