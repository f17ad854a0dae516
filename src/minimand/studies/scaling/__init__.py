"""Studies of scaling rules: settings that carry over to other widths, depths and skeletons."""
