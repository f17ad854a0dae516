"""Many runs: their queue, and the workers that do them here, in other processes or on a cluster."""
