"""A file for each kind of thing that another package may bring to minimand, and the name of the thing in it."""

BROUGHT = {
    "algorithms": (
        "Halved",
        """
        import minimand as mm

        class Halved(mm.algorithms.HeavyBall):
            '''A heavy ball with little momentum.'''
            momentum: mm.Coefficient = 0.25
        """,
    ),
    "methods": (
        "Doubled",
        """
        from dataclasses import dataclass
        from minimand.training.methods.method import Method, chain_rule

        @dataclass(frozen=True)
        class Doubled(Method):
            '''Backpropagation with gradients of a factor.'''
            factor: float = 2.0

            def backward(self, model, x, y, loss):
                result = chain_rule(model, x, y, loss)
                for parameter in model.parameters():
                    parameter.grad *= self.factor
                return result
        """,
    ),
    "schemes": (
        "tiny",
        """
        def tiny(job, std=1e-3):
            '''All weights with one small standard deviation.'''
            for layer in job.layers:
                job.fill(layer, f"std {std:g}", job.normal(std))
        """,
    ),
    "normalizations": (
        "Single",
        """
        from torch import nn
        from minimand.surgery.normalizations import BetweenLayers

        class Single(BetweenLayers):
            '''Group normalization with one group.'''
            makes = (nn.GroupNorm,)

            def module(self, place):
                return place.channels_first(place.like(nn.GroupNorm, 1, place.channels))
        """,
    ),
    "blocks": (
        "FAMILY",
        """
        from torch import nn
        from minimand.blocks.registry import BlockFamily

        def linear(width):
            '''A linear map.'''
            return nn.Linear(width, width)

        FAMILY = BlockFamily(linear, (2, 8), {"width": 8})
        """,
    ),
    "models": (
        "INFO",
        """
        from torch import nn
        from minimand.models.info import ModelInfo

        def build(num_classes, in_channels, width):
            return nn.Sequential(nn.Linear(in_channels, width), nn.ReLU(), nn.Linear(width, num_classes))

        INFO = ModelInfo("scratch_models", "one hidden layer", build, {"width": 8}, None, (), takes_vectors=True)
        """,
    ),
    "data": (
        "DATA_SET",
        """
        import torch
        from minimand.data.data import Data
        from minimand.data.registry import DataSet
        from minimand.data.samples import Arrays

        def signs(samples=64):
            '''The sign of the first of two numbers.'''
            points = torch.randn(samples, 2, generator=torch.Generator().manual_seed(0))
            arrays = Arrays(points, (points[:, 0] > 0).long())
            return Data("signs", arrays, arrays, (2,), classes=("below", "above"), source="drawn")

        DATA_SET = DataSet(signs)
        """,
    ),
    "recipes": (
        "slow",
        """
        import minimand as mm

        def slow(epochs=3):
            '''Few epochs at a low rate.'''
            return mm.Recipe(epochs, optimizer=mm.SGD(1e-3))
        """,
    ),
    "studies": (
        "STUDY",
        """
        from minimand.experiments.study import Column, Study

        STUDY = Study(
            "scratch_studies", "Squares of numbers", "No source.", (),
            cells=lambda scale: [{"number": number} for number in (1, 2)],
            measure=lambda cell, seed, bench: {"square": cell["number"] ** 2},
            labels=("number",),
            columns=(Column("square", "square"),),
            published=None,
        )
        """,
    ),
    "commands": (
        "Greet",
        """
        from dataclasses import dataclass

        @dataclass(frozen=True)
        class Greet:
            '''Say good day to somebody.'''
            name: str = "you"
            '''The name of whom to greet.'''

            def __call__(self, console):
                console.print(f"good day, {self.name}")
        """,
    ),
}
