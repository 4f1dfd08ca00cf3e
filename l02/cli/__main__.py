"""`python -m l02.cli`, for where the `l02` script is not on the path."""

from l02.cli import main

main()
