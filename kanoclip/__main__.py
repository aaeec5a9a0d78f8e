"""`python -m kanoclip` is the command line."""

from kanoclip.cli import main

main()
