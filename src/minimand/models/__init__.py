"""Named models: one family a file, which registers its names; images and language have rooms of their own."""

from .info import ModelInfo as ModelInfo, model_info as model_info
from .language.from_transformers import from_transformers as from_transformers
from .named import NamedModel as NamedModel, PlainNetwork as PlainNetwork
from .network import UnrolledNetwork as UnrolledNetwork
from .registry import (
    create_for as create_for,
    create_model as create_model,
    list_models as list_models,
    model_for as model_for,
)
from .scaling import Scaled as Scaled, scale as scale
from .timm_registry import from_timm as from_timm
from .vision.equilibrium import ConvolutionalStep as ConvolutionalStep, equilibrium_cifar as equilibrium_cifar
from .vision.feedforward import alexnet_dorefa as alexnet_dorefa, convnet4 as convnet4, convnet8 as convnet8
from .vision.greedy import dgl_cifar as dgl_cifar, greedy_cifar as greedy_cifar, greedy_imagenet as greedy_imagenet
