"""What every package may use and nobody outside: errors, checks, files, tables, optional packages, the registry."""
