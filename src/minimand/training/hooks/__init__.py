"""What a training step does beside the method: one hook a file, called by the loop at named moments.

Those that only watch have a room of their own.
"""
