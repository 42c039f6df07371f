"""Is a file a tokenizer that gives a text the same tokens every time.

Only the standard library is imported, so that a run can refuse bad input before anything long starts.
"""

import json
from pathlib import Path

from selfrepair.tokens.corpus_file import CorpusError

END_OF_TEXT = "<|endoftext|>"  # begins every row and separates documents


def check_tokenizer_file(file: Path) -> None:
    """Check a `tokenizer.json`.

    Raises:
        CorpusError: it can't be read, or draws its tokens by chance (BPE dropout, which is not seeded).
    """
    try:
        tokenizer = json.loads(file.read_text())
    except (OSError, RecursionError, ValueError) as error:
        raise CorpusError(f"{file} can't be read as JSON ({error}); restore it") from error
    model = tokenizer.get("model") if isinstance(tokenizer, dict) else None
    if not isinstance(model, dict):
        raise CorpusError(f"{file} holds no tokenizer; restore it")
    if dropout := model.get("dropout"):
        raise CorpusError(f"{file}: with a `dropout` of {dropout} a text gets other tokens each time; set it to null")
