"""The error of torchvision beside a torch without CUDA, and what mends it; no torch is needed to know it."""

MENDED = (
    "torchvision's compiled operators need CUDA libraries, which this torch has not: write `import minimand.vision` "
    "before torchvision, timm and transformers."
)


def is_torchvision_without_cuda(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, is that of torchvision beside a torch without CUDA."""
    while error is not None:
        if "torchvision::nms does not exist" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
