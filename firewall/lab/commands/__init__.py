"""Commands of `firewall lab`, one group a file. Nothing heavy is imported before a command is run."""
