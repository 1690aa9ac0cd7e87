"""The recipe: one typed schema in pipeline order.

Unknown keys are refused. Fields under `engine:` only decide how fast a stage runs; all others
decide its result and are part of the stage's key.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    Field,
    create_model,
    field_validator,
    model_validator,
)

from wrpo.alpha import AlphaSchedule
from wrpo.fusion import FusionRule
from wrpo.loss_options import LikelihoodOn, PreferenceLoss, loss_problem
from wrpo.recipe.import_sections import Imported
from wrpo.recipe.prompt_sections import Prompts
from wrpo.recipe.section import Section, Share
from wrpo.truncation import Limits

TARGET = "target"
"""The name under which the SFT model is sampled and scored, like one more source."""


def _optional(section: type[Section], name: str) -> Any:
    """The same fields, each of them optional: what a source or the target overrides."""
    fields: dict[str, Any] = {}
    for key, info in section.model_fields.items():
        constrained: Any = info.annotation
        for constraint in info.metadata:
            constrained = Annotated[constrained, constraint]
        fields[key] = (constrained | None, Field(default=None, description=info.description))
    return create_model(name, __base__=Section, __doc__=section.__doc__, **fields)


class Sampling(Section):
    """How answers are drawn; nothing is taken from a model's own generation_config.json."""

    responses: int = Field(5, ge=1, description="Answers per prompt.")
    temperature: float = Field(0.8, ge=0.0, description="0 is greedy.")
    top_p: float = Field(0.95, gt=0.0, le=1.0, description="Nucleus mass; 1 is off.")
    top_k: int = Field(0, ge=0, description="Candidates kept per token; 0 is off.")
    min_p: float = Field(0.0, ge=0.0, le=1.0, description="Floor relative to the best token.")
    repetition_penalty: float = Field(1.0, gt=0.0, description="1 is off.")
    presence_penalty: float = Field(0.0, description="0 is off.")
    frequency_penalty: float = Field(0.0, description="0 is off.")
    max_tokens: int = Field(4096, ge=1, description="Longest answer in tokens of the source.")
    keep_logprobs: bool = Field(False, description="Keep the log-prob sum of each answer.")


def _is_base_url(url: str) -> str:
    if not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s@?#]*)?", url):
        raise ValueError(
            "must be the base URL of a server, like http://host:8000/v1, without user name, key or "
            "query; api_key_env names the variable that holds a key"
        )
    return url.rstrip("/")


def _is_variable_name(name: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise ValueError(
            "names the environment variable that holds the key, like OPENAI_API_KEY; a recipe "
            "never holds the key itself"
        )
    return name


BaseURL = Annotated[str, AfterValidator(_is_base_url)]
VariableName = Annotated[str, AfterValidator(_is_variable_name)]


class Engine(Section):
    """How sampling runs; no field here changes what is asked of the model.

    The one exception is `api: chat`, where the server makes the prompt with its own template.
    """

    backend: Literal["vllm", "openai", "transformers"] = Field(
        "vllm",
        description="vllm: in this process; openai: servers with that API; transformers: slow, for "
        "models that vLLM lacks. Seeds are honoured by each; equal answers are only promised by "
        "temperature 0.",
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs per replica.")
    pipeline_parallel_size: int = Field(1, ge=1, description="Pipeline stages per replica.")
    gpu_memory_utilization: float = Field(0.9, gt=0.0, le=1.0, description="Share of GPU memory.")
    max_num_seqs: int = Field(256, ge=1, description="Sequences decoded together.")
    enforce_eager: bool = Field(False, description="Skip graph capture and compilation.")
    kv_cache_mib: int | None = Field(None, ge=1, description="KV cache size; unset: the engine's.")
    prefix_caching: bool = Field(True, description="Share the KV cache of equal prompts.")
    endpoints: list[BaseURL] = Field(
        default_factory=list, description="openai: base URLs of servers of one and the same model."
    )
    api: Literal["completions", "chat"] = Field(
        "completions",
        description="openai: completions sends token ids (vLLM, SGLang); chat sends messages, for "
        "hosted models whose tokenizer is not at hand.",
    )
    served_model: str | None = Field(
        None, description="openai: the model's name on the server; unset: `model`."
    )
    api_key_env: VariableName | None = Field(
        None, description="openai: environment variable that holds the API key; unset: no key."
    )
    concurrency: int = Field(64, ge=1, description="openai: requests in flight per endpoint.")
    request_timeout_s: float = Field(
        3600.0, gt=0.0, description="openai: seconds until a request is sent again."
    )
    retries: int = Field(
        8, ge=0, description="openai: failures of one request before the stage stops."
    )

    @property
    def sends_messages(self) -> bool:
        """Whether the server renders the chat, so that no tokenizer is needed here."""
        return self.backend == "openai" and self.api == "chat"


if TYPE_CHECKING:  # type checkers see the fields; at run time each of them may be unset
    SamplingOverride = Sampling
    EngineOverride = Engine
else:
    SamplingOverride = _optional(Sampling, "SamplingOverride")
    EngineOverride = _optional(Engine, "EngineOverride")


class Model(Section):
    """A language model: a source, or the target."""

    model: str = Field(description="Hub id, or folder of a local checkpoint.")
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Precision of the weights while sampling."
    )
    quantization: str | None = Field(None, description="vLLM quantisation method, e.g. fp8.")
    chat_template: Path | None = Field(None, description="Jinja file used instead of the model's.")
    fold_system: bool = Field(
        False, description="Put the system text into the first user turn (templates without one)."
    )
    trust_remote_code: bool = Field(False, description="Run Python code from the model's folder.")
    parameters_b: float | None = Field(None, gt=0, description="Size in billions, for planning.")
    sampling: SamplingOverride = Field(
        default_factory=SamplingOverride, description="What differs from `sample` for this model."
    )
    engine: EngineOverride = Field(
        default_factory=EngineOverride, description="What differs from `sample.engine`."
    )


class Sample(Sampling):
    """Sampling of every model; `target` and each source may override."""

    target: SamplingOverride = Field(
        default_factory=SamplingOverride, description="What differs for the SFT target."
    )
    max_prompt_tokens: int = Field(1800, ge=1, description="Longer prompts are dropped.")
    chunk_prompts: int = Field(256, ge=1, description="Prompts per part file: the unit of resume.")
    max_dropped_share: Share = Field(0.2, description="The stage stops above this share.")
    engine: Engine = Field(default_factory=Engine, description="Speed only.")


class ScoringEngine(Section):
    """How fast scoring runs."""

    batch_tokens: int = Field(16384, ge=1, description="Tokens per forward pass.")


class ModelReward(Section):
    """What rewards by a model of conversations share."""

    model: str = Field(description="Hub id, or folder of a local checkpoint.")
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="Precision of the weights; linear heads run in float32."
    )
    chat_template: Path | None = Field(None, description="Jinja file used instead of the model's.")
    fold_system: bool = Field(False, description="Put the system text into the first user turn.")
    max_tokens: int = Field(4096, ge=1, description="Longer conversations are dropped.")
    weight: float = Field(1.0, description="Factor of this reward in the combined score.")
    engine: ScoringEngine = Field(default_factory=ScoringEngine, description="Speed only.")


class ClassifierReward(ModelReward):
    """A sequence-classification reward model with one label; its raw logit is the score."""

    type: Literal["classifier"]
    trust_remote_code: bool = Field(False, description="Run Python code from the model's folder.")


class ArmoRMReward(ModelReward):
    """RLHFlow/ArmoRM-Llama3-8B-v0.1, or a checkpoint of that shape; runs no code of its own."""

    type: Literal["armorm"]


class AnswerReward(Section):
    """A programmatic verifier: 1 when the extracted answer equals the gold answer, else 0."""

    type: Literal["answer"]
    pattern: str = Field(
        r"(?s)(?P<answer>.*)", description="Regular expression with a group named `answer`."
    )
    ignore_case: bool = Field(False, description="Compare without regard to case.")
    weight: float = Field(1.0, description="Factor of this reward in the combined score.")

    @field_validator("pattern")
    @classmethod
    def _has_answer_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if "answer" not in groups:
            raise ValueError("must hold a group named answer: (?P<answer>...)")
        return pattern


class CodeEngine(Section):
    """How fast programs are tested."""

    workers: int = Field(4, ge=1, description="Programs that run at the same time.")


class CodeReward(Section):
    """Unit tests: the gold answer holds assertions, or inputs and outputs, as code or JSON."""

    type: Literal["code"]
    partial: bool = Field(False, description="The share of passed tests; else all or nothing.")
    cpu_s: int = Field(5, ge=1, description="CPU time of one test, in seconds.")
    wall_s: float = Field(15.0, gt=0.0, description="Time of one test, in seconds.")
    memory_mib: int = Field(1024, ge=64, description="Address space of a program.")
    sandbox: Literal["bubblewrap", "none-i-accept-the-risk"] = Field(
        "bubblewrap",
        description="none-i-accept-the-risk: answers run with the rights of the user, with limits.",
    )
    weight: float = Field(1.0, description="Factor of this reward in the combined score.")
    engine: CodeEngine = Field(default_factory=CodeEngine, description="Speed only.")


class MathReward(Section):
    """Mathematical equality with the gold answer, by math-verify."""

    type: Literal["math"]
    timeout_s: int = Field(5, ge=1, description="For parsing and for comparing, in seconds.")
    weight: float = Field(1.0, description="Factor of this reward in the combined score.")


class InstructionReward(Section):
    """Checks of form, which the gold answer names as a JSON list: [{"min_words": 50}, ...]."""

    type: Literal["instruction"]
    partial: bool = Field(False, description="The share of passed checks; else all or nothing.")
    weight: float = Field(1.0, description="Factor of this reward in the combined score.")


Reward = Annotated[
    ClassifierReward | ArmoRMReward | AnswerReward | CodeReward | MathReward | InstructionReward,
    Field(discriminator="type"),
]
REWARD_TYPES = {
    get_args(kind.model_fields["type"].annotation)[0] for kind in get_args(get_args(Reward)[0])
}


class PairRules(Section):
    """Same-source preference pairs (FuseChat-3.0)."""

    min_gap: float = Field(0.01, ge=0.0, description="Smallest score(chosen) - score(rejected).")
    max_gap: float | None = Field(0.1, description="Largest gap; null: no limit.")


class Score(Section):
    """How scoring deals with bad rows."""

    max_dropped_share: Share = Field(0.2, description="The stage stops above this share.")


class Build(Section):
    """How scored answers become training rows."""

    min_gap: float = Field(
        0.0,
        ge=0.0,
        description="Triples need score(y_wt) - score(y_l) above this; ties never pass.",
    )
    pairs: PairRules = Field(default_factory=PairRules, description="Rules of same-source pairs.")
    imported: Imported = Field(
        default_factory=Imported, description="Tables read as they are, instead of built."
    )


class Lora(Section):
    """Low-rank adapters instead of full fine-tuning (PEFT's LoraConfig)."""

    r: int = Field(16, ge=1, description="Rank.")
    lora_alpha: int = Field(32, ge=1, description="Scale.")
    lora_dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout on adapter inputs.")
    target_modules: str | list[str] = Field("all-linear", description="Modules that get adapters.")
    quantize: Literal["nf4", "int8"] | None = Field(
        None,
        description="Keep the base weights quantised while training (QLoRA); the saved model is "
        "in full precision.",
    )


class TrainingEngine(Section):
    """How fast training runs; the global batch stays what the recipe says."""

    per_device_batch_size: int = Field(1, ge=1, description="Rows per device and forward pass.")
    attention: str | None = Field(
        None, description="Attention kernel, e.g. flash_attention_2; unset: transformers' choice."
    )
    accelerate: Path | None = Field(
        None, description="Accelerate config file; the stage then starts under accelerate launch."
    )
    processes: int | None = Field(
        None, ge=1, description="Processes to launch; unset: what the accelerate config says."
    )


class PreferenceEngine(TrainingEngine):
    """How fast preference training runs."""

    balance_micro_batches: bool = Field(
        True,
        description="Equal numbers of tokens instead of prompts per forward pass (not objective "
        "sft); the prompts of an optimizer step stay the same.",
    )


class Training(Section):
    """What SFT and preference training share."""

    global_batch_size: int = Field(128, ge=1, description="Prompts per optimizer step, over all.")
    train: dict[str, Any] = Field(default_factory=dict, description="TRL's own keys.")
    lora: Lora | None = Field(None, description="Train adapters; unset: all weights.")
    engine: TrainingEngine = Field(default_factory=TrainingEngine, description="Speed only.")


class SFT(Training):
    """Supervised fine-tuning of the target on the best source answers."""


class Alpha(Section):
    """The fusion coefficient: the weight of the source answer in the preferred reward."""

    start: Share = Field(0.0, description="Value at the first update.")
    end: Share = Field(0.1, description="Value at the end of training.")
    schedule: AlphaSchedule = Field(
        "linear",
        description="linear or cosine: start to end over the steps; constant: always end.",
    )


class Likelihood(Section):
    """Optional negative log-likelihood of a preferred answer, added to the preference loss."""

    weight: float = Field(0.0, ge=0.0, description="Factor of the term; 0 is off.")
    on: LikelihoodOn = Field(
        "better", description="Which preferred answer; better: the higher scored of the two."
    )


class Fusion(Section):
    """How `reference: fused` joins the initial policy and the sources (InfiFPO)."""

    rule: FusionRule = Field(
        "max_margin",
        description="max_margin: the source that differs most; average; confidence: weighted mean.",
    )
    clip: bool = Field(
        True, description="Never below the initial policy where preferred, nor above it elsewhere."
    )


class CGPO(Section):
    """Consensus-guided preference optimisation: its own weights, and those of the sources."""

    desirable_weight: float = Field(1.2, ge=0.0, description="Factor of the preferred answers.")
    undesirable_weight: float = Field(1.0, ge=0.0, description="Factor of the rejected answer.")
    warmup_start: int = Field(0, ge=0, description="Optimizer steps before that factor grows.")
    warmup_steps: int = Field(100, ge=0, description="Optimizer steps until it is there.")
    weighting: Literal["entropy", "uniform"] = Field(
        "entropy", description="entropy: sources surer than usual weigh more; uniform: all alike."
    )
    temperature: float = Field(0.8, gt=0.0, description="Softness of the sources' weights.")
    floor: float = Field(0.02, ge=0.0, lt=1.0, description="Least weight of a source.")


class Preference(Training):
    """The preference stage: WRPO, or a baseline on the same rows."""

    objective: Literal["wrpo", "dpo", "cgpo", "sft"] = Field(
        "wrpo",
        description="wrpo or cgpo on triples; dpo on (chosen, rejected); sft on the preferred one.",
    )
    data: Literal["triples", "pairs"] = Field("triples", description="Which table to train on.")
    loss: PreferenceLoss = Field(
        "sigmoid",
        description="Loss of wrpo and dpo: sigmoid; sigmoid_norm, length-normalised; hinge; ipo.",
    )
    beta: float = Field(0.01, gt=0.0, description="Scale of the implicit reward.")
    margin: float = Field(0.0, ge=0.0, description="What the scaled difference must exceed.")
    label_smoothing: float = Field(0.0, ge=0.0, lt=0.5, description="Share of flipped labels.")
    alpha: Alpha = Field(default_factory=Alpha, description="The fusion coefficient.")
    likelihood: Likelihood = Field(default_factory=Likelihood, description="Optional anchor.")
    sft_on: Literal["source_chosen", "chosen", "better"] = Field(
        "source_chosen", description="Which answer objective sft trains on."
    )
    reference: Literal["precomputed", "model", "fused", "none"] = Field(
        "precomputed",
        description="precomputed: log-probs of the SFT model from a table; model: keep it loaded; "
        "fused: of the SFT model and the sources (InfiFPO); none: reference-free.",
    )
    fusion: Fusion = Field(default_factory=Fusion, description="For reference: fused.")
    cgpo: CGPO = Field(default_factory=CGPO, description="For objective: cgpo.")
    engine: PreferenceEngine = Field(default_factory=PreferenceEngine, description="Speed only.")

    @model_validator(mode="after")
    def _fits_objective(self) -> Preference:
        if self.data == "pairs" and self.objective != "dpo":
            raise ValueError(f'data "pairs" fits objective "dpo", not "{self.objective}"')
        if self.objective == "cgpo" and self.reference != "precomputed":
            raise ValueError(f'objective "cgpo" needs reference precomputed, not {self.reference}')
        smoothing = self.label_smoothing
        if problem := loss_problem(self.loss, margin=self.margin, label_smoothing=smoothing):
            raise ValueError(problem)
        return self


class Truncation(Section):
    """How preference rows are cut, in tokens of the target; an answer that is cut has no end."""

    max_length: int = Field(
        2048, ge=2, description="Prompt plus answer; `sft.train.max_length` is by default the same."
    )
    max_prompt_length: int | None = Field(
        None, ge=2, description="The prompt; a longer one loses its start. Unset: whole."
    )
    max_answer_length: int | None = Field(
        None, ge=2, description="An answer; a longer one loses its tail. Unset: what is left."
    )
    mode: Literal["separate", "original"] = Field(
        "separate",
        description="separate: each answer by itself; original: as the authors' code, where one "
        "long answer cuts all of them.",
    )

    @property
    def limits(self) -> Limits:
        """The same, as the functions that cut take it."""
        return Limits(**self.model_dump())

    @model_validator(mode="after")
    def _leaves_tokens(self) -> Truncation:
        if problem := self.limits.problem():
            raise ValueError(problem)
        return self


class LogProbEngine(Section):
    """How fast log-probs are computed."""

    batch_tokens: int = Field(16384, ge=1, description="Tokens per forward pass.")
    attention: str | None = Field(
        None, description="Attention kernel, e.g. flash_attention_2; unset: transformers' choice."
    )


class LogProbs(Section):
    """Log-probs of the training answers under the SFT model and, where needed, the sources."""

    method: Literal["trainer", "vllm", "sampled"] = Field(
        "trainer",
        description="trainer: the training step's own pass; vllm: its prompt log-probs; sampled: "
        "those it gave while sampling (sample.target.keep_logprobs), the rest by the trainer.",
    )
    tolerance: float = Field(
        0.5,
        gt=0.0,
        description="Largest difference from the trainer's sum of an answer, in nats.",
    )
    check_answers: int = Field(8, ge=1, description="Answers compared before others are computed.")
    chunk_rows: int = Field(512, ge=1, description="Rows per part file.")
    engine: LogProbEngine = Field(default_factory=LogProbEngine, description="Speed only.")


class EvalEngine(Section):
    """How fast evaluation runs."""

    batch_size: int = Field(64, ge=1, description="Prompts per batch.")


class Eval(Section):
    """lm-eval runs of every model of the run."""

    tasks: list[str] = Field(default_factory=list, description="lm-eval task or group names.")
    include_path: Path | None = Field(None, description="Folder with further lm-eval tasks.")
    backend: Literal["hf", "vllm"] = Field("hf", description="lm-eval model type.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Precision of the weights."
    )
    max_length: int | None = Field(None, ge=1, description="Context length; unset: the model's.")
    limit: int | None = Field(None, ge=1, description="Only the first documents of each task.")
    metrics: list[str] = Field(default_factory=list, description="Shown first; empty: all.")
    group_by: str | None = Field(None, description="Document field the report breaks down by.")
    sources: bool = Field(True, description="Evaluate the source models too.")
    engine: EvalEngine = Field(default_factory=EvalEngine, description="Speed only.")


class Recipe(Section):
    """One run, from prompts to report."""

    run: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the run.")
    runs: Path = Field(Path("runs"), description="Folder that holds the run directories.")
    reuse: str | None = Field(
        None, description="Another run whose finished stages serve where their keys are equal."
    )
    seed: int = Field(42, ge=0, description="Seed of splits, sampling and training.")
    sources: dict[str, Model] = Field(min_length=1, description="The teachers, by name.")
    target: Model = Field(description="The model that learns.")
    prompts: Prompts
    sample: Sample = Field(default_factory=Sample)
    rewards: dict[str, Reward] = Field(min_length=1, description="Score = weighted sum of these.")
    score: Score = Field(default_factory=Score)
    build: Build = Field(default_factory=Build)
    sft: SFT = Field(default_factory=SFT)
    truncation: Truncation = Field(default_factory=Truncation)
    logprobs: LogProbs = Field(default_factory=LogProbs)
    wrpo: Preference = Field(default_factory=Preference)
    arms: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Further trained models: what differs from `wrpo`."
    )
    eval: Eval = Field(default_factory=Eval)

    @field_validator("sources", "arms")
    @classmethod
    def _names(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                raise ValueError(f'"{name}" is no name: use letters, digits, dot, dash, underscore')
            if name in (TARGET, "sft", "wrpo"):
                raise ValueError(f'"{name}" is a name of the pipeline itself; choose another')
        return named

    @model_validator(mode="after")
    def _distinct_names(self) -> Recipe:
        both = sorted(set(self.sources) & set(self.arms))
        if both:
            raise ValueError(f"{both} name both a source and an arm; rename one")
        return self

    @model_validator(mode="after")
    def _imported_answers_were_not_sampled(self) -> Recipe:
        tables = self.build.imported.tables().keys() - {"sft"}
        if tables and self.logprobs.method == "sampled":
            raise ValueError(
                f"logprobs.method sampled needs answers of this run, and build/{min(tables)} is "
                "imported; set logprobs.method to trainer"
            )
        return self
