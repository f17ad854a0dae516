"""A small language model of Python's own library, two skeletons side by side, and what they write.

    python examples/language_model.py [windows]

An epoch has so many windows of 64 characters: 4,096 by default, which is two minutes on one core.
"""

import sys
import tempfile

import torch

import minimand as mm

# The text is on every machine: the sources of the running Python's standard library.
windows = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
data = mm.load_data("python_stdlib", windows=windows, test_windows=128)
print(data)

for algorithm in ("gradient_descent", "heavy_ball"):
    # A layer of GPT-2 is two steps of gradient descent, attention's and the map's; heavy ball adds momentum to both.
    torch.manual_seed(0)
    model = mm.create_model("gpt_nano", algorithm, num_tokens=data.num_outputs, context=64)
    run = tempfile.mkdtemp()
    result = mm.fit(model, data, run=run, recipe=mm.recipe("nanogpt", epochs=1, batch_size=32))

    # The tokens differ from text to text; bits a byte can be compared between them.
    last = result.history[-1]
    print(f"{algorithm}: {last['bits_per_byte']:.3f} bits a byte, {last['tokens']:,} tokens seen")

    # The run keeps the tokenizer, so that it can be asked later, by another program or `minimand generate`.
    print(mm.load(run).generate("def ", tokens=100, temperature=0.8, seed=0))
