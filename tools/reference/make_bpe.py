"""Trains the tiny byte-pair tokenizer of the tests, tests/data/tiny-clip, and writes what transformers'
CLIPTokenizer makes of some prompts with it, tests/golden/bpe.json.

    pip install transformers==5.24.0 tokenizers;  python3 tools/reference/make_bpe.py [--train]

Without --train the files stay as they are. The vocabulary is laid out as CLIP's: the bytes, the bytes that
end a word, what the merges make, and the two marks.
"""

import json
import pathlib
import sys

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from make_tokenizer import MANNERS, NEGATIVE, SUBJECTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "data" / "tiny-clip"
GOLDEN = ROOT / "tests" / "golden" / "bpe.json"
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
MERGES = 300

PROMPTS = [
    "", " ", "a small boat on a calm lake, filmed from above", "The Quick brown FOX jumps over the lazy dog.",
    "it's the dog's; they'll say we've won, I'd say 'they're here', don't", "'sun 's' ''t", "1234 and 5th, 3.14",
    "camera!!! ... (wide) [shot] -- a+b=c $5 #1 @home", "  spaces \t and\n lines  ", "caf\u00e9 \u00c9T\u00c9 na\u00efve \u00dcber",
    "\u4e2d\u6587 \u043c\u043e\u0441\u043a\u0432\u0430 \u039a\u0391\u0399", "smile \U0001f600\U0001f600 ok", "word" * 40, "zzzzzzzz qqqq aaaaaaa",
    "under_score e-mail a/b", NEGATIVE, "\u00a0nbsp\u3000wide",
]


def train():
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    trainer = trainers.BpeTrainer(vocab_size=2000, end_of_word_suffix="</w>", show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    lines = [f"{s}, {m}." for s in SUBJECTS.replace("\n", "|").split("|") for m in MANNERS.replace("\n", "|").split("|")]
    tokenizer.train_from_iterator(lines + [NEGATIVE] * 4, trainer)
    merges = [tuple(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]][:MERGES]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = alphabet + [a + "</w>" for a in alphabet] + [a + b for a, b in merges]
    pieces = list(dict.fromkeys(pieces)) + ["<|startoftext|>", "<|endoftext|>"]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate(pieces)}, ensure_ascii=False) + "\n")
    (FOLDER / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))


def main():
    if "--train" in sys.argv:
        train()
    vocab = json.loads((FOLDER / "vocab.json").read_text())
    merges = [tuple(line.split(" ")) for line in (FOLDER / "merges.txt").read_text().splitlines()[1:]]
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges)
    rows = ",\n".join(" " + json.dumps({"text": p, "ids": tokenizer(p).input_ids}) for p in PROMPTS)
    GOLDEN.write_text("[\n" + rows + "\n]\n")


if __name__ == "__main__":
    main()
