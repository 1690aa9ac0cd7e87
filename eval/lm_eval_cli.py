"""The command line of lm-eval, with the models `wrpo-hf` and `wrpo-vllm`.

Run     python -m eval.lm_eval_cli run --model wrpo-hf --model_args pretrained=DIR --tasks ...

They take the arguments of lm-eval's `hf` and `vllm`, and chat_template=FILE and fold_system=True.
Prompt ids and stop ids are those of training and sampling.
"""

from __future__ import annotations

MODELS = {
    "wrpo-hf": "eval.harness.hf:ChatHFLM",
    "wrpo-vllm": "eval.harness.vllm:ChatVLLM",
}


def register_models() -> None:
    """Makes lm-eval know the models by name, in this process."""
    import lm_eval.models  # noqa: F401  (fills the registry first)
    from lm_eval.api.registry import model_registry

    for name, target in MODELS.items():
        if name not in model_registry:
            model_registry.register(name, target=target)


def main() -> None:
    """Hands the command line to lm-eval."""
    from lm_eval.__main__ import cli_evaluate

    register_models()
    cli_evaluate()


if __name__ == "__main__":
    main()
