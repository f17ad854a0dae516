"""timm and torchvision (extra `vision`) beside minimand: `import minimand.vision` makes both ready.

torchvision's wheels need CUDA libraries, so that beside a CPU build of torch its import, and that of timm, fails; after
`import minimand.vision` both can be imported. And minimand's unrolled models of images are in timm's registry then:
`timm.create_model("apg2_convnext_tiny")`. They are too where minimand is imported after timm.
"""

from ._support.torch.torchvision import require_timm
from .models.timm_registry import register_in_timm

require_timm()
register_in_timm()
