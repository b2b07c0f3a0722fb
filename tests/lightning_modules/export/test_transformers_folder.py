"""GPT-2 and BERT of ``transformers`` here, and ours there: equal outputs, or a clear refusal."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import trellis
from trellis.lightning_modules import cli
from trellis.lightning_modules.export.transformers_folder import read_transformers
from trellis.lightning_modules.sequence import CausalLM, MaskedLM, SequenceClassification, Tagging
from trellis.networks.sequence import (
    GPT,
    BertPretraining,
    BertTagger,
    RecurrentLM,
)
from trellis.nn.attention import CausalSelfAttention
from trellis.nn.linear_attention import CausalLinearAttention
from trellis.sequence.subword import BPETokenizer, WordPieceTokenizer
from trellis.sequence.tokenizer import CharTokenizer, WordTokenizer
from trellis.spec import LabelledTokenSpec, TokenSpec

transformers = pytest.importorskip("transformers")

VOCABULARY, LENGTH, PAD = 67, 24, 2
GPT2 = {"vocab_size": VOCABULARY, "n_positions": LENGTH, "n_embd": 36, "n_layer": 3, "n_head": 3,
        "n_inner": 50, "layer_norm_epsilon": 1e-3, "bos_token_id": 1,
        "eos_token_id": 1}  # fmt: skip
BERT = {"vocab_size": VOCABULARY, "hidden_size": 36, "num_hidden_layers": 2,
        "num_attention_heads": 3, "intermediate_size": 50, "max_position_embeddings": LENGTH,
        "pad_token_id": PAD, "layer_norm_eps": 1e-3, "num_labels": 5}  # fmt: skip
TEXTS = ["low lower lowest", "newer wide", "slow, it is!"]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def saved(architecture: str, folder: Path, **options: Any) -> Any:
    """A model of theirs with random weights, large enough that every part matters."""
    cls = getattr(transformers, architecture)
    torch.manual_seed(0)
    usual = GPT2 if architecture.startswith("GPT2") else BERT
    model = cls(cls.config_class(**{**usual, **options})).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model


def sentences() -> tuple[Tensor, Tensor]:
    """Token ids with padding at the ends of some rows, and the mask of the others."""
    tokens = torch.randint(3, VOCABULARY, (4, LENGTH), generator=torch.Generator().manual_seed(1))
    tokens[0, 17:] = tokens[2, 5:] = PAD
    return tokens, tokens != PAD


def close(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.std() > 0.05, "the outputs differ among themselves"
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
@torch.no_grad()
def test_gpt2_both_ways(attention: str, activation: str, tmp_path: Path) -> None:
    theirs = saved("GPT2LMHeadModel", tmp_path / "a", activation_function=activation)
    theirs.set_attn_implementation(attention)
    ours = trellis.from_pretrained(tmp_path / "a")
    assert isinstance(ours, CausalLM)
    assert not ours.training
    tokens = sentences()[0]
    expected = theirs(tokens).logits
    close(ours.network(tokens)[0], expected)
    first, state = ours.network(tokens[:, :9])
    close(torch.cat([first, ours.network(tokens[:, 9:], state)[0]], 1), expected)
    trellis.export(ours, tmp_path / "b", formats=["transformers"])
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "b").eval()
    close(again(tokens).logits, expected)
    assert again.config.to_diff_dict().keys() >= {"n_inner", "n_embd"}


def test_the_defaults_of_gpt2_need_not_be_written(tmp_path: Path) -> None:
    theirs = saved("GPT2LMHeadModel", tmp_path, n_inner=None, layer_norm_epsilon=1e-5)
    config = json.loads((tmp_path / "config.json").read_text())
    kept = ("model_type", "vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
    (tmp_path / "config.json").write_text(json.dumps({name: config[name] for name in kept}))
    tokens = sentences()[0]
    close(trellis.from_pretrained(tmp_path).network(tokens)[0], theirs(tokens).logits)


def renamed(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


def test_names_of_older_files(tmp_path: Path) -> None:
    """No prefix, buffers among the weights, and the shared matrix twice: as GPT-2 on the Hub."""

    def older(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        bare = {name.removeprefix("transformer."): x for name, x in tensors.items()}
        masks = {"h.0.attn.bias": torch.ones(1, 1, 4, 4), "h.1.attn.masked_bias": torch.ones(())}
        return {**bare, **masks, "lm_head.weight": bare["wte.weight"].clone()}

    theirs = saved("GPT2LMHeadModel", tmp_path)
    renamed(tmp_path, older)
    tokens = sentences()[0]
    close(trellis.from_pretrained(tmp_path).network(tokens)[0], theirs(tokens).logits)
    renamed(tmp_path, lambda tensors: {**tensors, "lm_head.weight": tensors["wte.weight"] + 1})
    with pytest.raises(ValueError, match=r"lm_head\.weight differs from transformer\.wte\.weight"):
        trellis.from_pretrained(tmp_path)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_bert_both_ways(attention: str, tmp_path: Path) -> None:
    theirs = saved("BertForPreTraining", tmp_path / "a", hidden_act="gelu_new")
    theirs.set_attn_implementation(attention)
    ours = read_transformers(tmp_path / "a", mask_id=4)
    assert isinstance(ours, MaskedLM)
    tokens, mask = sentences()
    segments = (torch.arange(LENGTH) > 6).long().expand_as(tokens)
    expected = theirs(tokens, attention_mask=mask.long(), token_type_ids=segments)
    logits, order = ours.network(tokens, segments)
    close(logits[mask], expected.prediction_logits[mask])
    close(order.flip(1), expected.seq_relationship_logits)  # theirs calls class 0 "in order"
    trellis.export(ours, tmp_path / "b", formats=["transformers"])
    again = transformers.AutoModelForPreTraining.from_pretrained(tmp_path / "b").eval()
    found = again(tokens, attention_mask=mask.long(), token_type_ids=segments)
    close(found.prediction_logits[mask], expected.prediction_logits[mask])
    close(found.seq_relationship_logits, expected.seq_relationship_logits)


@torch.no_grad()
def test_a_masked_language_model_without_the_rest_of_pretraining(tmp_path: Path) -> None:
    def older(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        def name(new: str) -> str:
            for today, before in (("weight", "gamma"), ("bias", "beta")):
                new = new.replace(f"LayerNorm.{today}", f"LayerNorm.{before}")
            return new

        return {name(new): x for new, x in tensors.items()}

    theirs = saved("BertForMaskedLM", tmp_path)
    renamed(tmp_path, older)
    ours = [read_transformers(tmp_path, mask_id=4) for _ in range(2)]
    tokens, mask = sentences()
    expected = theirs(tokens, attention_mask=mask.long()).logits
    close(ours[0].network(tokens)[0][mask], expected[mask])
    assert torch.equal(*(each.network.order.weight for each in ours)), "the same twice"
    with pytest.raises(ValueError, match=r"no tokenizer.json.*which id is \[MASK\].*--mask_id"):
        read_transformers(tmp_path)


@pytest.mark.parametrize(
    ("architecture", "objective"),
    [
        ("BertForSequenceClassification", SequenceClassification),
        ("BertForTokenClassification", Tagging),
    ],
)
@torch.no_grad()
def test_classifiers_both_ways(architecture: str, objective: type, tmp_path: Path) -> None:
    names = {i: f"class {9 - i}" for i in range(5)}
    theirs = saved(architecture, tmp_path / "a", id2label=names, classifier_dropout=0.3)
    ours = trellis.from_pretrained(tmp_path / "a")
    assert type(ours) is objective
    assert ours.spec.classes == tuple(names.values())
    assert ours.network.dropout.p == 0.3
    tokens, mask = sentences()
    expected = theirs(tokens, attention_mask=mask.long()).logits
    of_all = mask if expected.ndim == 3 else slice(None)
    close(ours.network(tokens)[of_all], expected[of_all])
    trellis.export(ours, tmp_path / "b", formats=["transformers"])
    again = getattr(transformers, architecture).from_pretrained(tmp_path / "b").eval()
    assert torch.equal(again(tokens, attention_mask=mask.long()).logits, expected)
    assert again.config.id2label == names


def ready(objective: Any) -> Any:
    torch.manual_seed(0)
    objective.configure_model()
    return objective.eval()


@torch.no_grad()
def test_a_gpt_without_biases_and_its_bytes(tmp_path: Path) -> None:
    tokenizer = BPETokenizer(TEXTS, num_tokens=280)
    network = partial(GPT, context=LENGTH, embed_dim=12, num_layers=2, num_heads=2, bias=False)
    ours = ready(CausalLM(network, spec=tokenizer.spec))
    trellis.export(ours, tmp_path / "a", formats=["transformers"])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "a").eval()
    text = transformers.AutoTokenizer.from_pretrained(tmp_path / "a")
    ids = text("Lowest of the slow…", return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == tokenizer.encode("Lowest of the slow…")
    torch.testing.assert_close(theirs(ids).logits, ours.network(ids)[0], atol=1e-5, rtol=1e-5)
    assert (text.eos_token_id, text.pad_token_id) == (2, 0)
    assert text.decode(ids[0]).strip() == "Lowest of the slow…"
    again = trellis.from_pretrained(tmp_path / "a")
    assert again.spec.eos_id == 2
    assert torch.equal(again.network(ids)[0], theirs(ids).logits)


@torch.no_grad()
def test_a_bert_and_its_pieces(tmp_path: Path) -> None:
    tokenizer = WordPieceTokenizer(TEXTS, num_tokens=80, lowercase=True)
    network = partial(BertPretraining, embed_dim=12, num_layers=1, num_heads=2, max_length=LENGTH)
    ours = ready(MaskedLM(network, spec=tokenizer.spec))
    trellis.export(ours, tmp_path / "a", formats=["transformers"])
    theirs = transformers.AutoModelForPreTraining.from_pretrained(tmp_path / "a").eval()
    text = transformers.AutoTokenizer.from_pretrained(tmp_path / "a")
    given = text("It is LOW!", "newer", return_tensors="pt")
    first, second = tokenizer.encode("It is LOW!"), tokenizer.encode("newer")
    assert given["input_ids"][0].tolist() == [1, *first, 2, *second, 2]
    assert given["token_type_ids"][0].tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    logits, order = ours.network(given["input_ids"], given["token_type_ids"])
    found = theirs(**given)
    torch.testing.assert_close(found.prediction_logits, logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.seq_relationship_logits.flip(1), order, atol=1e-5, rtol=1e-5)
    assert text.mask_token_id == 4
    again = trellis.from_pretrained(tmp_path / "a")
    assert isinstance(again, MaskedLM)
    assert again.spec.mask_id == 4


def test_what_transformers_does_not_have_is_not_written(tmp_path: Path) -> None:
    spec, to = TokenSpec(9, pad_id=0, mask_id=4), tmp_path / "a"
    small = {"embed_dim": 8, "num_heads": 2, "num_layers": 1}
    rotary = ready(CausalLM(partial(GPT, positions="rotary", **small), spec=spec))
    with pytest.raises(ValueError, match="its GPT-2 has learned positions, not RotaryPositions"):
        trellis.export(rotary, to, formats=["transformers"])
    for kind, told in (
        (partial(CausalSelfAttention, window=4), "no window or groups"),
        (partial(CausalSelfAttention, key_value_heads=1), "no window or groups"),
        (CausalLinearAttention, "no CausalLinearAttention"),
    ):
        other = ready(CausalLM(partial(GPT, attention=kind, **small), spec=spec))
        with pytest.raises(ValueError, match=f"its GPT-2 has {told}"):
            trellis.export(other, to, formats=["transformers"])
    first = ready(MaskedLM(partial(BertPretraining, norm_first=True, **small), spec=spec))
    with pytest.raises(ValueError, match="its BERT has no norm_first=True"):
        trellis.export(first, to, formats=["transformers"])
    with pytest.raises(
        ValueError, match="no counterpart of RecurrentLM; it is written for GPT, B"
    ):
        trellis.export(ready(CausalLM(RecurrentLM, spec=spec)), to, formats=["transformers"])
    with pytest.raises(ValueError, match="transformers,onnx: give transformers a folder of its"):
        trellis.export(first, to, formats=["transformers", "onnx"])
    leaky = ready(CausalLM(partial(GPT, activation="leaky_relu", **small), spec=spec))
    with pytest.raises(ValueError, match="transformers has no activation 'leaky_relu'"):
        trellis.export(leaky, to, formats=["transformers"])
    assert not [*tmp_path.iterdir()]


def test_words_are_exported_without_their_tokenizer(tmp_path: Path) -> None:
    spec = WordTokenizer(TEXTS).spec
    network = partial(BertTagger, embed_dim=8, num_heads=2, num_layers=1)
    ours = ready(Tagging(network, spec=LabelledTokenSpec(spec, 3)))
    trellis.export(ours, tmp_path / "a", formats=["transformers"])
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "config.json", "model.safetensors"
    }  # fmt: skip
    theirs = transformers.BertForTokenClassification.from_pretrained(tmp_path / "a")
    assert theirs.config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 with a tokenizer whose ids its embedding exceeds."""
    folder = tmp_path_factory.mktemp("gpt2")
    library = tokenizers.ByteLevelBPETokenizer()
    library.train_from_iterator(TEXTS * 5, 270, special_tokens=["<|endoftext|>"])
    library.save(str(folder / "tokenizer.json"))
    text = transformers.GPT2TokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    saved("GPT2LMHeadModel", folder, vocab_size=275, bos_token_id=0, eos_token_id=0)
    text.save_pretrained(folder)
    return folder


@pytest.fixture
def broken(gpt2: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(gpt2, tmp_path / "broken"))


def failing(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(list(map(str, words)))
    text = capsys.readouterr().err
    assert stop.value.code == 2
    assert len(text.splitlines()) == 1
    return text


def test_an_imported_gpt2_writes_what_transformers_writes(
    gpt2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "gpt2.ckpt")
    cli.main(["import", "gpt2", str(gpt2), "--to", path])
    told = capsys.readouterr()
    assert told.out == f"{path}\n"
    assert "CausalLM of " in told.err
    assert "GPT context=24 embed_dim=36" in told.err
    cli.main(["generate", path, "--prompt", "low", "--temperature", "0", "--max_new_tokens", "9"])
    text = transformers.AutoTokenizer.from_pretrained(gpt2)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(gpt2)
    given = text("low", return_tensors="pt")
    expected = theirs.generate(**given, do_sample=False, max_new_tokens=9, pad_token_id=0)
    assert capsys.readouterr().out == text.decode(expected[0], skip_special_tokens=True) + "\n"
    assert "already exists" in failing(capsys, "import", "gpt2", gpt2, "--to", path)
    cli.main(["export", path, "--to", str(tmp_path / "back"), "--formats", "transformers"])
    before, after = (load_file(each / "model.safetensors") for each in (gpt2, tmp_path / "back"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    assert again("low slower!")["input_ids"] == text("low slower!")["input_ids"]
    assert again.eos_token == "<|endoftext|>"


def edited(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, "a LlamaForCausalLM, wh"),
        ({"architectures": ["GPT2DoubleHeadsModel"]}, "a GPT2DoubleHeadsModel, which cannot"),
        ({"scale_attn_by_inverse_layer_idx": True}, "only scale_attn_by_inverse_layer_idx=False"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings=False: only tie_word_embeddings=T"),
        ({"activation_function": "gelu_nwe"}, "'gelu_nwe' is not supported; did you mean gelu_n"),
        ({"n_embd": "many"}, "n_embd='many': give a number"),
        ({"n_embd": 48}, r"wte\.weight has the sizes \[275, 36\], config\.json says \[275, 48\]"),
        ({"n_inner": 51}, r"h\.0\.mlp\.c_fc\.weight has the sizes \[50, 36\]"),
        ({"n_head": 5}, "num_heads=5: give a divisor of embed_dim=36"),
        ({"n_layer": 10**9}, r"there is no tensor transformer\.h\.3\.ln_1\.weight"),
        ({"n_layer": 2}, r"12 tensors are unknown: transformer\.h\.2\.attn\.c_attn\.bias, "),
        ({"vocab_size": 99}, "num_tokens=99, but the tokenizer has ids up to 2"),
    ],
)
def test_what_does_not_fit_is_named(fields: dict[str, Any], told: str, broken: Path) -> None:
    edited(broken, **fields)
    with pytest.raises(ValueError, match=told):
        trellis.from_pretrained(broken)


def test_missing_and_unknown_files(
    broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "a.ckpt"
    assert "holds a GPT2LMHeadModel, and no bert" in failing(
        capsys, "import", "bert", broken, "--to", to
    )
    renamed(broken, lambda tensors: {**tensors, "transformer.adapter": torch.ones(2)})
    told = failing(capsys, "import", "gpt2", broken, "--to", to)
    assert "1 tensors are unknown: transformer.adapter" in told
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    told = failing(capsys, "import", "gpt2", broken, "--to", to)
    assert "pytorch_model.bin is a pickle, which may run code" in told
    (broken / "pytorch_model.bin").unlink()
    told = failing(capsys, "import", "gpt2", broken, "--to", to)
    assert "there is no model.safetensors" in told
    (broken / "config.json").unlink()
    assert "there is no config.json" in failing(capsys, "import", "gpt2", broken, "--to", to)
    assert not to.exists()


def test_weights_in_several_files(gpt2: Path, broken: Path) -> None:
    tensors = load_file(broken / "model.safetensors")
    half = len(tensors) // 2
    parts = {"a.safetensors": dict([*tensors.items()][:half]),
             "b.safetensors": dict([*tensors.items()][half:])}  # fmt: skip
    for name, part in parts.items():
        save_file(part, broken / name)
    (broken / "model.safetensors").unlink()
    places = {tensor: name for name, part in parts.items() for tensor in part}
    index = broken / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    whole, divided = (trellis.from_pretrained(each).state_dict() for each in (gpt2, broken))
    assert all(torch.equal(whole[name], divided[name]) for name in whole)
    index.write_text(json.dumps({"weight_map": {"x": "../secret.safetensors"}}))
    with pytest.raises(FileNotFoundError, match=r"no \.\./secret\.safetensors"):
        trellis.from_pretrained(broken)


@pytest.mark.long
def test_fine_tuning_from_an_imported_bert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its vocabulary has the special tokens elsewhere than ours; the data take them from there."""
    monkeypatch.chdir(tmp_path)
    special = ["[unused]", "[SEP]", "[PAD]", "[CLS]", "[UNK]", "[MASK]"]
    words = [*special, *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnop")]
    Path("vocab.txt").write_text("\n".join(words))
    text = transformers.BertTokenizerFast("vocab.txt")
    saved("BertForMaskedLM", Path("bert"))
    text.save_pretrained("bert")
    cli.main(["import", "bert", "bert", "--to", "bert.ckpt"])
    Path("a.tsv").write_text("good\ta b c\nbad\td e\n" * 4)
    body = {"embed_dim": 36, "num_heads": 3, "num_layers": 2, "feedforward_dim": 50,
            "max_length": LENGTH, "norm_eps": 1e-3}  # fmt: skip
    options = [f"--model.network.{name}={value}" for name, value in body.items()]
    callbacks = [{"class_path": "ParameterGroups", "init_args": {"frozen": ["network.body"]}}]
    cli.main(["fit", "--data", "LabelledText", "--data.train", "a.tsv", "--data.val", "a.tsv",
              "--data.tokenizer", "SavedTokenizer", "--data.tokenizer.path", "bert.ckpt",
              "--model", "SequenceClassification", "--model.network", "BertClassifier", *options,
              "--init_from", "bert.ckpt", "--init_map", "{network.body: network.body}",
              "--trainer.callbacks", json.dumps(callbacks), "--trainer.max_epochs=1",
              "--trainer.run_name", "tuned", "--trainer.enable_progress_bar=false"])  # fmt: skip
    tuned = trellis.load("runs/tuned/0/checkpoints/last.ckpt")
    assert (tuned.spec.tokens.pad_id, tuned.spec.tokens.bos_id, tuned.spec.tokens.eos_id) == (
        2,
        3,
        1,
    )
    imported = trellis.load("bert.ckpt")
    for name, value in imported.network.body.state_dict().items():
        assert torch.equal(tuned.network.body.state_dict()[name], value)
    Path("new.txt").write_text("a b c\nd e f g\n")
    capsys.readouterr()
    cli.main(["predict", "runs/tuned/0/checkpoints/last.ckpt", "--input", "new.txt"])
    rows = (tmp_path / capsys.readouterr().out.split()[-1]).read_text().splitlines()
    trellis.export(tuned, "back", formats=["transformers"])
    again = transformers.AutoModelForSequenceClassification.from_pretrained("back").eval()
    tokens = transformers.AutoTokenizer.from_pretrained("back")
    given = tokens(["a b c", "d e f g"], padding=True, return_tensors="pt")
    assert given["input_ids"].tolist() == text(["a b c", "d e f g"], padding=True)["input_ids"]
    expected = again(**given).logits.softmax(-1)
    found = torch.tensor([[float(cell) for cell in row.split(",")[1:]] for row in rows[1:]])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_characters_go_there_and_back(tmp_path: Path) -> None:
    tokenizer = CharTokenizer(TEXTS)
    network = partial(GPT, context=LENGTH, embed_dim=8, num_layers=1, num_heads=2)
    ours = ready(CausalLM(network, spec=tokenizer.spec))
    trellis.export(ours, tmp_path / "a", formats=["transformers"])
    text = transformers.AutoTokenizer.from_pretrained(tmp_path / "a")
    assert text("low, slow")["input_ids"] == tokenizer.encode("low, slow")
    assert text.decode(tokenizer.encode("low, slow")) == "low, slow"
    again = trellis.from_pretrained(tmp_path / "a")
    assert again.spec.num_tokens == tokenizer.num_tokens
    assert again.spec.eos_id is None


def test_a_classifier_needs_classes(tmp_path: Path) -> None:
    saved("BertForSequenceClassification", tmp_path, problem_type="multi_label_classification")
    with pytest.raises(ValueError, match="problem_type='multi_label_classification': only class"):
        trellis.from_pretrained(tmp_path)
    edited(tmp_path, problem_type=None, id2label={"0": "a", "1": "b"})
    with pytest.raises(ValueError, match=r"classifier\.weight has the sizes \[5, 36\]"):
        trellis.from_pretrained(tmp_path)
