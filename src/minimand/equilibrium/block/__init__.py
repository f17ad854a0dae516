"""The block of an equilibrium: what it makes of a batch's equations, and what is known of their solutions."""
