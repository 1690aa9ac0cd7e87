"""What a run will cost before it starts: tokens, GPU hours, dollars and memory of each stage.

throughput.py       the table of speeds and prices, and what sampling has measured
shapes.py           size and shape of a model, from its files or from its size alone
volumes.py          prompts, responses and their lengths, from the run as far as it is
questions.py        questions of benchmarks, from the suites and question files
facts.py            all of these for one recipe and one kind of GPU

arithmetic.py       the formulas: operations and bytes, as pure functions
memory.py           memory per GPU of sampling, scoring and training
work.py             what a stage computes, added up with the lines that explain it
sampling_work.py    the work of sampling
pass_work.py        the work of scoring, log-probs and training
evaluation_work.py  the work of benchmarks, and of responses and verdicts of judged ones
judge_work.py       the calls of a judge
price.py            the price of a stage and its terms
estimate.py         which work a stage is, and how much of it is left

amounts.py          amounts as they are shown, so that sums agree
explanation.py      the arithmetic in words, for `--explain`
view.py             the plan as text
plan_json.py        the plan for scripts
"""
