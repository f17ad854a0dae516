"""Named models: one family a file, which registers its names."""

from .feedforward import alexnet_dorefa as alexnet_dorefa
from .feedforward import convnet4 as convnet4
from .feedforward import convnet8 as convnet8
from .greedy import dgl_cifar as dgl_cifar
from .greedy import greedy_cifar as greedy_cifar
from .greedy import greedy_imagenet as greedy_imagenet
from .info import ModelInfo as ModelInfo
from .info import model_info as model_info
from .named import PlainNetwork as PlainNetwork
from .network import UnrolledNetwork as UnrolledNetwork
from .registry import create_for as create_for
from .registry import create_model as create_model
from .registry import default_model as default_model
from .registry import list_models as list_models
from .scaling import Scaled as Scaled
from .scaling import scale as scale
from .weights import from_timm as from_timm
