"""Where training starts, and why it fails."""
