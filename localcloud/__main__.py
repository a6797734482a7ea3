"""`python -m localcloud`: the same as `odcloud local`."""

from localcloud.cli import main

main()
