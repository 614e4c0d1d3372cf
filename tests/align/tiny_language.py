"""A language model of a few thousand weights over two dozen words, and comparisons in its language."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from penchant.policies.sampling import sample_tokens
from penchant.policies.sequences import Example, can_pack, token_log_probabilities
from penchant.records import Comparisons

WORDS = tuple(
    """a b c d e what is good bad red green blue yes no maybe tea coffee and or the""".split()  # noqa: SIM905
)


class TinyPolicy:
    """What the trainer asks of a policy, with weights drawn from a seed."""

    def __init__(self, seed=0, *, dropout=0.0, lora_rank=None, tied=False):
        vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
        words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.2,
            attention_dropout=dropout,
            tie_word_embeddings=tied,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
        self.model = LlamaForCausalLM(config)
        if lora_rank:
            from peft import LoraConfig, get_peft_model

            self.model = get_peft_model(self.model, LoraConfig(r=lora_rank, target_modules="all-linear"))

    def ids(self, text):
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode(self, prompt, responses, *, condition=None, form="text"):
        start = (1, *self.ids(condition or ""), *self.ids(prompt))
        return Example(start, tuple((*self.ids(response), 2) for response in responses))

    def sample(self, prompts, n=1, *, condition=None, temperature=1.0, max_new_tokens=8, seed=0):
        self.model.eval()
        conditions = [condition] * len(prompts) if condition is None or isinstance(condition, str) else condition
        tokens = [self.encode(x, ["a"], condition=c).prompt for x, c in zip(prompts, conditions, strict=True)]
        drawn = sample_tokens(
            self.model,
            tokens,
            n,
            end_tokens=[2],
            pad=0,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            seed=seed,
            rows_at_once=512,
        )
        return [[self.tokenizer.decode(list(s.tokens), skip_special_tokens=True) for s in samples] for samples in drawn]

    can_pack = property(lambda self: can_pack(self.model))

    def scores(self, model, batch):
        return token_log_probabilities(model, batch)

    def save(self, path: Path, *, weights=None):
        self.model.save_pretrained(path, state_dict=weights)

    def weights(self):
        return torch.cat([p.detach().flatten().clone() for p in self.model.parameters()])


def comparisons(n=16, seed=0, strengths=(1.0, 1.0, 0.8)):
    rng = np.random.default_rng(seed)
    rows = []
    while len(rows) < n:
        prompt, chosen, rejected = (" ".join(rng.choice(WORDS, k)) for k in rng.integers(1, 6, 3))
        if chosen != rejected:
            strength = float(rng.choice(strengths))
            rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected, "strength": strength})
    return Comparisons.from_rows(rows)


def by_hand(model, example):
    """Log-probability of each response, the long way round: one forward pass each, no padding, no packing."""
    sums = []
    for response in example.responses:
        ids = torch.tensor([[*example.prompt, *response]])
        log_p = torch.log_softmax(model(input_ids=ids).logits[0].float(), -1)
        at = range(len(example.prompt) - 1, ids.shape[1] - 1)
        sums.append(torch.stack([log_p[i, ids[0, i + 1]] for i in at]).sum())
    return torch.stack(sums)


def scores(values, lengths=None):
    """Log-probabilities of whole responses as an aligner gets them, each of one token or spread over several."""
    from penchant.policies.sequences import TokenLogProbabilities

    values = torch.as_tensor(values)
    lengths = torch.tensor(lengths or [1] * len(values))
    response = torch.arange(len(values)).repeat_interleave(lengths)
    return TokenLogProbabilities((values / lengths)[response], response, len(values))


def batch_of(examples, reference=None):
    """The fields an aligner's `loss` reads, from what its `examples` gave."""
    counts = torch.tensor([len(example["responses"]) for example in examples])
    return {
        "example": torch.arange(len(examples)).repeat_interleave(counts),
        "rank": torch.tensor([float(rank) for example in examples for rank in example["rank"]]),
        "strength": torch.tensor([example["strength"] for example in examples]),
        "reference": torch.zeros(int(counts.sum())) if reference is None else torch.as_tensor(reference),
    }
