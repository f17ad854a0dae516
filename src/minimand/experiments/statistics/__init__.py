"""What seeds show: plans, paired differences, verdicts, and the samples that are held out."""
