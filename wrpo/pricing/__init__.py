"""What a run will cost before it starts: tokens, GPU hours, dollars and memory of each stage.

throughput.py  the table of speeds and prices, and what sampling has measured
shapes.py      size and shape of a model, from its files or from its size alone
arithmetic.py  the formulas: operations and bytes, as pure functions
volumes.py     prompts, answers and their lengths, from the run as far as it is
memory.py      memory per GPU of sampling, scoring and training
estimate.py    all of it together, for one stage
view.py        as text and as JSON
"""
