"""The README.md of an exported model: how it is used, and how good and fast it is."""

from __future__ import annotations

from l2s_nmt.evaluation.card import on_one_line
from l2s_nmt.evaluation.translate import Translator
from l2s_nmt.export.check import Check, search_options
from l2s_nmt.export.convert import Quantization, ctranslate2
from l2s_nmt.recipe import Data


def render_readme(
    name: str, data: Data, translator: Translator, quantization: Quantization, split: str, found: Check
) -> str:
    """The page as Markdown.

    Args:
        name: of the run.
        data: its languages.
        translator: the run's.
        quantization: how weights are stored.
        split: on whose sentences both were compared.
        found: how they compared.
    """
    model, eos = translator.model, translator.tokenizer.eos_token
    options = search_options(model.generation_config)
    longest, positions = options["max_decoding_length"], model.config.max_position_embeddings
    shown = ", ".join(f"{option}={value}" for option, value in options.items())
    rows = "\n".join(
        f"| {what} | {side.bleu.score:.2f} | {side.per_second:.1f} ({side.device}) |"
        for what, side in (("the run", found.run), (f"this model ({quantization})", found.exported))
    )
    return f"""# {on_one_line(name)}, for CTranslate2

Translates {on_one_line(data.source_language)} to {on_one_line(data.target_language)}. Made by `l2s-nmt export` with \
CTranslate2 {ctranslate2().__version__}.

```python
import ctranslate2
from transformers import AutoTokenizer

translator = ctranslate2.Translator("FOLDER")  # this one
tokenizer = AutoTokenizer.from_pretrained("FOLDER")
tokens = [tokenizer.tokenize(text) + [tokenizer.eos_token] for text in ["..."]]
for result in translator.translate_batch(tokens, {shown}):
    words = [token for token in result.hypotheses[0] if token not in tokenizer.all_special_tokens]
    print(tokenizer.convert_tokens_to_string(words))
```

- **End of sentence**: every source ends with `{eos}`, which CTranslate2 does not add; translations come without it.
- **Length**: a translation is cut after {longest} tokens, its end included, as the run cuts it. Split sources of more
  than {positions} tokens, for which the model has no positions.
- **Search**: `patience` lets it go on for longer, as the run does; 1 is faster and sometimes worse.
- **Vocabulary**: ids are those of the tokenizer, in its order. Padding keeps its place: the decoder starts with it, and
  never writes it.
- **Empty lines**: leave them out; the run gives an empty line an empty translation.
- **`>>…<<`**: put a space before a text that begins so, or the tokenizer takes it for the code of a language.

{found.sentences:,} sentences of {on_one_line(split)}; {found.same:,} of the translations are equal:

| | BLEU | sentences a second |
|---|---:|---:|
{rows}

`{found.run.bleu.signature}`
"""
