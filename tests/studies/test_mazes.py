"""The study of mazes: its mazes, and its network."""

import torch
import torch.nn.functional as F

from minimand.networks import count_parameters
from minimand.studies.equilibria.mazes import STUDY, Reasoner, judged, mazes


def test_a_maze_has_one_path_from_start_to_goal() -> None:
    images, paths = mazes(4, 20, 0)
    again = mazes(4, 20, 0)
    assert torch.equal(images, again[0])
    assert not torch.equal(images, mazes(4, 20, 1)[0])
    walls, start, goal = images.unbind(1)
    assert torch.equal((1 - walls).flatten(1).sum(1), torch.full((20,), 4.0 * 4 + 15))  # a tree: no loops, all reached
    assert not bool((walls * paths).any())
    cross = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]).view(1, 1, 3, 3)
    neighbours = F.conv2d(paths.float().unsqueeze(1), cross, padding=1).squeeze(1)
    ends = (start + goal).bool()
    assert bool((neighbours[ends] == 1).all())
    assert bool((neighbours[paths.bool() & ~ends] == 2).all())


def test_the_reasoner_is_small_and_is_judged_by_whole_mazes() -> None:
    width = max(cell["width"] for scale in ("smoke", "cpu") for cell in STUDY.cells_at(scale))
    assert count_parameters(Reasoner(width, "implicit")) <= 50_000
    torch.manual_seed(0)
    model = Reasoner(8, "implicit")
    images, paths = mazes(2, 6, 0)
    right, solution = judged(model, images, paths, 40)
    predicted = model(images).argmax(1)
    assert [bool((a == b).all()) for a, b in zip(predicted, paths, strict=True)] == right.tolist()
    assert solution.result != "diverged"
