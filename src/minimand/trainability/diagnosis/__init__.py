"""Why a network does not train: the verdict, its evidence and the remedy."""
