"""Things by name: registries, calls written as text, and names in somebody's file."""
