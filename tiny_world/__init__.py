"""The tiny world: small models, prompts and an evaluation task made from nothing, for the demo.

    python -m tiny_world --seed 1 --out runs/tiny-world/seed-1

world.py     six skills, their right answers and systematic mistakes, disjoint splits
checker.py   answer formats, house style and the true reward
habits.py    how a model that is being made answers: what it knows, which form it likes
tokenizers.py, architectures.py   four tokenizers with chat templates, five model configurations
training.py  the two training loops
lm_eval_task.py   the evaluation task
build.py     everything together, with a manifest
"""
