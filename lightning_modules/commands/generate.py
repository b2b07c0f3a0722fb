"""``trellis generate``: text, images or points from the generative model of a checkpoint."""

import argparse
from typing import TYPE_CHECKING, Any

from trellis.lightning_modules.commands.checkpoint_parser import checkpoint_parser
from trellis.lightning_modules.commands.generate_samples import (
    Given,
    check_output,
    write_samples,
)

if TYPE_CHECKING:
    from trellis.sequence.tokenizer import Tokenizer

# Options of one kind of model only, with their defaults.
TEXT: dict[str, Any] = {
    "prompt": "",
    "max_new_tokens": 200,
    "temperature": 1.0,
    "top_k": None,
    "top_p": None,
    "min_p": None,
    "no_repeat_ngram_size": None,
}
SAMPLES: dict[str, Any] = {"output": None, "label": None, "context": None}


def main(words: list[str]) -> None:
    """Print a language model's continuations of a prompt, or write another model's samples.

    Raises:
        ValueError: an objective that cannot generate, an option of another kind of model, no
            tokenizer, a prompt that cannot be encoded, or an output file that already exists.
    """
    args = _parser().parse_args(words[1:])
    path = check_output(args.output)
    # These imports take seconds; a wrong option is reported without them.
    from trellis.lightning_modules.commands.text_models import load_on
    from trellis.lightning_modules.generative.sampling import can_sample
    from trellis.lightning_modules.sequence.language_modelling import LanguageModelling

    model = load_on(args.checkpoint, args.device)
    if isinstance(model, LanguageModelling):
        _only(args, model, TEXT, SAMPLES)
        _write_text(model, args)
    elif can_sample(model):
        _only(args, model, SAMPLES, TEXT)
        given = Given(args.label, args.context)
        write_samples(model, path, _number(args, 64), given, args.seed)
    else:
        raise ValueError(
            f"{args.checkpoint} holds {type(model).__name__}, which cannot generate: give a "
            f"CausalLM, or an objective that draws samples, such as DensityEstimation, "
            f"Variational or GAN"
        )


def _parser() -> argparse.ArgumentParser:
    samplers = "an objective that draws samples, such as DensityEstimation, Variational or GAN"
    parser = checkpoint_parser("generate", __doc__, f"of a CausalLM, or of {samplers}")
    add = parser.add_argument
    add("--num", "--num_samples", type=int, help="texts (1) or samples (64)")
    add("--seed", type=int, default=0, help="of the random numbers (0)")
    add = parser.add_argument_group("text").add_argument
    add("--prompt", help="start of the text; by default a line break or, if the vocabulary has "
        "none, its token for the beginning of a sequence")  # fmt: skip
    add("--max_new_tokens", type=int, help="tokens to generate (200)")
    add("--temperature", type=float, help="of the softmax; below 1 favours probable tokens, 0 is "
        "greedy search (1)")  # fmt: skip
    add("--top_k", type=int, help="sample from this many of the most probable tokens")
    add("--top_p", type=float, help="sample from the fewest tokens with this total probability")
    add("--min_p", type=float, help="sample from the tokens at least this share as probable as "
        "the most probable one")  # fmt: skip
    add("--no_repeat_ngram_size", type=int, help="write no sequence of this many tokens twice")
    add = parser.add_argument_group("images and points").add_argument
    add("--output", help="a picture (.png .jpg .pdf .svg) or a tensor (.pt .npy); by default "
        "samples.png, or samples_2.png and so on if that exists")  # fmt: skip
    add("--label", help="class to draw, by name or number; by default all, equally often")
    add("--context", type=float, nargs="+", metavar="NUMBER", help="real targets to draw for, if "
        "the model that is conditional on those: an observation, for a posterior")  # fmt: skip
    return parser


def _only(
    args: argparse.Namespace, model: Any, taken: dict[str, Any], refused: dict[str, Any]
) -> None:
    """Refuse options of another kind of model; give those of this kind their defaults."""
    for name in refused:
        if getattr(args, name) is not None:
            raise ValueError(
                f"--{name} is not an option of the {type(model).__name__} in {args.checkpoint}: "
                f"leave it out"
            )
    for name, default in taken.items():
        if getattr(args, name) is None:
            setattr(args, name, default)


def _number(args: argparse.Namespace, default: int) -> int:
    return default if args.num is None else args.num


def _write_text(model: Any, args: argparse.Namespace) -> None:
    from trellis.sequence.tokenizer import from_json

    if not model.spec.tokenizer:
        raise ValueError(
            f"{args.checkpoint} was trained on tokens that are not text: give a model of text"
        )
    tokenizer = from_json(model.spec.tokenizer)
    ids = _encode(args.prompt, tokenizer)
    shown = ids if args.prompt else []
    texts = [tokenizer.decode([*shown, *new]) for new in _continue(model, ids, args)]
    for number, text in enumerate(texts, 1):
        if len(texts) > 1:
            print(f"--- {number} of {len(texts)}")
        print(text)


def _encode(prompt: str, tokenizer: "Tokenizer") -> list[int]:
    """Token ids of the prompt; lists words outside the vocabulary on stderr."""
    from trellis.lightning_modules.commands.text_models import say

    unknown = tokenizer.unknown_id
    if not prompt:
        return _beginning(tokenizer)
    try:
        ids = tokenizer.encode(prompt)
    except ValueError as error:
        raise ValueError(f"prompt: {error}") from None
    if not ids:
        raise ValueError(f"prompt {prompt!r} has no token of this vocabulary: give another")
    if unknown is not None and unknown in ids:
        lacking = [word for word in prompt.split() if unknown in tokenizer.encode(word)]
        say("generate", "not in the vocabulary:", ", ".join(map(repr, dict.fromkeys(lacking))))
    return ids


def _beginning(tokenizer: "Tokenizer") -> list[int]:
    try:
        ids = tokenizer.encode("\n")
    except ValueError:  # the vocabulary has no line break
        ids = []
    if ids and tokenizer.unknown_id not in ids:
        return ids
    if tokenizer.bos_id is None:
        raise ValueError("this vocabulary has no line break to start from: give --prompt")
    return [tokenizer.bos_id]


def _continue(model: Any, ids: list[int], args: argparse.Namespace) -> list[list[int]]:
    """Token ids of the continuation, for each sample."""
    import torch

    from trellis.checks import at_least_one
    from trellis.sequence.decoding import (
        block_repeats,
        greedy_search,
        language_model,
        sample,
        suppress_tokens,
    )

    number = at_least_one("num", _number(args, 1))
    spec = model.spec
    step = suppress_tokens(language_model(model.network), spec.suppressed_ids)
    if args.no_repeat_ngram_size is not None:
        step = block_repeats(step, args.no_repeat_ngram_size)
    prompt = torch.tensor([ids] * number, device=args.device)
    options: dict[str, Any] = {"eos_id": spec.eos_id, "max_new_tokens": args.max_new_tokens}
    if args.temperature == 0:
        return greedy_search(step, prompt, **options).best()
    return sample(
        step,
        prompt,
        **options,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        min_p=args.min_p,
        generator=torch.Generator(args.device).manual_seed(args.seed),
    ).best()
