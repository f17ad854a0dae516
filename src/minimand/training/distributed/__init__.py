"""Training by several processes, in the words of torch.distributed."""
