"""`python -m firewall` is the `firewall` command."""

from firewall.cli import main

main()
