"""Programs in responses: which text is the program, which tests it must pass, and the proof.

fences.py      code blocks of Markdown, in linear time
names.py       the names that Python code defines, and those that it uses
extract.py     the block, or the blocks, that make the program
layouts.py     tests as HumanEval, MBPP, APPS and LiveCodeBench lay them out
assertions.py  test code that proves that its assertions ran
cases.py       single tests, run in the sandbox
driver.py      what runs in the sandbox: the program, then its tests
"""
