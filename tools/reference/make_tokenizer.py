"""Trains the tiny Unigram models of the tests, tests/data/tiny-spiece.model and, without bytes for unknown
characters, tiny-spiece-unk.model, and writes what reference implementations make of some prompts,
tests/golden/tokenizer.json:

    encode      ids of the first, sentencepiece's own, with </s>
    encode_unk  ids of the second
    clean       diffusers' prompt_clean, with ftfy left out

    pip install sentencepiece transformers protobuf;  python3 tools/reference/make_tokenizer.py [--train]

Without --train the models stay as they are (another version of the trainer may make others). The ids
must be those of transformers' T5 tokenizer too, but for prompts with unknown characters. protobuf is
needed for the conversion.
"""

import html
import json
import pathlib
import re
import sys
import tempfile

import sentencepiece

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "tests" / "data" / "tiny-spiece.model"
UNKNOWN = ROOT / "tests" / "data" / "tiny-spiece-unk.model"
GOLDEN = ROOT / "tests" / "golden" / "tokenizer.json"

SUBJECTS = """a small boat on a calm lake|two cats playing with a red ball|an old train in the mountains
a dancer in a white dress|the city at night in the rain|a paper lantern over the river|a fox in deep snow
children running along the beach|a field of yellow flowers|waves breaking on black rocks|a potter at the wheel
steam rising from a cup of tea|a kite above the green hills|an astronaut walking on a red desert
a robot watering the garden|horses crossing a shallow stream|a violin player on an empty stage"""
MANNERS = """slow motion, soft morning light|filmed from above, wide shot|close-up, shallow depth of field
the camera moves slowly to the left|golden hour, long shadows, high detail|in the style of an oil painting
handheld camera, natural colours|black and white, film grain|fog drifting between the trees, quiet mood"""
NEGATIVE = "bright colours, overexposed, static, blurred details, subtitles, worst quality, low quality, extra fingers"

CLEAN = [
    "", " ", "a cat", "  a\tcat \n on   a mat  ", "salt &amp; pepper", "salt &amp;amp; pepper", "&amp;amp;lt;b&gt;",
    "caf&eacute; &#233; &#xE9; &#XE9", "&notin; &notit; &not", "&ampx &amp", "&#0; &#x80; &#x81; &#xD800; &#x110000; &#99999999999;",
    "&#1;a&#xFFFE;b&#xFDD0;c&#11;d&#127;e", "&; &# &#x &#xg; &foo; &CounterClockwiseContourIntegral;", "&nGt; &bne; &fjlig;",
    "tab&Tab;line&NewLine;end&nbsp;.", "\u00a0\u2003wide\u3000space\u2028\u2029\u1680\x1c\x1f\x85end\u200b", "&Aacutee;&AElig", "&&&amp;&",
    "\u4e2d\u6587 \uff21 \U0001f600 &#128512;", "&eacute\u00e9; &lt\u00e9", "&#13;&#10;x&#9;", "&a&b&lt;c", "&#38;#38;#38;", "&aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa;",
    "&lt;" * 3 + "x" * 40, "&ltxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx;",
]
ENCODE = [
    "", "a small boat on a calm lake, filmed from above", "The quick brown fox jumps over the lazy dog.", "zzzz qqqq",
    "caf\u00e9 \u4e2d\u6587 \U0001f600", "\uff21\uff22 wide", "a", "1234567890 !@#$%^&*()", "camera camera camera", NEGATIVE,
    "word" * 40,
]
# Unknown alone, at both ends, several in a row, between known ones and spaces, and beside normalized ones.
UNKNOWN_ENCODE = ENCODE + [
    "\u4e2d", "\u4e2da", "a\u4e2d", "\u4e2d\u6587\u5b57", "\u4e2d \u6587", "a\u4e2d\u6587a \u5b57 a", "\U0001f600\uff21\U0001f600",
    "\u00e9\u00e9 a \u00e9", "\u200b", "e\u0301", "a  b   \u4e2d   c", "<unk> </s> <pad>", "\u2581a\u2581",
]


def prompt_clean(text):  # diffusers.pipelines.wan.pipeline_wan, without ftfy
    text = html.unescape(html.unescape(text)).strip()
    return re.sub(r"\s+", " ", text).strip()


def train():
    lines = [f"{s}, {m}." for s in SUBJECTS.replace("\n", "|").split("|") for m in MANNERS.replace("\n", "|").split("|")]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        # a small character map, as the usual one (NFKC) alone has 240 kB
        rules = [(0xFF21 + i, 0x41 + i) for i in range(26)] + [(0xFF41 + i, 0x61 + i) for i in range(26)] + [(0x3000, 0x20)]
        (folder / "rules.tsv").write_text("".join(f"{a:X}\t{b:X}\n" for a, b in rules))
        (folder / "text").write_text("\n".join(lines + [NEGATIVE] * 4))
        for model, pieces, fallback in (MODEL, 400, True), (UNKNOWN, 100, False):
            sentencepiece.SentencePieceTrainer.train(
                input=str(folder / "text"), model_prefix=str(folder / "m"), model_type="unigram", vocab_size=pieces,
                byte_fallback=fallback, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
                normalization_rule_tsv=str(folder / "rules.tsv"), num_threads=1, minloglevel=2)
            model.write_bytes((folder / "m.model").read_bytes())


def transformers_ids(model, prompts):
    from transformers import T5Tokenizer

    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "spiece.model").write_bytes(model.read_bytes())
        tokenizer = T5Tokenizer.from_pretrained(folder, extra_ids=0)
        return [tokenizer(p).input_ids for p in prompts]


def main():
    if "--train" in sys.argv:
        train()
    processor = sentencepiece.SentencePieceProcessor(model_file=str(MODEL))
    ids = [processor.encode(p) + [processor.eos_id()] for p in ENCODE]
    for prompt, ours, theirs in zip(ENCODE, ids, transformers_ids(MODEL, ENCODE)):
        unknown = any(processor.is_byte(i) for i in ours)  # bytes here, <unk> there
        assert unknown or ours == theirs, (prompt, ours, theirs)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(UNKNOWN))
    unknown_ids = [processor.encode(p) + [processor.eos_id()] for p in UNKNOWN_ENCODE]
    golden = {"made_with": {"sentencepiece": sentencepiece.__version__},
              "encode": [{"text": p, "ids": i} for p, i in zip(ENCODE, ids)],
              "encode_unk": [{"text": p, "ids": i} for p, i in zip(UNKNOWN_ENCODE, unknown_ids)],
              "clean": [{"text": p, "cleaned": prompt_clean(p)} for p in CLEAN]}
    rows = ",\n".join(f' "{key}": ' + ("[\n" + ",\n".join("  " + json.dumps(row) for row in value) + "\n ]"
                      if isinstance(value, list) else json.dumps(value)) for key, value in golden.items())
    GOLDEN.write_text("{\n" + rows + "\n}\n")


if __name__ == "__main__":
    main()
