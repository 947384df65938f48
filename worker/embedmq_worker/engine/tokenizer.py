"""How does a model's own tokenizer become ours, so that a text gets the ids that sentence-transformers gives it?"""

from __future__ import annotations

from sentence_transformers.base.model import BaseModel
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from embedmq_worker.engine.tokens import Texts


def open_texts(model: BaseModel, max_tokens: int, vocabulary: int) -> Texts:
    """Take a copy of a model's tokenizer: sentence-transformers changes the state of its own at every call.

    Lower case, where the model wants it, is part of the tokenizer; nothing else is done to a text.

    Raises:
        TypeError: it has none of the tokenizers library.
    """
    whole = model.tokenizer
    tokenizer = getattr(whole, "backend_tokenizer", whole)
    if not isinstance(tokenizer, Tokenizer):
        raise TypeError(f"its tokenizer is a {type(tokenizer).__name__}, not one of the tokenizers library")
    copy = Tokenizer.from_str(tokenizer.to_str())
    left, typed = False, True
    special: list[int] = []
    if isinstance(whole, PreTrainedTokenizerBase):
        copy.encode_special_tokens = bool(getattr(whole, "split_special_tokens", False))
        left, typed = whole.truncation_side == "left", "token_type_ids" in whole.model_input_names
        special = whole.all_special_ids
    pools_prompts = all(module.include_prompt for module in model.modules() if isinstance(module, Pooling))
    return Texts(
        copy,
        max_tokens,
        vocabulary,
        {name: text or "" for name, text in model.prompts.items()},
        default_prompt=model.default_prompt_name,
        unpooled_but=None if pools_prompts else special,
        side="left" if left else "right",
        typed=typed,
    )
