"""``trellis generate``: text from the language model of a checkpoint."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trellis.sequence.tokenizer import Tokenizer


def main(words: list[str]) -> None:
    """Print a prompt and what the network writes after it.

    Args:
        words: the command line after ``trellis``.
    Raises:
        ValueError: another objective, no tokenizer, or a prompt that cannot be encoded.
    """
    args = _parser().parse_args(words[1:])
    # These imports take seconds, and a wrong option needs none of them.
    from trellis.lightning_modules.causal_lm import CausalLM
    from trellis.lightning_modules.commands.text_models import load_as, quiet_when_nobody_reads
    from trellis.sequence.tokenizer import from_json

    model = load_as(args.checkpoint, CausalLM, args.device)
    if not model.spec.tokenizer:
        raise ValueError(f"{args.checkpoint} was trained on tokens that are not text")
    tokenizer = from_json(model.spec.tokenizer)
    ids = _encode(args.prompt, tokenizer)
    shown = ids if args.prompt else []
    texts = [tokenizer.decode([*shown, *new]) for new in _continue(model, ids, args)]
    with quiet_when_nobody_reads():
        for number, text in enumerate(texts, 1):
            if len(texts) > 1:
                print(f"--- {number} of {len(texts)}")
            print(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="trellis generate", description=__doc__)
    add = parser.add_argument
    add("checkpoint", help="of a CausalLM")
    add("--prompt", default="", help="what the text begins with; without one it begins as after a "
        "line break, or with the vocabulary's token for a beginning")  # fmt: skip
    add("--max_new_tokens", type=int, default=200, help="tokens to write (200)")
    add("--temperature", type=float, default=1.0, help="below 1 favours the probable, 0 takes "
        "nothing else (1)")  # fmt: skip
    add("--top_k", type=int, help="draw among this many of the most probable tokens")
    add("--top_p", type=float, help="draw among the fewest with this probability together")
    add("--num_samples", type=int, default=1, help="texts to write (1)")
    add("--seed", type=int, default=0, help="of the draws (0)")
    add("--device", default="cpu", help="cpu, cuda or another of torch's (cpu)")
    return parser


def _encode(prompt: str, tokenizer: "Tokenizer") -> list[int]:
    """Token ids to begin with; says on stderr which words the vocabulary lacks."""
    from trellis.lightning_modules.commands.text_models import say

    unknown = tokenizer.unknown_id
    if not prompt:
        return _beginning(tokenizer)
    try:
        ids = tokenizer.encode(prompt)
    except ValueError as error:
        raise ValueError(f"prompt: {error}") from None
    if not ids:
        raise ValueError(f"prompt {prompt!r} holds nothing that this vocabulary can express")
    if unknown is not None and unknown in ids:
        lacking = [word for word in prompt.split() if unknown in tokenizer.encode(word)]
        say("generate", "the vocabulary lacks", ", ".join(map(repr, dict.fromkeys(lacking))))
    return ids


def _beginning(tokenizer: "Tokenizer") -> list[int]:
    try:
        ids = tokenizer.encode("\n")
    except ValueError:  # a vocabulary of single lines
        ids = []
    if ids and tokenizer.unknown_id not in ids:
        return ids
    if tokenizer.bos_id is None:
        raise ValueError("this vocabulary has no line break to begin with: give --prompt")
    return [tokenizer.bos_id]


def _continue(model: Any, ids: list[int], args: argparse.Namespace) -> list[list[int]]:
    """Token ids that follow, for each sample."""
    import torch

    from trellis.nn.checks import at_least_one
    from trellis.sequence.decoding import greedy, language_model, sample, without

    at_least_one("num_samples", args.num_samples)
    spec = model.spec
    step = without(language_model(model.network), spec.silent_ids)
    prompt = torch.tensor([ids] * args.num_samples, device=args.device)
    options: dict[str, Any] = {"eos_id": spec.eos_id, "max_new_tokens": args.max_new_tokens}
    if args.temperature == 0:
        return greedy(step, prompt, **options).best()
    return sample(
        step,
        prompt,
        **options,
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        generator=torch.Generator(args.device).manual_seed(args.seed),
    ).best()
