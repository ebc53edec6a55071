"""`python -m thalweg` is the `thalweg` command, by this interpreter."""

from thalweg.cli import main

main()
